"""Probabilistic and deflated Sharpe ratio, and the probability of backtest overfitting (PBO).

Compute the deflated Sharpe ratio from the returns that the selection was based on, and count all trials that were ever
run, including pruned and failed ones. Days that were not used for selection need the probabilistic Sharpe ratio.
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
    """A Sharpe ratio and the statistics that its standard error depends on.

    Attributes:
        sharpe_ratio: Annualised Sharpe ratio.
        num_days: Number of days, T.
        skewness: Skewness of the daily excess returns.
        kurtosis: Raw kurtosis of the daily excess returns, 3 for a normal distribution.
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
        """Compute the sample statistics of daily returns.

        Args:
            returns: Daily simple returns, [T].
            cash_returns: Cash return per day, a number or [T].
            periods_per_year: Days per year.
        """
        excess = np.asarray(returns, dtype=np.float64) - cash_returns
        return cls(
            sharpe_ratio=float(metrics.sharpe_ratio(excess, 0.0, periods_per_year)),
            num_days=len(excess),
            skewness=float(metrics.skewness(excess)),
            kurtosis=float(metrics.kurtosis(excess)),
            periods_per_year=periods_per_year,
        )


def probabilistic_sharpe_ratio(sample: SharpeSample, threshold: float = 0.0) -> float:
    """Return 1 minus the one-sided p-value of H0: the true Sharpe ratio is at most `threshold`; NaN if undefined.

    The formula is Phi((SR - SR0) sqrt(T - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)) with SR and SR0 per day; it
    assumes that days are independent. The result is the probability of a lower sample ratio if the true ratio is SR0.
    It is not the probability that the true ratio is above SR0, which would need a prior.

    Args:
        sample: The ratio and the statistics of its standard error.
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
    """Return the ends of the central confidence interval of the annualised Sharpe ratio; NaN if the ratio is undefined.

    The standard error is that of the probabilistic ratio, so the ends are the thresholds whose one-sided p-values, from
    below and from above, are (1 - level) / 2.

    Args:
        sample: The ratio and the statistics of its standard error.
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
    """Return T - 1 times the variance of the estimated daily Sharpe ratio."""
    per_day = sample.sharpe_ratio / math.sqrt(sample.periods_per_year)
    return 1.0 - sample.skewness * per_day + 0.25 * (sample.kurtosis - 1.0) * per_day**2


def expected_best_sharpe_ratio(num_trials: int, trial_variance: float) -> float:
    """Return the expected maximum of `num_trials` independent Sharpe ratios of mean 0; 0 for one trial.

    It is sqrt(V) ((1 - g) Phi^-1(1 - 1/n) + g Phi^-1(1 - 1/(n e))) with the Euler-Mascheroni constant g, in the units
    of sqrt(V). For n correlated trials it is an upper bound, since they count as fewer independent ones.

    Args:
        num_trials: Number of trials, n.
        trial_variance: Variance of the trials' Sharpe ratios, V.

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
    """Return the probabilistic Sharpe ratio with the expected best of `num_trials` trials without skill as threshold.

    It is 1 minus the one-sided p-value of H0: the true ratio is at most this threshold.

    Args:
        sample: Statistics of the selected strategy, on exactly the days that the selection was based on.
        num_trials: Number of all trials, including pruned and failed ones.
        trial_variance: Variance of the trials' annualised Sharpe ratios.

    Raises:
        ConfigError: If there is no trial or the variance is negative.

    Source: Bailey and Lopez de Prado (2014), equation (2). In their example, an annual Sharpe ratio of 2.5 over 1250
        days (250 a year), 100 trials of variance 0.5, skewness -3 and kurtosis 10 give 0.9004.
    """
    return probabilistic_sharpe_ratio(sample, expected_best_sharpe_ratio(num_trials, trial_variance))


@dataclass(frozen=True, slots=True, eq=False)
class BacktestOverfitting:
    """Out-of-sample results of the best in-sample trial, over all C splits of the days into two halves.

    Attributes:
        probability: PBO, the share of splits in which the best in-sample trial is not above the out-of-sample median.
        probability_of_loss: Share of splits in which that trial has an out-of-sample Sharpe ratio below 0.
        logits: log(w / (1 - w)) in each split, where w is that trial's relative out-of-sample rank, [C].
        best_in_sample: That trial's daily in-sample Sharpe ratio in each split, [C].
        same_out_of_sample: That trial's daily out-of-sample Sharpe ratio in each split, [C].
    """

    probability: float
    probability_of_loss: float
    logits: FloatArray
    best_in_sample: FloatArray
    same_out_of_sample: FloatArray


def backtest_overfitting(returns: FloatArray, num_blocks: int = 16) -> BacktestOverfitting:
    """Compute the PBO of a matrix of trials by combinatorially symmetric cross-validation.

    The days are cut into S blocks; each of the C(S, S/2) choices of half of the blocks is in-sample once. In each split
    the trial with the highest in-sample Sharpe ratio has out-of-sample rank r of N (ties share their mean rank) and
    relative rank w = r / (N + 1). The split counts as overfitted if log(w / (1 - w)) <= 0. Days at the start that do
    not fill a block are left out. A trial whose return never changes gets Sharpe ratio 0, so that it can be ranked.

    Args:
        returns: Daily excess returns of N trials, [T, N], N at least 2.
        num_blocks: Number of blocks S, even.

    Raises:
        ConfigError: If there are too few trials or days, S is odd, or a return is NaN.

    Source: Bailey, Borwein, Lopez de Prado and Zhu (2017), "The Probability of Backtest Overfitting", Journal of
        Computational Finance 20(4). The published R package pbo (Barry) uses w = r / N instead, which is 1 for the
        best trial and moves even odds from the median to rank N / 2.
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
    """Return the sums per block of scaled returns and of their squares, each [S, N], and the days of a block.

    The returns of each trial are divided by their standard deviation.
    """
    num_trials, block_days = returns.shape[1], len(returns) // num_blocks
    kept = returns[len(returns) - block_days * num_blocks :]
    deviation = kept.std(axis=0)
    scaled = kept / np.where(deviation > metrics.SMALLEST_DENOMINATOR, deviation, np.inf)
    blocks = scaled.reshape(num_blocks, block_days, num_trials)
    return blocks.sum(axis=1), (blocks**2).sum(axis=1), block_days


def _sharpe_ratios(sums: FloatArray, squares: FloatArray, days: int) -> FloatArray:
    """Return the daily mean / std (ddof 1); 0 for a trial whose return never changes."""
    mean = sums / days
    variance = np.maximum(squares / days - mean**2, 0.0) * days / (days - 1)
    return np.asarray(np.where(variance > 1e-12, mean / np.sqrt(np.maximum(variance, 1e-12)), 0.0))


def _judge_best(in_sample: FloatArray, out_of_sample: FloatArray) -> FloatArray:
    """Return the logit, in-sample and out-of-sample Sharpe ratio of each split's best in-sample trial, [3, C]."""
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
