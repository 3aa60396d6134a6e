"""Each rule against a weight vector worked by hand, or found by an independent solver."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.cluster import hierarchy
from scipy.optimize import linprog, minimize
from scipy.spatial.distance import squareform

from rllib_portfolio.backtest.baselines import merton_weights
from rllib_portfolio.backtest.classical import (
    SHRINKAGE,
    equal_weight,
    hierarchical_risk_parity,
    inverse_volatility,
    maximum_sharpe,
    mean_cvar,
    merton,
    minimum_variance,
    momentum,
    risk_parity,
)
from rllib_portfolio.backtest.refitting import History
from rllib_portfolio.errors import ConfigError

RULES = {
    "equal weight": equal_weight,
    "inverse volatility": inverse_volatility,
    "minimum variance": minimum_variance,
    "maximum Sharpe": maximum_sharpe,
    "mean-CVaR": mean_cvar,
    "risk parity": risk_parity,
    "hierarchical risk parity": hierarchical_risk_parity,
    "momentum": partial(momentum, num_winners=1),
    "Merton": merton,
}
SOLVED = 2e-5
"""Tolerance of a weight where an optimum is flat: the solver's own tolerance is on the objective."""


def history_of(mean: ArrayLike, covariance: ArrayLike, cash: float = 0.0, days: int = 120, seed: int = 0) -> History:
    """Days whose sample mean and covariance (ddof 1) are these to rounding."""
    mean, covariance = np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float)
    noise = np.random.default_rng(seed).standard_normal((days, len(mean)))
    noise -= noise.mean(0)
    white = np.linalg.solve(np.linalg.cholesky(np.atleast_2d(np.cov(noise, rowvar=False))), noise.T)
    return History((np.linalg.cholesky(covariance) @ white).T + mean, np.full(days, cash))


def random_history(seed: int, assets: int = 6, days: int = 300) -> History:
    """Correlated assets, some of which earn less than cash."""
    rng = np.random.default_rng(seed)
    loadings = rng.uniform(0.2, 1.5, assets)
    returns = 0.008 * rng.standard_t(5, (days, 1)) * loadings + 0.01 * rng.standard_t(5, (days, assets))
    return History(returns + rng.uniform(-2e-4, 1.2e-3, assets), np.full(days, 1e-4))


TWO = [[4e-4, 1e-4], [1e-4, 1e-4]]  # volatility 2 % and 1 %, covariance 1e-4
TWO_PAIRS = np.array([[1.0, 0.0, 0.8, 0.0], [0.0, 2.0, 0.0, 1.0], [0.8, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 2.0]])


def test_made_days_have_the_moments_that_were_asked_for() -> None:
    history = history_of([1e-3, 5e-4], TWO, cash=1e-4)
    assert history.mean_excess == pytest.approx([9e-4, 4e-4], rel=1e-9)
    assert history.covariance == pytest.approx(np.array(TWO), rel=1e-9)


def test_equal_weight_splits_its_share() -> None:
    assert equal_weight(random_history(0, assets=3), share=0.6) == pytest.approx([0.2, 0.2, 0.2, 0.4], abs=1e-15)


def test_inverse_volatility_by_hand() -> None:
    # 1 / 2 % to 1 / 1 % is 1 to 2
    assert inverse_volatility(history_of([0.0, 0.0], TWO)) == pytest.approx([1 / 3, 2 / 3, 0.0], rel=1e-9)


def test_minimum_variance_of_two_assets_is_the_closed_form() -> None:
    # w_1 = (s2^2 - s12) / (s1^2 + s2^2 - 2 s12) = (2 - 0.5) / (4 + 2 - 1) = 0.3, in units of 1e-4
    history = history_of([0.01, -0.01], [[4e-4, 0.5e-4], [0.5e-4, 2e-4]])
    assert minimum_variance(history) == pytest.approx([0.3, 0.7, 0.0], abs=1e-6)


