from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.rewards import (
    BUILT_IN,
    PRIOR_DAILY_ACTIVE_VOLATILITY,
    PRIOR_DAILY_VOLATILITY,
    StepOutcome,
    build_reward,
)
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests import oracles
from tests.env.markets import market_of
from tests.env.rollouts import sampled_actions, walk


def rewards_of(
    returns: FloatArray, equal_weight: FloatArray | None = None, cash: FloatArray | None = None, **config: Any
) -> FloatArray:
    """The rewards of B portfolios with simple step returns [steps, B], from wealth 1: [steps, B].

    1/N earns `equal_weight` [steps], or nothing, and cash `cash` [steps], or nothing.
    """
    reward = build_reward(EnvironmentConfig(**config))
    num_portfolios = returns.shape[1]
    state, wealth = np.tile(reward.initial_state, (num_portfolios, 1)), np.ones(num_portfolios)
    rewards, zeros = [], np.zeros(num_portfolios)
    for step, step_return in enumerate(returns):
        wealth = wealth * (1.0 + step_return)
        weights = np.zeros((num_portfolios, 2))
        assets = np.stack([zeros + (0.0 if one is None else one[step]) for one in (equal_weight, cash)], axis=-1)
        members = np.ones((len(zeros), 1), dtype=bool)
        outcome = StepOutcome(weights, weights, zeros, wealth, 1.0 + step_return, zeros + 1.0, 1.0 + assets, members)
        state, value = reward(state, outcome)
        rewards.append(value)
    return np.array(rewards)


def first_reward(**config: Any) -> float:
    """The reward for half of wealth in an asset that gains 10 % on the day, bought at 100 bp; cash earns 2 %.

    Cost 0.5 * 0.01 = 0.005; gross growth 0.5 * 1.1 + 0.5 * 1.02 = 1.06; wealth 0.995 * 1.06 = 1.0547.
    """
    market = market_of([[0.0], [0.1], [0.0]], cash_returns=0.02)
    settings = {"cost_bps": 100.0, "execution_lag": 0, **config}
    env = PortfolioEnv(market, "all", action_mode="discrete", **settings)
    env.reset()
    return env.step(env.action_names.index("50% A + 50% cash"))[1]


# ---------------------------------------------------------------- by hand, through the environment


def test_log_return_is_the_log_growth_of_wealth_after_costs() -> None:
    assert first_reward(reward="log_return") == pytest.approx(log(1.0547), rel=1e-13)


def test_excess_log_return_is_measured_against_the_uniform_portfolio_with_cash_and_free_of_cost() -> None:
    # The uniform portfolio of A and cash holds the same halves, so that only the cost is left.
    assert first_reward() == pytest.approx(log(0.995), rel=1e-12)
    assert first_reward(cost_bps=0.0) == pytest.approx(0.0, abs=1e-15)


def test_the_uniform_portfolio_counts_cash_as_one_asset_more() -> None:
    # A gains 12 %, B loses 3 %, cash earns 3 %: uniform growth (1.12 + 0.97 + 1.03) / 3 = 1.04. All cash: 1.03.
    market = market_of([[0.0, 0.0], [0.12, -0.03]], cash_returns=0.03)
    env = PortfolioEnv(market, "all", action_mode="discrete", execution_lag=0)
    env.reset()
    reward = env.step(env.action_names.index("100% cash"))[1]
    assert reward == pytest.approx(log(1.03) - log(1.04), rel=1e-12)


def test_mean_variance_by_hand() -> None:
    # R = 0.0547, kappa 4: 0.0547 - 2 * 0.0547^2 = 0.0547 - 0.00598418.
    assert first_reward(reward="mean_variance", risk_aversion=4.0) == pytest.approx(0.04871582, rel=1e-12)
    assert first_reward(reward="mean_variance", risk_aversion=0.0) == pytest.approx(0.0547, rel=1e-12)


def test_active_log_return_is_measured_against_the_risky_assets_alone() -> None:
    # 1/N of the one asset gains 10 %.
    assert first_reward(reward="active_log_return") == pytest.approx(log(1.0547 / 1.1), rel=1e-12)


def test_the_bar_is_equal_weights_that_are_held_until_the_next_decision() -> None:
    # Two days of A +50 %, +50 % and B 0 %: equal weights that are held make (2.25 + 1) / 2 = 1.625; rebalanced each
    # day it would be 1.25^2 = 1.5625. All of wealth in A grows by 2.25.
    market = market_of([[0.0, 0.0], [0.5, 0.0], [0.5, 0.0]])
    settings = {"action_mode": "discrete", "execution_lag": 0, "rebalance_days": 2, "cost_bps": 0.0}
    env = PortfolioEnv(market, "all", reward="active_log_return", **settings)
    env.reset()
    reward = env.step(env.action_names.index("100% A"))[1]
    assert reward == pytest.approx(log(2.25 / 1.625), rel=1e-12)


