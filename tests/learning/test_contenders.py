"""Everyone learns in the same environment, is judged by the same certificate, and learns the same again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.learning.certification import CANDIDATES, Candidate, learn
from benchmarks.learning.contenders import _targets, action_table, configuration
from benchmarks.learning.known_optima import EXAMS

STEPS = 4096

pytestmark = [pytest.mark.learning, pytest.mark.usefixtures("ray_session")]


@pytest.mark.parametrize("name", ["ppo-sb3", "ppo-rllib", "dqn", "dqn-sb3", "dqn-rllib"])
def test_a_contender_leaves_a_curve_and_a_report(name: str) -> None:
    run = learn(CANDIDATES[name], "mean-reversion", 0, STEPS)
    steps = [point["steps"] for point in run["curve"]]
    assert steps == sorted(set(steps))
    assert STEPS <= steps[-1] < STEPS + 2048  # whole batches
    assert all(math.isfinite(value) for value in run["final"].values())
    assert run["final"]["growth"] < 1.0
    assert run["final"]["shortfall_bp"] > 0.0


@pytest.mark.parametrize("architecture", ["flat", "per_asset"])
def test_a_signal_of_each_asset_reaches_both_networks(architecture: str) -> None:
    candidate = Candidate("", "ppo", changes={"network": {"architecture": architecture}})
    assert math.isfinite(learn(candidate, "signals", 0, STEPS)["final"]["growth"])


@pytest.mark.parametrize("exam", EXAMS)
def test_a_table_whose_weights_follow_the_volatility_is_for_equally_volatile_assets(exam: str) -> None:
    certificate = EXAMS[exam].certificate()
    market = certificate.market(0)
    table = action_table(configuration(certificate, "dqn", 0, STEPS), market)
    assert table is not None
    if table.inverse_volatility is not None:
        volatility = market.returns[1:].std(axis=0)
        assert volatility == pytest.approx(np.full(market.num_assets, volatility.mean()), rel=0.02)
        actions = np.array([table.inverse_volatility])
        held = np.eye(market.num_assets + 1)[-1:]
        assert _targets(table, actions, held) == pytest.approx(table.weights[actions])


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    once, again, other = (learn(CANDIDATES["ppo"], "kelly-0.8", seed, STEPS) for seed in (0, 0, 1))
    assert _figures(once) == _figures(again)
    assert _figures(once) != _figures(other)


def _figures(run: dict[str, Any]) -> list[Any]:
    """All but the time that it took."""
    return [{name: value for name, value in point.items() if name != "cpu_s"} for point in run["curve"]] + [
        run["final"]
    ]