def test_minimum_variance_sells_nothing_short() -> None:
    # w_1 = (1 - 1.5) / (4 + 1 - 3) = -0.25 without the bound
    history = history_of([0.01, 0.0], [[4e-4, 1.5e-4], [1.5e-4, 1e-4]])
    assert minimum_variance(history) == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_maximum_sharpe_of_two_assets_is_the_tangency_portfolio() -> None:
    # mu - r = (10, 5) 1e-4; Sigma^-1 is proportional to (1, -1; -1, 4): (10 - 5, -10 + 20) = (5, 10)
    history = history_of([1.2e-3, 7e-4], TWO, cash=2e-4)
    assert maximum_sharpe(history) == pytest.approx([1 / 3, 2 / 3, 0.0], abs=1e-6)


def test_maximum_sharpe_takes_the_excess_over_cash() -> None:
    # r = 6e-4: mu - r = (6, 1) 1e-4: (6 - 1, -6 + 4) = (5, -2): nothing of B without short sales
    history = history_of([1.2e-3, 7e-4], TWO, cash=6e-4)
    assert maximum_sharpe(history) == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.7])
def test_risk_parity_of_two_assets_is_inverse_volatility(correlation: float) -> None:
    # w_1 (w_1 s1^2 + w_2 s12) = w_2 (w_2 s2^2 + w_1 s12) is w_1 s1 = w_2 s2, whatever the correlation: 1 to 3
    covariance = np.array([[9.0, 3.0 * correlation], [3.0 * correlation, 1.0]]) * 1e-4
    assert risk_parity(history_of([0.0, 0.0], covariance)) == pytest.approx([0.25, 0.75, 0.0], abs=SOLVED)


def test_risk_parity_of_uncorrelated_assets_is_inverse_volatility() -> None:
    # volatilities 1, 2, 4 and 5 %: 1 to 1/2 to 1/4 to 1/5 is 20 to 10 to 5 to 4, of 39
    history = history_of(np.zeros(4), np.diag([1.0, 4.0, 16.0, 25.0]) * 1e-4)
    expected = np.array([20.0, 10.0, 5.0, 4.0, 0.0]) / 39.0
    assert risk_parity(history) == pytest.approx(expected, abs=SOLVED)
    assert inverse_volatility(history) == pytest.approx(expected, abs=1e-9)


def test_hierarchical_risk_parity_of_two_assets_is_inverse_variance() -> None:
    # 1 - 4 / (4 + 1) = 0.2 of the first
    assert hierarchical_risk_parity(history_of([0.0, 0.0], TWO)) == pytest.approx([0.2, 0.8, 0.0], rel=1e-9)


def test_hierarchical_risk_parity_of_two_pairs_by_hand() -> None:
    # A with C (correlation 0.8), B with D (0.5), the pairs uncorrelated; variances 1, 2, 1, 2 e-4. Order: pair, pair.
    # Within a pair inverse variance gives halves, of variance 1 (1 + 0.8) / 2 = 0.9 and 2 (1 + 0.5) / 2 = 1.5.
    # First pair 1 - 0.9 / (0.9 + 1.5) = 0.625, second 0.375; each is split in halves.
    weights = hierarchical_risk_parity(history_of(np.zeros(4), 1e-4 * TWO_PAIRS))
    assert weights == pytest.approx([0.3125, 0.1875, 0.3125, 0.1875, 0.0], rel=1e-9)


def test_mean_cvar_by_hand() -> None:
    # 20 days: the worst 5 % is the worst day. A loses 4 % on one day, B 2 % on another, each 0 on the other's; their
    # means are equal, so the best ratio has the least worst day: 4 w = 2 (1 - w), w = 1/3.
    returns = np.zeros((20, 2))
    returns[0, 0], returns[1, 1] = -0.04, -0.02
    returns[2:] = [0.06 / 18, 0.04 / 18]
    assert mean_cvar(History(returns, np.zeros(20))) == pytest.approx([1 / 3, 2 / 3, 0.0], abs=1e-6)


