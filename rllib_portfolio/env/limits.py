"""Limits on target weights, which apply to every kind of policy, and the extent to which a portfolio violates them."""

from __future__ import annotations

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import ExecutionConfig


def constrained_weights(target: FloatArray, drifted: FloatArray, limits: ExecutionConfig) -> FloatArray:
    """Return the target weights after the limits are applied, [..., N+1], cash last.

    The minimum cash comes first (all risky weights shrink by one factor), then the maximum weight (any excess goes to
    cash). Finally the trade from the drifted weights is scaled down to the maximum turnover. A trade that is scaled
    down may not remove a violation that the drift has caused; `bound_violation` measures what remains.

    Args:
        target: Target weights, [..., N+1], rows on the simplex.
        drifted: Drifted weights before the trade, [..., N+1].
        limits: Minimum cash, maximum weight of a risky asset, and maximum turnover of one trade.
    """
    weights = target
    if limits.min_cash > 0.0:
        risky = weights[..., :-1]
        shrink = np.minimum(1.0, (1.0 - limits.min_cash) / np.maximum(risky.sum(-1, keepdims=True), 1e-300))
        weights = _with_cash(risky * shrink)
    if limits.max_weight < 1.0:
        weights = _with_cash(np.minimum(weights[..., :-1], limits.max_weight))
    if limits.max_turnover < 1.0:
        move = weights - drifted
        turnover = 0.5 * np.abs(move).sum(-1, keepdims=True)
        weights = drifted + move * np.minimum(1.0, limits.max_turnover / np.maximum(turnover, 1e-300))
    return weights


def bound_violation(weights: FloatArray, limits: ExecutionConfig) -> FloatArray:
    """Return the largest violation of the maximum weight and of the minimum cash, [...], 0 if there is none.

    Args:
        weights: Weights of portfolios, [..., N+1], cash last.
        limits: Maximum weight of a risky asset, and minimum cash.
    """
    if limits.max_weight == 1.0 and limits.min_cash == 0.0:
        return np.zeros(weights.shape[:-1])
    above = weights[..., :-1].max(-1) - limits.max_weight
    short = limits.min_cash - weights[..., -1]
    return np.asarray(np.maximum(np.maximum(above, short), 0.0))


def _with_cash(risky: FloatArray) -> FloatArray:
    cash = np.maximum(0.0, 1.0 - risky.sum(-1, keepdims=True))
    return np.concatenate([risky, cash], axis=-1)
