"""Limits on target weights, which apply to every kind of policy, and the extent to which a portfolio violates them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market.universe import BoolArray

TINY = 1e-300
"""Smallest denominator, which keeps a division by zero from giving NaN."""


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
    weights, frozen = target, NOTHING
    if day.tradable is not None and day.halted is not None:
        frozen = np.where(day.halted, drifted[..., :-1], 0.0)
        weights = executable(target, frozen, day.tradable, day.halted)
    if limits.min_cash > 0.0:
        free = weights[..., :-1] - frozen
        room = np.maximum(1.0 - limits.min_cash - frozen.sum(-1, keepdims=True), 0.0)
        weights = _with_cash(free * np.minimum(1.0, room / np.maximum(free.sum(-1, keepdims=True), TINY)) + frozen)
    if limits.max_weight < 1.0:
        weights = _with_cash(np.minimum(weights[..., :-1] - frozen, limits.max_weight) + frozen)
    if limits.max_group_weight < 1.0 and day.groups is not None:
        weights = _with_cash(_within_groups(weights[..., :-1] - frozen, frozen, limits, day.groups) + frozen)
    if limits.max_turnover < 1.0:
        move = weights - drifted
        turnover = 0.5 * np.abs(move).sum(-1, keepdims=True)
        weights = drifted + move * np.minimum(1.0, limits.max_turnover / np.maximum(turnover, TINY))
    if day.largest_trade is not None:
        weights = _within_volume(weights, drifted, day.largest_trade)
    return weights


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
    left = 1.0 - frozen.sum(-1, keepdims=True)
    others = 1.0 - np.where(halted, target[..., :-1], 0.0).sum(-1, keepdims=True)
    shrink = np.minimum(1.0, left / np.maximum(others, TINY))
    return _with_cash(np.where(tradable, target[..., :-1], 0.0) * shrink + frozen)


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
    taken = _group_sums(np.broadcast_to(frozen, free.shape), groups)
    room = np.maximum(limits.max_group_weight - taken, 0.0)
    factor = np.minimum(1.0, room / np.maximum(_group_sums(free, groups), TINY))
    return np.asarray(free * (1.0 - ((1.0 - factor[..., None, :]) * groups).sum(-1)))


def _group_sums(risky: FloatArray, groups: FloatArray) -> FloatArray:
    """Return the weight of each group, [..., G]. It is no matrix product, whose bits could depend on B."""
    return np.asarray((risky[..., None] * groups).sum(-2))


def _within_volume(weights: FloatArray, drifted: FloatArray, largest_trade: FloatArray) -> FloatArray:
    """Return weights that trade at most `largest_trade` of each asset; cash and sales must pay for all purchases."""
    move = np.clip(weights[..., :-1] - drifted[..., :-1], -largest_trade, largest_trade)
    bought, sold = np.maximum(move, 0.0), np.minimum(move, 0.0)
    means = drifted[..., -1:] - sold.sum(-1, keepdims=True)
    affordable = np.minimum(1.0, means / np.maximum(bought.sum(-1, keepdims=True), TINY))
    return _with_cash(drifted[..., :-1] + sold + bought * affordable)


def _with_cash(risky: FloatArray) -> FloatArray:
    cash = np.maximum(0.0, 1.0 - risky.sum(-1, keepdims=True))
    return np.concatenate([risky, cash], axis=-1)
