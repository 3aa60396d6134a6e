"""Limits on target weights, which apply to every kind of policy, and the extent to which a portfolio violates them."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rllib_portfolio.arrays import FloatArray, namespace
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market.universe import BoolArray

TINY = 1e-15
"""Smallest denominator, which keeps a division by zero and its derivative finite, also in single precision."""


class TradingDay(NamedTuple):
    """What B portfolios can trade at a close; None where nothing restricts them."""

    tradable: BoolArray | None = None
    """Whether each asset may be bought, [B, N]."""
    halted: BoolArray | None = None
    """Whether the weight of each asset is frozen, [B, N]."""
    groups: FloatArray | None = None
    """1 where an asset belongs to a group and 0 elsewhere, [N, G]."""
    largest_trade: FloatArray | None = None
    """Largest |w_t - w'_t| of each asset, [B, N]."""


UNRESTRICTED = TradingDay()
NOTHING = np.zeros(1)
NOTHING.setflags(write=False)


def constrained_weights(
    target: FloatArray, drifted: FloatArray, limits: ExecutionConfig, day: TradingDay = UNRESTRICTED
) -> FloatArray:
    """Return the target weights after the limits are applied, [..., N+1], cash last.

    First comes what the day allows (see `executable`). Then the minimum cash (the weights that are free to trade shrink
    by one factor), the maximum weight and the maximum weight of a group (any excess goes to cash). Finally the trade
    from the drifted weights is scaled down to the maximum turnover, and that of each asset cut to its largest trade. A
    trade that is cut short may not remove a violation that the drift has caused; `bound_violation` measures what
    remains.

    Args:
        target: Target weights, [..., N+1], rows on the simplex.
        drifted: Drifted weights before the trade, [..., N+1].
        limits: Minimum cash, maximum weights, and maximum turnover of one trade.
        day: What can be traded.
    """
    xp, weights = namespace(target), target
    frozen = NOTHING if xp is np else _nothing(xp, target.dtype, target.device)
    if day.tradable is not None and day.halted is not None:
        frozen = xp.where(day.halted, drifted[..., :-1], 0.0)
        weights = executable(target, frozen, day.tradable, day.halted)
    if limits.min_cash > 0.0:
        free = weights[..., :-1] - frozen
        room = (1.0 - limits.min_cash - frozen.sum(-1, keepdims=True)).clip(min=0.0)
        weights = _with_cash(free * _share(room, free.sum(-1, keepdims=True)) + frozen)
    if limits.max_weight < 1.0:
        weights = _with_cash((weights[..., :-1] - frozen).clip(max=limits.max_weight) + frozen)
    if limits.max_group_weight < 1.0 and day.groups is not None:
        weights = _with_cash(_within_groups(weights[..., :-1] - frozen, frozen, limits, day.groups) + frozen)
    if limits.max_turnover < 1.0:
        move = weights - drifted
        turnover = 0.5 * abs(move).sum(-1, keepdims=True)
        weights = drifted + move * _share(limits.max_turnover, turnover)
    if day.largest_trade is not None:
        weights = _within_volume(weights, drifted, day.largest_trade)
    return weights


@cache
def _nothing(torch: Any, dtype: Any, device: Any) -> Any:
    return torch.zeros(1, dtype=dtype, device=device)


def executable(target: FloatArray, frozen: FloatArray, tradable: BoolArray, halted: BoolArray) -> FloatArray:
    """Return the target weights as far as the assets can be traded, [..., N+1].

    A halted asset keeps its weight. What the target wants of an asset that cannot be bought goes to cash: spreading it
    over other assets would be a decision that nobody made. If halted assets hold more than the target wants of them,
    all other weights shrink by one factor.

    Args:
        target: Target weights, [..., N+1], rows on the simplex.
        frozen: Drifted weights of the halted assets, 0 for the others, [..., N].
        tradable: Whether each asset may be bought, [..., N].
        halted: Whether the weight of each asset is frozen, [..., N].
    """
    xp = namespace(target)
    left = 1.0 - frozen.sum(-1, keepdims=True)
    others = 1.0 - xp.where(halted, target[..., :-1], 0.0).sum(-1, keepdims=True)
    return _with_cash(xp.where(tradable, target[..., :-1], 0.0) * _share(left, others) + frozen)


def bound_violation(weights: FloatArray, limits: ExecutionConfig, groups: FloatArray | None = None) -> FloatArray:
    """Return the largest violation of the maximum weights and of the minimum cash, [...], 0 if there is none.

    Args:
        weights: Weights of portfolios, [..., N+1], cash last.
        limits: Maximum weights of a risky asset and of a group, and minimum cash.
        groups: 1 where an asset belongs to a group and 0 elsewhere, [N, G], or None.
    """
    is_grouped = groups is not None and limits.max_group_weight < 1.0
    if limits.max_weight == 1.0 and limits.min_cash == 0.0 and not is_grouped:
        return np.zeros(weights.shape[:-1])
    above = weights[..., :-1].max(-1) - limits.max_weight
    short = limits.min_cash - weights[..., -1]
    violation = np.maximum(np.maximum(above, short), 0.0)
    if groups is not None and is_grouped:
        violation = np.maximum(violation, (_group_sums(weights[..., :-1], groups) - limits.max_group_weight).max(-1))
    return np.asarray(violation)


def _within_groups(free: FloatArray, frozen: FloatArray, limits: ExecutionConfig, groups: FloatArray) -> FloatArray:
    """Return the free weights, [..., N], shrunk in each group that would exceed the maximum with what is frozen."""
    taken = _group_sums(frozen + 0.0 * free, groups)
    factor = _share((limits.max_group_weight - taken).clip(min=0.0), _group_sums(free, groups))
    return free * (1.0 - ((1.0 - factor[..., None, :]) * groups).sum(-1))  # type: ignore[no-any-return]


def _group_sums(risky: FloatArray, groups: FloatArray) -> FloatArray:
    """Return the weight of each group, [..., G]. It is no matrix product, whose bits could depend on B."""
    return (risky[..., None] * groups).sum(-2)  # type: ignore[no-any-return]


def _within_volume(weights: FloatArray, drifted: FloatArray, largest_trade: FloatArray) -> FloatArray:
    """Return weights that trade at most `largest_trade` of each asset; cash and sales must pay for all purchases."""
    move = (weights[..., :-1] - drifted[..., :-1]).clip(-largest_trade, largest_trade)
    bought, sold = move.clip(min=0.0), move.clip(max=0.0)
    means = drifted[..., -1:] - sold.sum(-1, keepdims=True)
    return _with_cash(drifted[..., :-1] + sold + bought * _share(means, bought.sum(-1, keepdims=True)))


def _share(available: Any, wanted: FloatArray) -> FloatArray:
    """Return the fraction of what is wanted that is available, at most 1."""
    return (available / wanted.clip(min=TINY)).clip(max=1.0)  # type: ignore[no-any-return]


def _with_cash(risky: FloatArray) -> FloatArray:
    cash = (1.0 - risky.sum(-1, keepdims=True)).clip(min=0.0)
    return namespace(risky).concatenate([risky, cash], axis=-1)  # type: ignore[no-any-return]