def test_active_mean_variance_by_hand() -> None:
    # The active return is 0.0547 - 0.1 = -0.0453; with kappa 4 less 2 * 0.0453^2 = 0.00410418.
    reward = first_reward(reward="active_mean_variance", risk_aversion=4.0)
    assert reward == pytest.approx(-0.04940418, rel=1e-12)


def test_differential_information_by_hand() -> None:
    # A fresh state has A = 0 and B = 0.002^2: D = -0.0453 / 0.002 = -22.65.
    assert first_reward(reward="differential_information") == pytest.approx(-22.65, rel=1e-12)


def test_differential_sharpe_by_hand() -> None:
    # In excess of cash R = 0.0547 - 0.02 = 0.0347. A fresh state has A = 0 and B = 0.01^2, so that
    # D = B R / B^1.5 = R / 0.01 = 3.47.
    assert first_reward(reward="differential_sharpe") == pytest.approx(3.47, rel=1e-12)


@pytest.mark.parametrize("reward", BUILT_IN)
def test_costs_are_inside_every_reward(reward: str) -> None:
    # At 1500 bp and more the day ends below its start (1.06 * 0.925 < 1), where the drawdown is felt too.
    falling = [first_reward(reward=reward, cost_bps=cost_bps) for cost_bps in (0.0, 10.0, 100.0, 1500.0, 3000.0)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == 5


# ---------------------------------------------------------------- over several steps


def test_drawdown_penalised_pays_for_each_increase_of_the_drawdown_and_for_no_recovery() -> None:
    # Wealth 1.1, 0.99, 0.88, 1.21, 1.21: drawdown 0, 0.1, 0.2, 0, 0: increases 0, 0.1, 0.1, 0, 0.
    wealth = np.array([1.0, 1.1, 0.99, 0.88, 1.21, 1.21])
    returns = (wealth[1:] / wealth[:-1] - 1.0)[:, None]
    rewards = rewards_of(returns, reward="drawdown_penalised", drawdown_penalty=2.0)[:, 0]
    expected = np.log(wealth[1:] / wealth[:-1]) - 2.0 * np.array([0.0, 0.1, 0.1, 0.0, 0.0])
    assert rewards == pytest.approx(expected, abs=1e-14)


def test_a_drawdown_is_measured_from_the_starting_wealth_too() -> None:
    # 1 -> 0.9 -> 0.95 -> 0.8: increases 0.1, none, and 0.2 - 0.05 = 0.15.
    wealth = np.array([1.0, 0.9, 0.95, 0.8])
    returns = (wealth[1:] / wealth[:-1] - 1.0)[:, None]
    rewards = rewards_of(returns, reward="drawdown_penalised")[:, 0]
    assert rewards == pytest.approx(np.log(wealth[1:] / wealth[:-1]) - [0.1, 0.0, 0.15], abs=1e-14)


@pytest.mark.parametrize("decay", [1 / 252, 0.05])
def test_differential_sharpe_is_the_derivative_of_the_sharpe_ratio_of_the_decayed_moments(decay: float) -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.02, 200)
    rewards = rewards_of(returns[:, None], reward="differential_sharpe", sharpe_decay=decay)[:, 0]
    expected = list(oracles.differential_sharpe(returns, decay, PRIOR_DAILY_VOLATILITY**2))
    assert rewards == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_differential_information_is_the_differential_sharpe_ratio_of_the_active_return() -> None:
    rng = np.random.default_rng(0)
    bar = rng.normal(0.0005, 0.01, 200)
    returns = bar + rng.normal(0.0002, 0.002, 200)
    rewards = rewards_of(returns[:, None], bar, reward="differential_information", sharpe_decay=0.05)[:, 0]
    expected = list(oracles.differential_sharpe(returns - bar, 0.05, PRIOR_DAILY_ACTIVE_VOLATILITY**2))
    assert rewards == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("decay", [1 / 252, 0.05])
