"""The optima that agents are measured against, and the measure itself.

What simulates markets is run by `make learn`, whose yardstick it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.learning.certificates import Certificate, Decision, FloatArray
from benchmarks.learning.elliptical import Elliptical
from benchmarks.learning.known_optima import EXAMS, costly_regimes, crash, kelly, oracle, regimes
from benchmarks.learning.lottery import Lottery, best_of, fastest, log_normal, optimal_weights
from benchmarks.learning.trading_costs import (
    CostlyTrading,
    belief_chain,
    coin_chain,
    regime_chain,
    spread,
    urn_chain,
)
from rllib_portfolio.market.simulators.markov import filtered_beliefs
from rllib_portfolio.market.simulators.simulated import bounded_shocks

COIN = Lottery(((0.2,), (-0.2,)), (0.58, 0.42))


def uniform(certificate: Certificate):
    num_weights = certificate.num_assets + 1
    return lambda observations: np.full((len(observations), num_weights), 1.0 / num_weights)


def test_the_optimum_of_a_coin_is_the_kelly_fraction():
    weights = optimal_weights(COIN)
    assert weights == pytest.approx((0.8, 0.2), abs=1e-5)  # (2 * 0.58 - 1) / 0.2
    # 0.58 log(1.16) + 0.42 log(0.84)
    assert COIN.growth(np.array([0.8, 0.2])) == pytest.approx(0.58 * np.log(1.16) + 0.42 * np.log(0.84), rel=1e-12)
    ladder = np.array([[0.0, 1.0], [0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    assert best_of(COIN, ladder).tolist() == [0.75, 0.25]


def test_quadrature_knows_the_moments_of_log_normal_returns():
    covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    lottery = log_normal((0.02, 0.01), covariance)
    returns, probabilities = np.array(lottery.returns), np.array(lottery.probabilities)
    assert probabilities.sum() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(probabilities @ returns, np.expm1([0.02, 0.01]), rtol=1e-8)
    # all in the first asset: E log(1 + r) = mean - variance / 2
    assert lottery.growth(np.array([1.0, 0.0, 0.0])) == pytest.approx(0.02 - 0.02, abs=1e-12)


@pytest.mark.learning
@pytest.mark.parametrize("name", EXAMS)
def test_the_optimum_closes_the_gap_and_uniform_none_of_it(name):
    certificate = EXAMS[name].certificate()
    optimum, start = certificate.bounds(0, num_envs=8, days=63)
    assert optimum.growth >= start.growth - 1e-12
    if name not in ("noise", "costs"):  # the first has no gap, the second no growth
        best = certificate.optimum(None)
        assert certificate.shares(best, 0, num_envs=8, days=63) == pytest.approx((1.0, 1.0))
        assert certificate.shares(uniform(certificate), 0, num_envs=8, days=63)[1] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.learning
@pytest.mark.parametrize(
    "name",
    [*("merton", "regimes", "hidden-regimes", "mean-reversion"), *("crash-mixed", "fat-tails", "signals", "slow-0.53")],
)
def test_no_other_constant_mix_beats_the_optimum(name):
    certificate = EXAMS[name].certificate()
    best = certificate.bounds(0, num_envs=8, days=126)[0].growth
    num_weights = certificate.num_assets + 1
    for weights in np.random.default_rng(0).dirichlet(np.ones(num_weights), 8):
        other = certificate.walk(lambda observations, w=weights: np.tile(w, (len(observations), 1)), 0, 8, 126)
        assert other.growth < best


@pytest.mark.learning
@pytest.mark.parametrize("name", ["kelly-0.8", "crash", "crash-mixed", "slow-0.54", "fat-tails", "signals"])
def test_expected_growth_is_what_paths_earn_on_average(name):
    certificate = EXAMS[name].certificate()
    walk = certificate.walk(certificate.optimum(None), 0, num_envs=256)
    error = walk.realised.std() / np.sqrt(walk.realised.size)
    assert walk.realised.mean() == pytest.approx(walk.growth, abs=3 * error)


def test_costs_are_part_of_expected_growth():
    free = kelly(0.2, 0.58)
    costly = replace(free, cost_bps=100.0)
    drag = free.walk(uniform(free), 0, 8, 63).growth - costly.walk(uniform(costly), 0, 8, 63).growth
    turnover = free.walk(uniform(free), 0, 8, 63).turnover
    assert drag == pytest.approx(0.01 * turnover, rel=0.01)  # one asset: what is traded is the turnover


def test_the_bounds_of_certificates_are_those_of_the_closed_forms():
    best = 0.58 * np.log(1.16) + 0.42 * np.log(0.84)
    optimum, start = regimes().bounds(0, num_envs=8, days=63)
    assert optimum.growth == pytest.approx(best, rel=1e-6)  # 0.8 in the asset that has the odds, as for one coin
    optimum, start = kelly(0.2, 0.58).bounds(0, num_envs=8, days=63)
    assert optimum.growth == pytest.approx(best, rel=1e-6)
    assert start.growth == pytest.approx(0.58 * np.log(1.1) + 0.42 * np.log(0.9), rel=1e-12)  # one half
    leak = oracle(0.02)
    gains = leak.optimum(None)(np.array([[1.0, 0.5, 0.5], [-1.0, 0.5, 0.5]]))
    np.testing.assert_allclose(gains, [[1.0, 0.0], [0.0, 1.0]], atol=1e-6)


def test_a_rare_crash_caps_what_may_be_held():
    certificate = crash()
    held = np.array([[0.25, 0.75], [0.2, 0.8], [0.6, 0.4], [1.0, 0.0]])
    np.testing.assert_allclose(certificate.optimum(None)(held)[0], [0.25, 0.75], atol=1e-3)
    # at 0.25: 0.996 log(1 + 0.25 * 0.0022963) + 0.004 log(1 - 0.25 * 0.5)
    growth = [certificate.walk(lambda observations, w=w: np.tile(w, (len(observations), 1)), 0, 2, 3) for w in held]
    assert [1e4 * walk.growth for walk in growth] == pytest.approx([0.375, 0.359, -0.554, -4.881], abs=1e-3)


def constant(certificate: Certificate, weights: FloatArray) -> float:
    """Expected growth of weights [N+1] on a day without a signal and without a trade."""
    num_features = certificate.num_assets + 1
    observations = np.concatenate([np.zeros(num_features), weights])[None]
    return float(certificate._growth(weights[None], observations)[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("crash-mixed", [0.25, 0.395, 0.25, 0.0, 0.105]),
        ("fat-tails", [0.294, 0.25, 0.198, 0.137, 0.059, 0.0, 0.0, 0.0, 0.0, 0.0, 0.061]),
    ],
)
def test_the_optimum_is_spread_over_what_deserves_it_and_beats_its_neighbours(name, expected):
    certificate = EXAMS[name].certificate()
    best = certificate.optimum(None)(np.zeros((1, 2 * certificate.num_assets + 2)))[0]
    np.testing.assert_allclose(best, expected, atol=0.006)
    growth, num_weights = constant(certificate, best), len(best)
    assert growth >= 1.5 * constant(certificate, np.full(num_weights, 1.0 / num_weights)) > 0.0
    rng = np.random.default_rng(0)
    for step in (0.01, 0.1, 1.0):
        for other in rng.dirichlet(np.ones(num_weights), 200):
            assert constant(certificate, (1.0 - step) * best + step * other) < growth


@pytest.mark.learning
@pytest.mark.parametrize("name", ["crash", "crash-mixed", "fat-tails"])
def test_what_is_best_on_the_training_days_of_the_median_seed_meets_the_target(name):
    exam = EXAMS[name]
    certificate = exam.certificate()
    best = constant(certificate, certificate.optimum(None)(np.zeros((1, 2 * certificate.num_assets + 2)))[0])
    shares = []
    for seed in range(5):
        market = certificate.market(seed)
        returns = market.returns[slice(*market.windows["train"])]
        learned = fastest(lambda weights, r=returns: float(np.log1p(r @ weights[:-1]).mean()), certificate.num_assets)
        shares.append(constant(certificate, np.array(learned)) / best)
    assert exam.growth_target < np.median(shares) < 1.0


def test_the_optimum_given_signals_holds_those_that_rise_in_equal_parts():
    certificate = EXAMS["signals"].certificate()
    best = certificate.optimum(None)
    rng = np.random.default_rng(0)
    signals = np.where(rng.random((16, 20)) < 0.5, 1.0, -1.0)
    signals[0], signals[1] = -1.0, np.append(1.0, -np.ones(19))
    observations = np.column_stack([signals, np.zeros((16, 21))])
    weights = best(observations)
    rises = signals > 0.0
    expected = np.append(rises / np.maximum(1, rises.sum(axis=1, keepdims=True)), np.zeros((16, 1)), axis=1)
    expected[0, -1] = 1.0  # nothing will rise
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    growths = certificate._growth(weights, observations)
    for step in (0.01, 0.1, 1.0):
        for other in rng.dirichlet(np.ones(21), 50):
            mixed = (1.0 - step) * weights + step * other
            assert (certificate._growth(mixed, observations) < growths).all()


@pytest.mark.learning
@pytest.mark.parametrize("name", ["fat-tails", "signals"])
def test_moments_of_portfolios_are_those_of_the_simulated_market(name):
    certificate = EXAMS[name].certificate()
    num_assets = certificate.num_assets
    for weights in np.random.default_rng(0).dirichlet(np.ones(num_assets + 1), 3):
        realised, expected = [], []
        for seed in range(3):
            market = certificate.market(seed)
            features = market.asset_features[:-1].reshape(market.num_days - 1, -1)
            observations = np.column_stack([features, np.tile(weights, (len(features), 1))])[::20]
            returns, probabilities = certificate.outcomes(np.tile(weights, (len(observations), 1)), observations)
            expected.append([(returns**k * probabilities).sum(axis=1).mean() for k in (1, 2, 4)])
            realised.append([(market.returns[1:][::20] @ weights[:-1]) ** k for k in (1, 2, 4)])
        drawn = np.concatenate(realised, axis=1)
        error = drawn.std(axis=1) / np.sqrt(drawn.shape[1])
        assert (abs(drawn.mean(axis=1) - np.mean(expected, axis=0)) < 4.0 * error).all()


def test_quadrature_over_bounded_shocks_agrees_with_a_finer_one_and_with_draws():
    scale = np.diag([0.05, 0.08, 0.1]) ** 2
    means, weights = np.array([[0.01, 0.0, 0.02]]), np.array([[0.3, 0.3, 0.4, 0.0]])
    coarse = Elliptical.bounded(scale, 3.0, 9.0)
    fine = Elliptical.bounded(scale, 3.0, 9.0, lengths=200, directions=60)
    assert coarse.probabilities.sum() == pytest.approx(1.0, rel=1e-12)
    assert coarse.growth(weights, means) == pytest.approx(fine.growth(weights, means), rel=1e-9)
    shocks = bounded_shocks(np.random.default_rng(0), 200_000, 3, 3.0, 9.0)
    assert np.sqrt((shocks**2).sum(axis=1)).max() == pytest.approx(9.0)
    growths = np.log1p((means + shocks * [0.05, 0.08, 0.1]) @ weights[0, :-1])
    error = growths.std() / np.sqrt(len(growths))
    assert growths.mean() == pytest.approx(coarse.growth(weights, means)[0], abs=4.0 * error)


# ---------------------------------------------------------------- dynamic programming


def test_without_costs_trading_is_the_kelly_fraction_of_each_state():
    chain = coin_chain((0.58, 0.42, 0.55), 0.2)
    best = CostlyTrading(chain, 0.0)
    # (2 * 0.58 - 1) / 0.2, nothing, (2 * 0.55 - 1) / 0.2
    assert best.target(np.eye(3), np.full(3, 0.3)).tolist() == pytest.approx([0.8, 0.0, 0.5])
    growths = [p * np.log1p(0.2 * w) + (1 - p) * np.log1p(-0.2 * w) for p, w in ((0.58, 0.8), (0.42, 0.0), (0.55, 0.5))]
    assert best.growth == pytest.approx(np.mean(growths), rel=1e-6)


def test_costs_above_the_edge_forbid_every_trade():
    best = CostlyTrading(coin_chain((0.55, 0.45), 0.02), 0.005)
    assert best.target(np.eye(2), np.zeros(2)).tolist() == [0.0, 0.0]
    assert best.growth == pytest.approx(0.0, abs=1e-8)


def observed_regime(observations: FloatArray) -> FloatArray:
    return observations[:, :2].astype(np.float64)


def farsighted(best: CostlyTrading, states: Decision) -> Decision:
    """The policy of a learner whose gamma is `best.discount`."""

    def decide(observations: FloatArray) -> FloatArray:
        risky = best.target(states(observations), observations[:, -2].astype(np.float64))
        return np.column_stack([risky, 1.0 - risky])

    return decide


@pytest.mark.parametrize(
    ("odds", "shares"),
    [
        (0.53, {0.0: 0.0, 0.9: 0.0, 0.95: 0.85, 0.99: 1.0}),
        (0.54, {0.0: 0.0, 0.9: 0.66, 0.95: 1.0, 0.99: 1.0}),
    ],
)
def test_slow_regimes_with_costs_reward_who_looks_far_ahead(odds, shares):
    certificate = costly_regimes(odds, 0.98, 100.0)
    chain = regime_chain((odds, 1.0 - odds), 0.98, 0.02)
    reached = {}
    for gamma in shares:
        policy = farsighted(CostlyTrading(chain, 0.01, discount=gamma), observed_regime)
        reached[gamma] = certificate.shares(policy, 0)[0]
    assert reached == pytest.approx(shares, abs=0.006)


@pytest.mark.learning
@pytest.mark.parametrize(
    ("name", "chain", "states"),
    [
        ("hidden-regimes", belief_chain(101, (0.65, 0.35), 0.95, 0.2), lambda seen: spread(seen[:, 0], 101)),
        ("mean-reversion", urn_chain(10, 0.2), lambda seen: spread((seen[:, 0] + 1.0) / 2.0, 21)),
        ("costs", coin_chain((0.55, 0.45), 0.02), observed_regime),
    ],
)
def test_the_other_markets_with_costs_reward_who_looks_no_further_than_a_day(name, chain, states):
    certificate = EXAMS[name].certificate()
    myopic = CostlyTrading(chain, certificate.cost_bps / 1e4, discount=0.0)
    growth, gap = certificate.shares(farsighted(myopic, states), 0)
    assert (gap if name == "costs" else growth) >= 0.999  # where costs are above the edge there is no growth


def test_a_region_without_trading_widens_with_costs():
    def width(cost: float) -> int:
        best = CostlyTrading(urn_chain(10, 0.2), cost)
        held = best.grid
        states = np.tile(np.eye(21)[9], (len(held), 1))  # one loss more than gains: 55 to 45, half would be optimal
        return int((best.target(states, held) == held).sum())

    assert width(0.0) <= 1
    assert width(0.0) < width(0.005) < width(0.02)


@pytest.mark.learning
def test_value_iteration_agrees_with_the_policy_walked():
    chain, cost = urn_chain(4, 0.2), 0.01
    best = CostlyTrading(chain, cost)
    rng = np.random.default_rng(0)
    states, held = np.full(4096, 4), np.zeros(4096)
    growths = []
    for _ in range(400):
        target = best.target(np.eye(9)[states], held)
        gains = rng.random(len(states)) < chain.probabilities[states, 0]
        returns = np.where(gains, 0.2, -0.2)
        expected = chain.probabilities[states] * np.log1p(target[:, None] * chain.returns)
        growths.append((np.log1p(-cost * np.abs(target - held)) + expected.sum(axis=1)).mean())
        held = target * (1.0 + returns) / (1.0 + target * returns)
        states = states + np.where(gains, 1, -1)
    assert np.mean(growths[100:]) == pytest.approx(best.growth, rel=0.01)


def test_beliefs_of_the_chain_are_those_of_the_filter():
    odds, stay = (0.65, 0.35), 0.95
    chain = belief_chain(101, odds, stay, 0.2)
    after = chain.transitions[50] @ np.linspace(0.0, 1.0, 101)  # from one half
    filtered = [filtered_beliefs(np.array([[gain]]), np.array(odds)[:, None], stay)[1, 0] for gain in (True, False)]
    np.testing.assert_allclose(after, filtered, rtol=1e-9)
    np.testing.assert_allclose(chain.transitions.sum(axis=-1), 1.0)
