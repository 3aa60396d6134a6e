"""What is left of a Sharpe ratio that is the best of many trials.

The series of a deflated ratio is the one that was selected on, and the trials are all that were ever run: pruned and
failed ones too. Days that nothing was selected on have nothing to deflate: their figure is the probabilistic ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from scipy.special import ndtr, ndtri

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics

SPLITS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class SharpeSample:
    """A Sharpe ratio and what its precision hangs on.

    Attributes:
        sharpe_ratio: Annualised.
        num_days: T.
        skewness: Of the daily excess returns.
        kurtosis: Raw: 3 for a normal distribution.
        periods_per_year: Days per year.
    """

    sharpe_ratio: float
    num_days: int
    skewness: float = 0.0
    kurtosis: float = 3.0
    periods_per_year: float = metrics.PERIODS_PER_YEAR

    @classmethod
    def of(
        cls,
        returns: FloatArray,
        cash_returns: FloatArray | float = 0.0,
        periods_per_year: float = metrics.PERIODS_PER_YEAR,
    ) -> Self:
        """Of daily returns [T]."""
        excess = np.asarray(returns, dtype=np.float64) - cash_returns
        return cls(
            sharpe_ratio=float(metrics.sharpe_ratio(excess, 0.0, periods_per_year)),
            num_days=len(excess),
            skewness=float(metrics.skewness(excess)),
            kurtosis=float(metrics.kurtosis(excess)),
            periods_per_year=periods_per_year,
        )


def probabilistic_sharpe_ratio(sample: SharpeSample, threshold: float = 0.0) -> float:
    """One less the one-sided p-value of a true Sharpe ratio of at most `threshold`; NaN if the ratio is undefined.

    Phi((SR - SR0) sqrt(T - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)), SR and SR0 per day. Days are taken for
    independent. It is the chance of a lower ratio in the sample where the true one is SR0, and not the probability that
    the true one is above SR0, which nothing tells without a prior.

    Args:
        sample: The ratio, and what its precision hangs on.
        threshold: SR0, annualised.

    Source: Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), section 3.
    """
    per_day = sample.sharpe_ratio / math.sqrt(sample.periods_per_year)
    hurdle = threshold / math.sqrt(sample.periods_per_year)
    variance = _variance(sample)
    if not variance > 0.0:  # moments that no distribution has, or NaN
        return float("nan")
    return float(ndtr((per_day - hurdle) * math.sqrt(sample.num_days - 1) / math.sqrt(variance)))


def sharpe_ratio_interval(sample: SharpeSample, level: float = 0.95) -> tuple[float, float]:
    """Central confidence interval of the annualised Sharpe ratio, by the standard error of the probabilistic ratio.

    Its ends are the thresholds whose one-sided p-values are (1 - level) / 2, from below and from above; they are NaN if
    the ratio is undefined.

    Args:
        sample: The ratio, and what its precision hangs on.
        level: Coverage, in (0, 1).

    Source: Bailey and Lopez de Prado (2012), section 3.
    """
    variance = _variance(sample)
    if not variance > 0.0:
        return float("nan"), float("nan")
    error = math.sqrt(sample.periods_per_year * variance / (sample.num_days - 1))
    reach = float(ndtri(0.5 * (1.0 + level))) * error
    return sample.sharpe_ratio - reach, sample.sharpe_ratio + reach


def _variance(sample: SharpeSample) -> float:
    """Variance of the estimated ratio per day, times T - 1."""
    per_day = sample.sharpe_ratio / math.sqrt(sample.periods_per_year)
    return 1.0 - sample.skewness * per_day + 0.25 * (sample.kurtosis - 1.0) * per_day**2


def expected_best_sharpe_ratio(num_trials: int, trial_variance: float) -> float:
    """Expected highest of `num_trials` independent Sharpe ratios of mean 0, in the units of sqrt(trial_variance).

    sqrt(V) ((1 - g) Phi^-1(1 - 1/n) + g Phi^-1(1 - 1/(n e))), g the Euler-Mascheroni constant; 0 for one trial. Trials
    that resemble each other count for fewer: with n of them it is an upper bound.

    Raises:
        ConfigError: If there is no trial or the variance is negative.

    Source: Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest
        Overfitting, and Non-Normality", Journal of Portfolio Management 40(5), equation (1).
    """
    if num_trials < 1:
        raise ConfigError(f"num_trials must be at least 1, got {num_trials} (deflated Sharpe ratio). Count them all.")
    if not trial_variance >= 0.0:
        raise ConfigError(
            f"trial_variance must be at least 0, got {trial_variance} (deflated Sharpe ratio). Take the variance of "
            "the trials' Sharpe ratios."
        )
    if num_trials == 1:
        return 0.0
    quantiles = ndtri(1.0 - 1.0 / num_trials), ndtri(1.0 - 1.0 / (num_trials * math.e))
    return float(math.sqrt(trial_variance) * ((1.0 - np.euler_gamma) * quantiles[0] + np.euler_gamma * quantiles[1]))


def deflated_sharpe_ratio(sample: SharpeSample, num_trials: int, trial_variance: float) -> float:
    """Probabilistic Sharpe ratio against what the best of `num_trials` worthless trials is expected to show.

    It is one less the one-sided p-value of a true ratio of at most that much.

    Args:
        sample: The selected strategy, on the series that it was selected on and on no other.
        num_trials: All trials, pruned and failed ones included.
        trial_variance: Of the annualised Sharpe ratios of the trials.

    Raises:
        ConfigError: As in `expected_best_sharpe_ratio`.

    Source: Bailey and Lopez de Prado (2014), equation (2). Their example: an annual Sharpe ratio of 2.5 over 1250 days
        (250 a year), 100 trials of variance 0.5, skewness -3, kurtosis 10, gives 0.9004.
    """
    return probabilistic_sharpe_ratio(sample, expected_best_sharpe_ratio(num_trials, trial_variance))


@dataclass(frozen=True, slots=True, eq=False)
class BacktestOverfitting:
    """What selecting the best trial on one half of the days is worth on the other.

    Attributes:
        probability: PBO: share of splits where the best in-sample trial is not above the median out of sample.
        probability_of_loss: Share of splits where its out-of-sample Sharpe ratio is below 0.
        logits: log(w / (1 - w)) per split, w its relative out-of-sample rank, [C].
        best_in_sample: Its Sharpe ratio per day in each split, [C].
        same_out_of_sample: That of the same trial on the other half, [C].
    """

    probability: float
    probability_of_loss: float
    logits: FloatArray
    best_in_sample: FloatArray
    same_out_of_sample: FloatArray


def backtest_overfitting(returns: FloatArray, num_blocks: int = 16) -> BacktestOverfitting:
    """PBO by combinatorially symmetric cross-validation over a trial matrix.

    The days are cut into S blocks; each of the C(S, S/2) halves of them is in-sample once. The trial with the highest
    Sharpe ratio there has rank r of N out of sample (equal ones share their mean rank), w = r / (N + 1), and counts as
    overfitted where log(w / (1 - w)) <= 0. Days that do not fill a block are left out at the start. A trial that never
    moves has Sharpe ratio 0 here, so that it can be ranked.

    Args:
        returns: Daily excess returns of N trials, [T, N], N at least 2.
        num_blocks: S, even.

    Raises:
        ConfigError: If there are too few trials or days, S is odd, or a return is NaN.

    Source: Bailey, Borwein, Lopez de Prado and Zhu (2017), "The Probability of Backtest Overfitting", Journal of
        Computational Finance 20(4). The published R package pbo (Barry) takes w = r / N instead, which is 1 for the
        best trial and moves even odds from the median to N / 2.
    """
    returns = _require_trials(returns, num_blocks)
    sums, squares, block_days = _block_moments(returns, num_blocks)
    halves = np.array(list(combinations(range(num_blocks), num_blocks // 2)))
    is_inside = np.zeros((len(halves), num_blocks))
    np.put_along_axis(is_inside, halves, 1.0, axis=1)
    days = block_days * num_blocks // 2
    parts = []
    for start in range(0, len(halves), SPLITS_AT_ONCE):
        inside = is_inside[start : start + SPLITS_AT_ONCE]
        in_sample, out_of_sample = (
            _sharpe_ratios(side @ sums, side @ squares, days) for side in (inside, 1.0 - inside)
        )
        parts.append(_judge_best(in_sample, out_of_sample))
    logits, best, same = np.concatenate(parts, axis=1)
    return BacktestOverfitting(float((logits <= 0.0).mean()), float((same < 0.0).mean()), logits, best, same)


def _block_moments(returns: FloatArray, num_blocks: int) -> tuple[FloatArray, FloatArray, int]:
    """Sums of returns and of their squares per block, each [S, N], in units of each trial's deviation."""
    num_trials, block_days = returns.shape[1], len(returns) // num_blocks
    kept = returns[len(returns) - block_days * num_blocks :]
    deviation = kept.std(axis=0)
    scaled = kept / np.where(deviation > metrics.SMALLEST_DENOMINATOR, deviation, np.inf)
    blocks = scaled.reshape(num_blocks, block_days, num_trials)
    return blocks.sum(axis=1), (blocks**2).sum(axis=1), block_days