def test_momentum_takes_the_winners_of_the_days_before_the_last_ones() -> None:
    # growth without the last 2 days: A 1.1 * 0.9 = 0.99, B 1.0, C 1.05, D 1.02; with them A and B would win
    returns = np.array([[0.1, 0.0, 0.05, 0.0], [-0.1, 0.0, 0.0, 0.02], [0.5, 0.4, 0.0, 0.0], [0.5, 0.4, 0.0, 0.0]])
    history = History(returns, np.zeros(4))
    assert list(momentum(history, num_winners=2, skip_days=2)) == [0.0, 0.0, 0.5, 0.5, 0.0]
    assert list(momentum(history, num_winners=2, skip_days=0)) == [0.5, 0.5, 0.0, 0.0, 0.0]
    assert list(momentum(history, num_winners=3, skip_days=2)) == pytest.approx([0.0, 1 / 3, 1 / 3, 1 / 3, 0.0])


def test_momentum_gives_ties_to_the_first() -> None:
    assert list(momentum(History(np.zeros((30, 3)), np.zeros(30)), num_winners=2)) == [0.5, 0.5, 0.0, 0.0]


def test_merton_keeps_in_cash_what_its_risk_aversion_asks() -> None:
    # Sigma^-1 (mu - r) = (5, 10) 1e-8 / 3e-8 (det 3e-8) = (5/3, 10/3); gamma 10: 1/6 and 1/3, half in cash
    history = history_of([1.2e-3, 7e-4], TWO, cash=2e-4)
    assert merton(history, risk_aversion=10.0) == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_minimum_variance_is_what_scipy_finds(seed: int) -> None:
    history = random_history(seed)
    covariance = 1e4 * history.covariance
    expected = _on_simplex(lambda w: w @ covariance @ w, history.num_assets)
    assert minimum_variance(history)[:-1] == pytest.approx(expected, abs=SOLVED)


@pytest.mark.parametrize("seed", range(4))
def test_maximum_sharpe_is_what_scipy_finds(seed: int) -> None:
    history = random_history(seed)
    mean, covariance = history.mean_excess, history.covariance
    expected = _on_simplex(lambda w: -(mean @ w) / np.sqrt(w @ covariance @ w), history.num_assets)
    assert maximum_sharpe(history)[:-1] == pytest.approx(expected, abs=SOLVED)


