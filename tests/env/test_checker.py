"""The checker of environments: sound ones pass, and each check finds the mistake that it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env import PortfolioEnv, kernel
from rllib_portfolio.env.action_map import SoftmaxMap, softmax_weights
from rllib_portfolio.env.checker import (
    Counterexample,
    check_env,
    require_costs,
    require_reachable_corners,
    require_repeatable,
)
from rllib_portfolio.market import MarketData

EVERYTHING = {"cost_bps": (5.0, 0.0, 30.0), "impact": 0.1, "max_weight": 0.4, "max_turnover": 0.3, "min_cash": 0.1}


class SoftmaxTwice(SoftmaxMap):
    """The rivals' mistake: weights are taken for logits once more."""

    def target(self, actions: NDArray[Any], held: FloatArray, volatility: FloatArray | None) -> FloatArray:
        return softmax_weights(softmax_weights(actions, self.logit_scale), 1.0)


class OtherReward(PortfolioEnv):
    """A scalar environment whose rewards are not those of the vector environment, in the last digits."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, *rest = super().step(action)
        return observation, reward + 1e-12, *rest


def broken(check: Callable[[PortfolioEnv], str], env: PortfolioEnv) -> str:
    with pytest.raises(Counterexample) as found:
        check(env)
    return str(found.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": "test", **EVERYTHING},
        {"action_mode": "discrete", "action_table": "ladder", "execution_lag": 0, "rebalance_days": 3, **EVERYTHING},
    ],
)
def test_a_sound_environment_passes(tiny_market: MarketData, settings: dict[str, Any]) -> None:
    repeatable, corners, costs = check_env(PortfolioEnv(tiny_market, **{"episode_days": 12, **settings}))
    assert repeatable.startswith("300 steps of 3 seeds twice, the scalar environment against the vector one")
    assert corners.startswith(
        "10 actions give the weights" if "action_mode" in settings else "4 portfolios of one asset or cash; "
    )
    assert costs.startswith("wealth at 11.6667 and 23.3333 bp on average" if settings else "wealth at 10 and 20 bp ")


def test_an_environment_that_is_not_the_vector_one_is_found(tiny_market: MarketData) -> None:
    text = broken(require_repeatable, OtherReward(tiny_market))
    assert text.startswith("reward is ")
    assert " at step 1 (" in text
    assert text.endswith("by vector and scalar environment with seed 0.")


def test_softmax_taken_twice_reaches_no_corner(tiny_market: MarketData) -> None:
    env = PortfolioEnv(tiny_market)
    env.simulation.action_map = SoftmaxTwice(tiny_market.assets, 10.0)
    # e / (e + 3) = 0.475367 for four slots
    assert broken(require_reachable_corners, env) == (
        "the action that asks for A alone holds 0.475367 of it instead of 1, so the portfolio of this asset alone "
        "cannot be reached."
    )


def test_a_scale_that_is_too_small_reaches_no_corner(tiny_market: MarketData) -> None:
    # exp(1) / (exp(1) + 3 exp(-1)) = 0.711235
    text = broken(require_reachable_corners, PortfolioEnv(tiny_market, logit_scale=1.0))
    assert "holds 0.711235 of it instead of 1, so" in text


def test_a_limit_is_told_and_is_no_failure(tiny_market: MarketData) -> None:
    free = require_reachable_corners(PortfolioEnv(tiny_market))
    assert free.startswith("4 portfolios of one asset or cash; their weights are off by at most ")
    assert "max_weight" not in free
    assert require_reachable_corners(PortfolioEnv(tiny_market, max_weight=0.3)).endswith(
        "; max_weight, max_turnover and min_cash allow at most 0.3 of A in one trade out of cash"
    )


def test_a_table_says_which_corners_it_has(tiny_market: MarketData) -> None:
    def corners(**settings: Any) -> str:
        return require_reachable_corners(PortfolioEnv(tiny_market, action_mode="discrete", **settings))

    # 4 bars among 3 walls: C(7, 3) = 35 portfolios, and hold
    expected = "36 actions give the weights of the table; portfolios of one asset or cash: A, B, C, CASH"
    assert corners(action_table="lattice") == expected
    # 0 to 100 % equal weight, inverse volatility, 3 tilts, hold; a tilt is 1/6 + 1/2
    expected = (
        "10 actions give the weights of the table; portfolios of one asset or cash: CASH; at most 0.6667 of any other "
        "(A, B, C)"
    )
    assert corners(action_table="ladder") == expected
    limited = corners(action_table="lattice", max_weight=0.5)
    assert "table, within max_weight, max_turnover and min_cash; portfolios of one asset or cash: CASH; at m" in limited


def test_an_action_that_does_not_hold_what_it_says_is_found(
    tiny_market: MarketData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rllib_portfolio.env.transition.constrained_weights", lambda target, *_: np.roll(target, 1, -1))
    text = broken(require_reachable_corners, PortfolioEnv(tiny_market, action_mode="discrete", action_table="ladder"))
    assert text.startswith("action ")
    assert " instead of [" in text


def test_a_kernel_that_charges_half_is_found(tiny_market: MarketData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernel.trading_cost
    monkeypatch.setattr(kernel, "trading_cost", lambda *arguments: 0.5 * whole(*arguments))
    text = broken(require_costs, PortfolioEnv(tiny_market))
    assert text.startswith("wealth at twice the cost is 0.99")
    assert "after the decision at 2001-01-05; the trades cost 0.99" in text


def test_a_reward_without_costs_is_found(tiny_market: MarketData) -> None:
    text = broken(require_costs, PortfolioEnv(tiny_market, reward="tests.audit.user_code:gross"))
    assert text.startswith("the reward tests.audit.user_code:gross is ")
    assert text.endswith("costs are not deducted from it.")
