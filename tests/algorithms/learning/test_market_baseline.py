"""A baseline that takes the market's part out of rewards and leaves the mean of the policy gradient as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rllib_portfolio.algorithms.learning.market_baseline import mean_of_others, without_market_noise

CHUNK = 20


def market(num_steps: int = 500) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Log growth of two portfolios, advantages that 0.7 and -0.2 of them explain but for a small rest, and lengths."""
    rng = np.random.default_rng(0)
    growth = rng.normal(0.001, 0.02, (num_steps, 2))
    rest = rng.normal(0.0, 0.001, num_steps)
    return growth, growth @ np.array([0.7, -0.2]) + rest, [CHUNK] * (num_steps // CHUNK)


Baseline = Callable[[np.ndarray, np.ndarray, list[int]], np.ndarray]


def fitted_to_itself(rewards: np.ndarray, factors: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Rewards less their ordinary least-squares fit, which is what must not be done."""
    design = np.column_stack([np.ones(len(rewards)), factors])
    coefficients, *_ = np.linalg.lstsq(design, rewards, rcond=1e-10)
    return rewards - design @ coefficients


def gradients(
    crash: float, num_batches: int, baseline: Baseline | None, chunk: int = 32, num_chunks: int = 64
) -> tuple[np.ndarray, float]:
    """Estimates of the gradient of E log(1 + w x) in the mean of a Gaussian logit, and its exact value.

    The asset loses half with probability `crash` and has its Kelly optimum at 0.25, where the policy stands.
    """
    rng = np.random.default_rng(1)
    deviation, down, center = 0.5, 0.5, np.log(0.25 / 0.75)
    up = crash / ((1.0 - crash) / down - 0.25)

    def weight(logit: np.ndarray | float) -> np.ndarray:
        return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logit))))

    nodes, shares = np.polynomial.hermite_e.hermegauss(41)
    growth = (1.0 - crash) * np.log1p(weight(center + deviation * nodes) * up)
    growth += crash * np.log1p(-weight(center + deviation * nodes) * down)
    exact = float((shares / shares.sum() * nodes / deviation * growth).sum())

    lengths, size = [chunk] * num_chunks, chunk * num_chunks
    estimates = np.empty(num_batches)
    for batch in range(num_batches):
        returns = np.where(rng.random(size) < crash, -down, up)
        noise = rng.standard_normal(size)
        rewards = np.log1p(weight(center + deviation * noise) * returns)
        if baseline is not None:
            factors = np.column_stack([np.log1p(weight(center) * returns), np.log1p(returns)])
            rewards = baseline(rewards, factors, lengths)
        estimates[batch] = (noise / deviation * rewards).mean()
    return estimates, exact


@pytest.mark.slow
@pytest.mark.parametrize("crash", [0.004, 0.001])
def test_the_gradient_keeps_its_mean_where_losses_are_rare(crash: float) -> None:
    def errors_off(baseline: Baseline) -> float:
        estimates, exact = gradients(crash, 4000, baseline)
        return float(abs(estimates.mean() - exact) / (estimates.std() / np.sqrt(len(estimates))))

    assert errors_off(without_market_noise) < 4.0
    assert errors_off(fitted_to_itself) > 10.0


def test_the_gradient_loses_noise() -> None:
    (with_baseline, _), (without, _) = gradients(0.02, 500, without_market_noise), gradients(0.02, 500, None)
    assert with_baseline.std() < 0.75 * without.std()


def test_the_baseline_of_an_episode_does_not_know_its_rewards() -> None:
    growth, rewards, lengths = market()
    own = slice(3 * CHUNK, 4 * CHUNK)
    others = rewards.copy()
    others[own] = 1e3
    before, after = (values - without_market_noise(values, growth, lengths) for values in (rewards, others))
    np.testing.assert_allclose(after[own], before[own], atol=1e-3)
    assert np.abs(np.delete(after - before, np.r_[own])).max() > 1.0


def test_what_the_market_explains_is_taken_out() -> None:
    growth, advantages, lengths = market()
    left = without_market_noise(advantages, growth, lengths)
    assert left.std() == pytest.approx(0.001, rel=0.1)
    assert left.dtype == np.float32


@pytest.mark.parametrize("factor", [0.0, 1.0, 1.0 + 1e-9])
def test_portfolios_that_move_together_are_one(factor: float) -> None:
    growth, advantages, lengths = market()
    one = without_market_noise(advantages, growth[:, :1], lengths)
    two = without_market_noise(advantages, np.stack([growth[:, 0], factor * growth[:, 0]], axis=1), lengths)
    np.testing.assert_allclose(two, one, atol=1e-6)


def test_a_difference_that_is_seen_on_large_moves_alone_is_not_extrapolated() -> None:
    # Two portfolios apart by their curvature alone: a slope of their difference that fits noise would be huge.
    rng = np.random.default_rng(0)
    moves = 0.01 * rng.standard_t(3, 2048).clip(-60, 60)
    nearly_equal = np.column_stack([np.log1p(moves), np.log1p(moves * 100 / 101)])
    rewards = 1e-3 * rng.standard_normal(2048) * moves / 0.01
    left = without_market_noise(rewards, nearly_equal, [32] * 64)
    assert left.std() < 1.05 * rewards.std()


@pytest.mark.parametrize("num_others", [1, 4, 19, 20, 40])
def test_few_other_steps_do_not_add_noise(num_others: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        growth = rng.normal(0.001, 0.02, (300, 2))
        values = growth @ np.array([0.7, -0.2]) + rng.normal(0.0, 0.001, 300)
        left = without_market_noise(values, growth, [300 - num_others, num_others])
        assert left.std() <= values.std() * 1.0001


def test_means_are_of_the_others() -> None:
    values = np.array([[1.0], [3.0], [5.0], [8.0]])
    assert mean_of_others(values, [2, 1, 1]).tolist() == [[6.5], [6.5], [4.0], [3.0]]
    assert mean_of_others(values[:2], [2]).tolist() == [[2.0], [2.0]]


def test_several_learners_fit_to_the_chunks_of_all() -> None:
    growth, advantages, lengths = market()
    whole = without_market_noise(advantages, growth, lengths)
    parts = [(slice(0, 10 * CHUNK), lengths[:10]), (slice(10 * CHUNK, None), lengths[10:])]
    sums: list[np.ndarray] = []
    for steps, own in parts:
        without_market_noise(advantages[steps], growth[steps], own, lambda array: sums.append(array) or array)
    for steps, own in parts:
        residuals = without_market_noise(advantages[steps], growth[steps], own, lambda array: sums[0] + sums[1])
        np.testing.assert_allclose(residuals, whole[steps], atol=1e-7)