@pytest.mark.parametrize("seed", range(4))
def test_risk_parity_is_what_scipy_finds(seed: int) -> None:
    # the minimum of x' Sigma x / 2 - sum log x_i has x_i (Sigma x)_i = 1 for all i; scaled to sum 1 it is risk parity
    history = random_history(seed)
    covariance = 1e4 * history.covariance
    found = minimize(
        lambda x: 0.5 * x @ covariance @ x - np.log(x).sum(),
        x0=np.ones(history.num_assets),
        jac=lambda x: covariance @ x - 1.0 / x,
        bounds=[(1e-6, None)] * history.num_assets,
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    weights = risk_parity(history)[:-1]
    assert weights == pytest.approx(found.x / found.x.sum(), abs=SOLVED)
    contributions = weights * (covariance @ weights)
    assert contributions == pytest.approx(np.full(6, contributions.mean()), rel=5e-4)


@pytest.mark.parametrize("seed", range(4))
def test_mean_cvar_is_what_a_linear_programme_finds(seed: int) -> None:
    history = random_history(seed, days=200)
    assert mean_cvar(history)[:-1] == pytest.approx(_least_cvar(history), abs=SOLVED)


@pytest.mark.parametrize("seed", range(4))
def test_merton_is_what_scipy_finds(seed: int) -> None:
    history = random_history(seed)
    mean, covariance = 252 * history.mean_excess, 252 * history.covariance
    padded = np.zeros((7, 7))
    padded[:6, :6] = covariance
    expected = _on_simplex(lambda w: 2.0 * w @ padded @ w - mean @ w[:-1], 7)
    assert merton(history, risk_aversion=4.0) == pytest.approx(expected, abs=SOLVED)
    np.testing.assert_array_equal(merton(history, 4.0), merton_weights(mean, covariance, 4.0))


@pytest.mark.parametrize("seed", range(4))
def test_hierarchical_risk_parity_is_what_an_own_bisection_finds(seed: int) -> None:
    history = random_history(seed)
    covariance = history.covariance
    distance = squareform(np.sqrt(np.maximum(0.0, (1.0 - np.corrcoef(history.returns.T)) / 2.0)), checks=False)
    tree = hierarchy.optimal_leaf_ordering(hierarchy.linkage(distance, "ward"), distance)
    expected = np.zeros(6)

    def split(order: list[int], share: float) -> None:
        if len(order) == 1:
            expected[order[0]] = share
            return
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        variances = [_inverse_variance_risk(covariance, half) for half in halves]
        for half, other in zip(halves, variances[::-1], strict=True):
            split(half, share * other / sum(variances))

    split(list(hierarchy.leaves_list(tree)), 1.0)
    assert hierarchical_risk_parity(history)[:-1] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_weights_are_a_portfolio(name: str) -> None:
    weights = RULES[name](random_history(1))
    assert weights.shape == (7,)
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"hierarchical risk parity"}))
def test_weights_follow_a_permutation_of_the_assets(name: str) -> None:
    history, order = random_history(2), np.array([3, 0, 5, 1, 4, 2])
    permuted = RULES[name](History(history.returns[:, order], history.cash_returns))
    assert permuted[:-1] == pytest.approx(RULES[name](history)[order], abs=SOLVED)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_hierarchical_risk_parity_follows_a_permutation_of_two_pairs(order: tuple[int, ...]) -> None:
    # in general it does not: mirror images of a tree are halved elsewhere; two pairs are halved between them in each.
    # Volatilities of 1, 2, 3 and 4 times that of the hand-worked case make four different weights.
    pairs = history_of(np.zeros(4), 1e-4 * TWO_PAIRS)
    history = History(pairs.returns * [1.0, 2.0, 3.0, 4.0], pairs.cash_returns)
    weights = hierarchical_risk_parity(history)[:-1]
    assert np.diff(np.sort(weights)).min() > 0.01
    permuted = hierarchical_risk_parity(History(history.returns[:, order], history.cash_returns))
    assert permuted[:-1] == pytest.approx(weights[list(order)], abs=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_one_asset_is_held_whole(name: str) -> None:
    history = history_of([2e-3], [[1e-4]])
    assert RULES[name](history) == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("name", ["maximum Sharpe", "mean-CVaR"])
def test_where_nothing_earns_more_than_cash_there_is_no_tangency(name: str) -> None:
    with pytest.raises(ConfigError, match=r"weights must be an optimum, got \w+: .*\(MeanRisk, 120 days of 2 assets\)"):
        RULES[name](history_of([1e-4, -1e-4], TWO, cash=2e-4))


@pytest.mark.parametrize("name", ["minimum variance", "risk parity", "hierarchical risk parity", "mean-CVaR"])
def test_days_that_are_no_numbers_have_no_weights(name: str) -> None:
    history = random_history(0)
    history.returns[5] = np.nan
    with pytest.raises(ConfigError, match="weights must be an optimum, got"):
        RULES[name](history)


# ---------------------------------------------------------------- singular covariances

OPTIMISED = {
    # of two assets without correlation, volatility 2 % and 1 %, mean excess 4 and 2 per 10,000; alone, and what each of
    # them gets beside itself and its double, [x, y, 2x, 2y]
    "minimum variance": ([0.2, 0.8], [0.2, 0.8, 0.0, 0.0]),  # 1 / variance; doubling only adds risk
    "maximum Sharpe": ([1 / 3, 2 / 3], None),  # mean / variance: 1 to 2
    "mean-CVaR": (None, None),
    # 1 / volatility. Contributions w_i s_i a, a = w_x + 2 w_2x: w_x = 2 w_2x, and both exposures weigh the same risk
    "risk parity": ([1 / 3, 2 / 3], [2 / 9, 4 / 9, 1 / 9, 2 / 9]),
    # 1 / variance between the pairs, and within them: 4 to 1
    "hierarchical risk parity": ([0.2, 0.8], [0.16, 0.64, 0.04, 0.16]),
}


def pair(days: int = 120) -> History:
    return history_of([4e-4, 2e-4], np.diag([4e-4, 1e-4]), days=days)


def beside(history: History, *others: np.ndarray) -> History:
    return History(np.column_stack([history.returns, *others]), history.cash_returns)


def alone(name: str, history: History) -> np.ndarray:
    weights = RULES[name](history)[:-1]
    if OPTIMISED[name][0] is not None:
        assert weights == pytest.approx(OPTIMISED[name][0], abs=SOLVED)
    return weights


@pytest.mark.parametrize("name", OPTIMISED)
def test_copies_of_assets_share_what_one_of_them_gets(name: str) -> None:
    history = pair()
    weights = RULES[name](beside(history, history.returns))
    assert weights[:2] + weights[2:4] == pytest.approx(alone(name, history), abs=SOLVED)
    assert weights[:2] == pytest.approx(weights[2:4], abs=1e-3)


@pytest.mark.parametrize("name", OPTIMISED)
def test_multiples_of_assets_add_to_their_exposure(name: str) -> None:
    history = pair()
    weights = RULES[name](beside(history, 2.0 * history.returns))[:-1]
    if OPTIMISED[name][1] is not None:
        assert weights == pytest.approx(OPTIMISED[name][1], abs=5 * SOLVED)
    else:  # a ratio does not see how much of the best mix is held
        exposure = weights[:2] + 2.0 * weights[2:]
        assert exposure / exposure.sum() == pytest.approx(alone(name, history), abs=5 * SOLVED)


@pytest.mark.parametrize("name", [name for name in OPTIMISED if name != "mean-CVaR"])
def test_more_copies_than_days(name: str) -> None:
    # two uncorrelated assets over four days, and three copies of each of them
    days = np.array([[2.0, 1.0], [-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0]]) / 100 + [4e-4, 2e-4]
    history = History(days, np.zeros(4))
    weights = RULES[name](beside(history, *[days] * 3))[:-1].reshape(4, 2)
    assert weights.sum(0) == pytest.approx(alone(name, history), abs=5 * SOLVED)


@pytest.mark.parametrize("name", ["minimum variance", "maximum Sharpe", "risk parity"])
def test_more_assets_than_days_have_the_optimum_of_the_shrunk_covariance(name: str) -> None:
    history = random_history(3, assets=12, days=10)
    assert np.linalg.matrix_rank(history.covariance) == 9
    sample, mean = 1e4 * history.covariance, history.mean_excess
    shrunk = (1.0 - SHRINKAGE) * sample + SHRINKAGE * np.trace(sample) / 12 * np.eye(12)
    weights = RULES[name](history)[:-1]
    if name == "risk parity":
        contributions = weights * (shrunk @ weights)
        assert contributions == pytest.approx(np.full(12, contributions.mean()), rel=5e-3)
        return
    objective = (
        (lambda w: w @ shrunk @ w)
        if name == "minimum variance"
        else (lambda w: -(mean @ w) / np.sqrt(w @ shrunk @ w) / 10.0)
    )
    assert weights == pytest.approx(_on_simplex(objective, 12), abs=2e-3)


@pytest.mark.parametrize("seed", [1, 3])
def test_mean_cvar_of_more_assets_than_days_is_what_a_linear_programme_finds(seed: int) -> None:
    history = random_history(seed, assets=40, days=30)
    assert mean_cvar(history)[:-1] == pytest.approx(_least_cvar(history), abs=SOLVED)


@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("growth", [0.0, 1e-4])
def test_a_price_that_stands_still_is_left_out(name: str, growth: float) -> None:
    # nor has one any risk that grows by the same each day
    history = pair()
    weights = RULES[name](beside(history, np.full(120, growth)))
    assert weights == pytest.approx([*alone(name, history), 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("name", OPTIMISED)
def test_a_deposit_is_left_out_though_it_earns_more_than_cash_and_the_assets(name: str) -> None:
    # 30 % a year, as prices of seven digits have it; cash earns 0, the assets 4 and 2 per 10,000 a day
    accrual = np.array([float(f"{100.0 * 1.3 ** (day / 252):.7g}") for day in range(121)])
    deposit = accrual[1:] / accrual[:-1] - 1.0
    assert deposit.mean() > 1e-3
    assert 0.0 < deposit.std() < 5e-7
    history = pair()
    weights = RULES[name](beside(history, deposit))
    assert weights == pytest.approx([*alone(name, history), 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("growth", [0.0, 1e-4])
def test_where_no_return_varies_there_is_nothing_to_optimise(name: str, growth: float) -> None:
    with pytest.raises(ConfigError, match="returns must vary, got 5 days on which each asset earned the same"):
        RULES[name](History(np.full((5, 3), growth), np.zeros(5)))


def test_the_optimum_of_three_assets_and_a_copy() -> None:
    # by SLSQP, of the three: 0.4584, 0.2026, 0.3390
    rng = np.random.default_rng(7)
    spread = 1e-4 * np.array([[1, 0.3, 0.2], [0.3, 2, 0.1], [0.2, 0.1, 1.5]])
    three = History(rng.multivariate_normal([6e-4, 4e-4, 5e-4], spread, 756), np.full(756, 1e-5))
    assert minimum_variance(three)[:3] == pytest.approx([0.4584, 0.2026, 0.3390], abs=5e-5)
    weights = minimum_variance(beside(three, three.returns[:, 0]))
    assert [weights[0] + weights[3], *weights[1:3]] == pytest.approx([0.4584, 0.2026, 0.3390], abs=5e-5)


def _least_cvar(history: History) -> np.ndarray:
    """The mix of highest mean over CVaR, by a linear programme."""
    # scaled so that (mu - r)' y = 1, the best ratio is the least CVaR: minimise a + sum u / (0.05 D) over y, a, u with
    # u_d >= -r_d' y - a, u >= 0, y >= 0. Cash lies in the ratio's mean alone, as in the rule.
    days, assets = history.returns.shape
    cost = np.concatenate([np.zeros(assets), [1.0], np.full(days, 1.0 / (0.05 * days))])
    tail = np.hstack([-history.returns, -np.ones((days, 1)), -np.eye(days)])
    equal = np.concatenate([1e3 * history.mean_excess, np.zeros(1 + days)])[None]
    bounds = [(0, None)] * assets + [(None, None)] + [(0, None)] * days
    found = linprog(cost, A_ub=tail, b_ub=np.zeros(days), A_eq=equal, b_eq=[1.0], bounds=bounds)
    return np.asarray(found.x[:assets] / found.x[:assets].sum())


def _on_simplex(objective: Any, size: int) -> np.ndarray:
    """The best of several runs of SLSQP over w >= 0, sum w = 1."""
    starts = [np.full(size, 1.0 / size), *(0.5 / size + 0.5 * np.eye(size))]
    runs = [
        minimize(
            objective,
            start,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * size,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        for start in starts
    ]
    return np.asarray(min(runs, key=lambda run: run.fun).x)


def _inverse_variance_risk(covariance: np.ndarray, assets: list[int]) -> float:
    part = covariance[np.ix_(assets, assets)]
    weights = 1.0 / np.diag(part)
    weights /= weights.sum()
    return float(weights @ part @ weights)