def test_the_differential_sharpe_ratio_of_a_return_over_cash_does_not_depend_on_what_cash_earns(decay: float) -> None:
    rng = np.random.default_rng(2)
    over_cash, cash = rng.normal(0.001, 0.02, 200), np.linspace(0.0, 0.002, 200)
    rewards = rewards_of((over_cash + cash)[:, None], cash=cash, reward="differential_sharpe", sharpe_decay=decay)
    at_a_rate_of_zero = rewards_of(over_cash[:, None], reward="differential_sharpe", sharpe_decay=decay)
    np.testing.assert_allclose(rewards, at_a_rate_of_zero, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("decay", [1 / 252, 0.05])
@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_all_cash_has_a_differential_sharpe_ratio_of_zero(decay: float, rebalance_days: int) -> None:
    # Each day cash earns 0.1 %, A 0.1 % more than it in the mean and B 0.05 % less. Of raw returns all cash had the
    # highest ratio of the three, since it never varies, and that of B was above zero.
    days = np.arange(1, 253)
    up_and_down = 0.01 * np.where(days % 2, 1.0, -1.0)
    returns = np.vstack([np.zeros((1, 2)), np.stack([0.002 + up_and_down, 0.0005 + up_and_down], axis=1)])
    settings = {"sharpe_decay": decay, "rebalance_days": rebalance_days, "execution_lag": 0, "cost_bps": 0.0}
    env = PortfolioEnv(
        market_of(returns, cash_returns=0.001),
        "all",
        reward="differential_sharpe",
        action_mode="discrete",
        **settings,
    )
    total = {}
    for name in ("100% cash", "100% A", "100% B"):
        action = env.action_names.index(name)
        env.reset()
        total[name] = sum(env.step(action)[1] for _ in range(len(days) // rebalance_days))
    assert total["100% cash"] == pytest.approx(0.0, abs=1e-9)
    assert total["100% A"] > 0.5
    assert total["100% B"] < -0.25


@pytest.mark.parametrize("daily_return", [0.0, 0.01])
def test_a_portfolio_that_never_varies_keeps_the_differential_sharpe_finite(daily_return: float) -> None:
    # B - A^2 halves every day, down to 0 / 0 at last: all cash at a rate of 0 does that. The bound must hold.
    rewards = rewards_of(np.full((2000, 1), daily_return), reward="differential_sharpe", sharpe_decay=0.5)
    assert np.isfinite(rewards).all()
    assert rewards[-1] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("reward", BUILT_IN)
def test_portfolios_of_a_batch_do_not_see_each_other(reward: str) -> None:
    returns = np.random.default_rng(1).normal(0.0, 0.03, (50, 4))
    together = rewards_of(returns, reward=reward)
    for b in range(4):
        np.testing.assert_array_equal(together[:, [b]], rewards_of(returns[:, [b]], reward=reward))


@pytest.mark.parametrize("reward", BUILT_IN)
def test_a_new_episode_starts_with_a_fresh_reward_state(tiny_market: MarketData, reward: str) -> None:
    env = PortfolioEnv(tiny_market, reward=reward, episode_days=8, random_start=False)
    actions = sampled_actions(env.action_space, 8)
    first, second = walk(env, actions), walk(env, actions)
    assert [step.reward for step in first] == [step.reward for step in second]


# ---------------------------------------------------------------- several days to a decision


def three_day_market() -> MarketData:
    # A's days: 1.1, 0.8, 1.25, which make 1.1; then 1.5.
    return market_of([[0.0], [0.1], [-0.2], [0.25], [0.5]])


def test_a_step_of_three_days_by_hand() -> None:
    # Half of wealth in A at 100 bp: cost 0.005, paid once. A's half drifts untouched: 0.5 * 1.1 + 0.5 = 1.05.
    # Wealth 0.995 * 1.05 = 1.04475. The uniform portfolio rebalances daily: 1.05 * 0.9 * 1.125 = 1.063125.
    env = PortfolioEnv(
        three_day_market(), "all", action_mode="discrete", execution_lag=0, rebalance_days=3, cost_bps=100.0
    )
    env.reset()
    _, reward, _, truncated, info = env.step(env.action_names.index("50% A + 50% cash"))
    assert reward == pytest.approx(log(1.04475) - log(1.063125), rel=1e-12)
    assert info["wealth"] == pytest.approx(1.04475, rel=1e-14)
    assert info["portfolio_return"] == pytest.approx(0.04475, rel=1e-12)
    assert info["cost"] == pytest.approx(0.005, rel=1e-14)
    assert info["turnover"] == 0.5
    assert info["asset_returns"] == pytest.approx([0.1, 0.0], abs=1e-15)
    assert info["drifted_weights"] == pytest.approx([0.55 / 1.05, 0.5 / 1.05], rel=1e-14)
    assert info["date"] == env.simulation.market.dates[3]
    assert not truncated


def test_the_last_step_of_an_episode_earns_only_the_days_that_are_left() -> None:
    # Four days: a step of three, then one day on which A gains 50 %: hold earns 1 + 0.5 * 0.55 / 1.05.
    env = PortfolioEnv(
        three_day_market(),
        "all",
        action_mode="discrete",
        execution_lag=0,
        rebalance_days=3,
        cost_bps=0.0,
        reward="log_return",
    )
    env.reset()
    env.step(env.action_names.index("50% A + 50% cash"))
    _, reward, _, truncated, info = env.step(env.action_names.index("hold"))
    assert reward == pytest.approx(log(1.0 + 0.5 * 0.55 / 1.05), rel=1e-13)
    assert info["asset_returns"] == pytest.approx([0.5, 0.0], abs=1e-15)
    assert info["date"] == env.simulation.market.dates[4]
    assert truncated


def test_stateful_rewards_see_one_return_per_decision() -> None:
    # The three days make 1.05 of wealth. A fresh state expects three times the variance of a day, 3 * 0.01^2, so that
    # D = R / (0.01 sqrt(3)) = 5 / sqrt(3). The drawdown on the way is not seen.
    settings = {"action_mode": "discrete", "execution_lag": 0, "rebalance_days": 3, "cost_bps": 0.0}
    for reward, expected in (("differential_sharpe", 5.0 / sqrt(3.0)), ("drawdown_penalised", log(1.05))):
        env = PortfolioEnv(three_day_market(), "all", reward=reward, **settings)
        env.reset()
        assert env.step(env.action_names.index("50% A + 50% cash"))[1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rebalance_days", [1, 5, 21])
@pytest.mark.parametrize(
    ("reward", "daily_deviation"), [("differential_sharpe", 0.01), ("differential_information", 0.002)]
)
def test_a_fresh_ratio_expects_the_variance_of_all_days_of_a_step(
    reward: str, daily_deviation: float, rebalance_days: int
) -> None:
    # A return of one deviation of a step, sigma sqrt(days), has D = R / (sigma sqrt(days)) = 1 in the fresh state.
    step_return = np.array([[daily_deviation * sqrt(rebalance_days)]])
    rewards = rewards_of(step_return, reward=reward, rebalance_days=rebalance_days)
    assert rewards[0, 0] == pytest.approx(1.0, rel=1e-12)


# ---------------------------------------------------------------- the user's own


def test_a_users_own_function_is_given_the_whole_outcome() -> None:
    # cost 0.005 + 10 * turnover 0.5 + 100 * wealth 1.0547 + 1000 * weight of A 0.5.
    expected = 0.005 + 5.0 + 105.47 + 500.0
    assert first_reward(reward="tests.env.user_rewards:everything") == pytest.approx(expected, rel=1e-13)


def test_a_users_own_function_is_told_what_cash_earned_over_the_step() -> None:
    # On one day 2 %, so that 1.0547 / 1.02 is left. Cash compounds over two days, 1.02^2, and over the last one alone.
    over_cash = "tests.env.user_rewards:over_cash"
    assert first_reward(reward=over_cash) == pytest.approx(log(1.0547 / 1.02), rel=1e-12)
    market = market_of([[0.0], [0.1], [0.1], [0.1]], cash_returns=0.02)
    env = PortfolioEnv(
        market, "all", action_mode="discrete", execution_lag=0, rebalance_days=2, cost_bps=0.0, reward=over_cash
    )
    env.reset()
    action = env.action_names.index("100% A")
    rewards = [env.step(action)[1] for _ in range(2)]
    assert rewards == pytest.approx([2.0 * log(1.1 / 1.02), log(1.1 / 1.02)], rel=1e-12)


KNOWN = (
    r"reward must be one of log_return, excess_log_return, active_log_return, differential_sharpe, "
    r"differential_information, drawdown_penalised, mean_variance, active_mean_variance, or module:function, got "
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sharpe", r"'sharpe'\. Correct the name\."),
        (
            "no_such_module:f",
            r"'no_such_module:f' \(No module named 'no_such_module'\)\. Put the module on the Python path",
        ),
        ("tests.env.user_rewards:f", r"'tests\.env\.user_rewards:f' \(.* has no attribute 'f'\)\. Put the module"),
        ("tests.env.user_rewards:NOT_A_FUNCTION", r"'.*:NOT_A_FUNCTION', which is a int\. Name a function\."),
    ],
)
def test_an_unknown_reward_is_refused_with_the_names_there_are(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{KNOWN}{text}"):
        build_reward(EnvironmentConfig(reward=name))
