"""Partial trading: exact weights at given rates, from the weights that are known at the decision."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.action_map import ActionInputs, SoftmaxMap
from rllib_portfolio.env.checker import check_env
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests.env.markets import market_of

RETURNS = [[0.25, -0.5], [-0.5, 0.75], [1.0, 0.25], [0.0, 0.5]]
"""Of two assets after each decision; cash earns nothing."""
ACTION_OF = {Fraction(0): -1.0, Fraction(1, 2): 0.0, Fraction(1): 1.0}
"""Actions of the rate. At logit_scale 100 the sigmoid of -100 and of 100 is 0 and 1 in double precision."""
THIRD = Fraction(1, 3)
RATES = [Fraction(1, 2), Fraction(0), Fraction(1), Fraction(1, 2)]


def partial_env(**settings: Any) -> PortfolioEnv:
    given = {"window": "all", "random_start": False, "episode_days": None, "logit_scale": 100.0, "cost_bps": 100.0}
    market = replace(market_of([[0.0, 0.0], [0.0, 0.0], *RETURNS]), windows={"all": (2, 6)})
    return PortfolioEnv(market, partial_trading=True, **{**given, **settings})


def expected_weights(lag: int) -> list[list[Fraction]]:
    """The weights after each trade of part of the way to a third of each, worked out in fractions."""
    cash_alone = [Fraction(0), Fraction(0), Fraction(1)]
    drifted, held, result = cash_alone, cash_alone, []
    for rate, returns in zip(RATES, RETURNS, strict=True):
        known = held if lag else drifted
        held = [own + rate * (THIRD - own) for own in known]
        grown = [own * (1 + Fraction(earned)) for own, earned in zip(held, [*returns, 0.0], strict=True)]
        drifted = [part / sum(grown) for part in grown]
        result.append(held)
    return result


@pytest.mark.parametrize("lag", [0, 1])
def test_a_rate_of_0_a_half_and_1_trades_to_the_weights_worked_out_by_hand(lag: int) -> None:
    env, expected = partial_env(execution_lag=lag), expected_weights(lag)
    env.reset()
    before = np.array([0.0, 0.0, 1.0])
    for rate, weights in zip(RATES, expected, strict=True):
        *_, info = env.step(np.array([0.0, 0.0, 0.0, ACTION_OF[rate]], dtype=np.float32))
        exact = np.array([float(weight) for weight in weights])
        np.testing.assert_allclose(info["weights"], exact, rtol=0.0, atol=1e-15)
        moved = np.abs(exact - before)
        assert info["turnover"] == pytest.approx(0.5 * moved.sum(), abs=1e-15)
        assert info["cost"] == pytest.approx(0.01 * moved[:-1].sum(), abs=1e-15)
        before = info["drifted_weights"]


def test_without_a_lag_a_rate_of_0_trades_nothing_and_with_one_it_undoes_the_drift_that_is_not_known_yet() -> None:
    for lag in (0, 1):
        env = partial_env(execution_lag=lag)
        env.reset()
        *_, first = env.step(np.array([1.0, 0.5, 0.0, 1.0], dtype=np.float32))
        *_, info = env.step(np.array([-1.0, -0.5, 0.0, -1.0], dtype=np.float32))
        np.testing.assert_array_equal(info["weights"], first["weights" if lag else "drifted_weights"])
        assert (info["turnover"] == 0.0) == (lag == 0)


def test_an_action_has_one_more_component_which_is_named() -> None:
    env = partial_env()
    assert env.action_names == ("A", "B", "CASH", "trading rate")
    assert env.action_space.shape == (4,)


@pytest.mark.parametrize("logit_scale", [1.0, 10.0, 100.0])
def test_weights_are_a_portfolio_between_the_known_weights_and_the_softmax(logit_scale: float) -> None:
    rng = np.random.default_rng(0)
    actions, known = rng.uniform(-1.0, 1.0, (500, 6)), rng.dirichlet(np.ones(5), 500)
    partial, whole = (SoftmaxMap(tuple("ABCD"), logit_scale, is_partial) for is_partial in (True, False))
    target = whole.target(actions[:, :-1], known, ActionInputs())
    weights = partial.target(actions, target, ActionInputs(known=known))
    rate = 1.0 / (1.0 + np.exp(-logit_scale * actions[:, -1:]))
    np.testing.assert_allclose(weights, (1.0 - rate) * known + rate * target, rtol=0.0, atol=1e-15)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=0.0, atol=1e-14)
    assert weights.min() >= 0.0


def test_what_is_missing_or_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^known must be given for partial trading, got none\. "):
        SoftmaxMap(("A",), 10.0, True).target(np.zeros((1, 3)), np.ones((1, 2)), ActionInputs())
    with pytest.raises(
        ConfigError, match=r"environment\.partial_trading must be false with discrete actions, got true"
    ):
        partial_env(action_mode="discrete")


@pytest.mark.parametrize("settings", [{}, {"execution_lag": 0, "rebalance_days": 3, "max_turnover": 0.3}])
def test_an_environment_with_partial_trading_passes_the_checks(
    tiny_market: MarketData, settings: dict[str, Any]
) -> None:
    env = PortfolioEnv(tiny_market, **{"episode_days": 12, "partial_trading": True, **settings})
    _, corners, _ = check_env(env)
    assert corners.startswith("4 portfolios of one asset or cash; ")