def _sharpe_ratios(sums: FloatArray, squares: FloatArray, days: int) -> FloatArray:
    """Mean / std (ddof 1) per day; 0 for a trial that never moves."""
    mean = sums / days
    variance = np.maximum(squares / days - mean**2, 0.0) * days / (days - 1)
    return np.asarray(np.where(variance > 1e-12, mean / np.sqrt(np.maximum(variance, 1e-12)), 0.0))


def _judge_best(in_sample: FloatArray, out_of_sample: FloatArray) -> FloatArray:
    """Logit, in-sample and out-of-sample Sharpe ratio of each split's best trial, [3, C]."""
    best = in_sample.argmax(axis=1)[:, None]
    chosen = np.take_along_axis(out_of_sample, best, axis=1)
    rank = (out_of_sample < chosen).sum(axis=1) + 0.5 * ((out_of_sample == chosen).sum(axis=1) + 1)
    share = rank / (in_sample.shape[1] + 1)
    return np.stack([np.log(share / (1.0 - share)), np.take_along_axis(in_sample, best, axis=1)[:, 0], chosen[:, 0]])


def _require_trials(returns: FloatArray, num_blocks: int) -> FloatArray:
    returns = np.asarray(returns, dtype=np.float64)
    if num_blocks < 2 or num_blocks % 2:
        raise ConfigError(
            f"num_blocks must be even and at least 2, got {num_blocks} (backtest overfitting). Half of the blocks "
            "are in-sample."
        )
    if returns.ndim != 2 or returns.shape[1] < 2 or len(returns) < 2 * num_blocks:
        raise ConfigError(
            f"returns must be at least {2 * num_blocks} days of at least 2 trials, got shape {returns.shape} (backtest "
            "overfitting). Lower num_blocks or add trials."
        )
    if np.isnan(returns).any():
        trial = int(np.isnan(returns).any(axis=0).argmax())
        raise ConfigError(f"returns must be numbers, got a NaN in trial {trial} (backtest overfitting). Leave it out.")
    return returns
