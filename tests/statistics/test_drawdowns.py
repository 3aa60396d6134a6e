from __future__ import annotations

import numpy as np
import pytest

from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.drawdowns import worst_drawdown
from tests.statistics import oracles


def _days(num: int) -> np.ndarray:
    return np.busday_offset("2020-01-01", np.arange(num), roll="forward").astype("datetime64[D]")


def test_a_drawdown_that_is_not_over() -> None:
    # wealth 1, 1.1, 0.88, 0.924, 0.9702: from the close of day 0 to that of day 1, not back by day 3
    period = worst_drawdown(np.array([0.10, -0.20, 0.05, 0.05]), _days(4))
    assert period.depth == pytest.approx(0.2, rel=1e-12)
    assert (period.peak, period.trough) == (_days(4)[0], _days(4)[1])
    assert np.isnat(period.recovery)
    assert (period.fall_days, period.recovery_days, period.length_days) == (1, None, 3)


def test_a_drawdown_from_the_starting_value_that_is_over() -> None:
    # wealth 1, 0.9, 0.72, 0.9, 1.08: the peak is the start, the trough day 1, back on day 3
    period = worst_drawdown(np.array([-0.1, -0.2, 0.25, 0.2]), _days(4))
    assert period.depth == pytest.approx(0.28, rel=1e-12)
    assert (period.peak, period.trough, period.recovery) == (_days(4)[0], _days(4)[1], _days(4)[3])
    assert (period.fall_days, period.recovery_days, period.length_days) == (2, 2, 4)


def test_being_back_to_the_cent_counts_as_recovery() -> None:
    # 1.1 * 0.8 * 1.25 is 1.1 but for rounding
    period = worst_drawdown(np.array([0.1, -0.2, 0.25]), _days(3))
    assert period.recovery == _days(3)[2]


def test_the_trough_can_be_bound_to_the_first_days() -> None:
    # wealth 1, 0.9, 1.08, 0.54: over all days the fall to 0.54, within two days the one to 0.9
    returns = np.array([-0.1, 0.2, -0.5])
    whole, bound = worst_drawdown(returns, _days(3)), worst_drawdown(returns, _days(3), 2)
    assert (whole.depth, bound.depth) == (pytest.approx(0.5), pytest.approx(0.1))
    assert (bound.trough, bound.recovery) == (_days(3)[0], _days(3)[1])


@pytest.mark.parametrize("returns", [[0.1, 0.0, 0.2], [], [np.nan, -0.1]])
def test_no_drawdown_is_none(returns: list[float]) -> None:
    assert worst_drawdown(np.array(returns), _days(len(returns))) is None


@pytest.mark.parametrize("seed", range(10))
def test_drawdowns_agree_with_slow_oracles(seed: int) -> None:
    returns = np.random.default_rng(seed).normal(0.002, 0.02, 80)
    depth, peak, trough, recovery = oracles.worst_drawdown(list(map(float, returns)))
    period, dates = worst_drawdown(returns, _days(80)), _days(80)
    assert period.depth == pytest.approx(depth, rel=1e-12)
    assert period.depth == metrics.max_drawdown(returns)
    assert period.peak == dates[max(peak - 1, 0)]
    assert period.trough == dates[trough - 1]
    assert period.fall_days == trough - peak
    assert period.recovery_days == (None if recovery is None else recovery - trough)
    assert np.isnat(period.recovery) if recovery is None else period.recovery == dates[recovery - 1]
    assert period.length_days == (80 if recovery is None else recovery) - peak
