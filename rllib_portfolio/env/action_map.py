"""Action maps: from what a policy says to target weights on the simplex, and the bounds that every policy obeys.

An action is mapped once, here, by the environment. No policy applies a softmax of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig, ExecutionConfig
from rllib_portfolio.errors import ConfigError

IntArray = NDArray[np.integer[Any]]

MAX_LATTICE_ACTIONS = 10_000
AUTO_LATTICE_ASSETS = 3


def softmax_weights(actions: FloatArray, logit_scale: float) -> FloatArray:
    """Target weights softmax(logit_scale * action), [B, N+1], of actions in [-1, 1], [B, N+1].

    The zero action is the uniform portfolio. With logit_scale 10 every corner is reached to within N e^-20.
    """
    logits = logit_scale * np.asarray(actions, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def constrained_weights(target: FloatArray, drifted: FloatArray, limits: ExecutionConfig) -> FloatArray:
    """The target weights that the limits allow, [..., N+1], cash last.

    First the minimum cash (risky weights shrink together) and the maximum weight (what is above goes to cash); then the
    move from the drifted weights is scaled to the maximum turnover. A move cut short may leave a bound violated that
    the drift had violated before: `bound_violation` measures it.
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
    """How far weights [..., N+1] lie outside the maximum weight and the minimum cash: the worst excess, [...]."""
    if limits.max_weight == 1.0 and limits.min_cash == 0.0:
        return np.zeros(weights.shape[:-1])
    above = weights[..., :-1].max(-1) - limits.max_weight
    short = limits.min_cash - weights[..., -1]
    return np.asarray(np.maximum(np.maximum(above, short), 0.0))


def _with_cash(risky: FloatArray) -> FloatArray:
    cash = np.maximum(0.0, 1.0 - risky.sum(-1, keepdims=True))
    return np.concatenate([risky, cash], axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class ActionTable:
    """K discrete actions, each a target portfolio; the last one holds what there is and trades nothing.

    Attributes:
        names: K names for reports.
        weights: Target weights, [K, N+1]. The rows of the hold and of the inverse-volatility action are not read.
        inverse_volatility: Index of the action whose weights follow the trailing volatility, or None.
    """

    names: tuple[str, ...]
    weights: FloatArray
    inverse_volatility: int | None = None

    @property
    def num_actions(self) -> int:
        """K."""
        return len(self.names)

    @property
    def hold(self) -> int:
        """Index of the action that trades nothing."""
        return len(self.names) - 1

    def target(self, actions: IntArray, held: FloatArray, volatility: FloatArray | None) -> FloatArray:
        """Target weights [B, N+1] of actions [B], given weights to hold [B, N+1] and daily volatility [B, N].

        An environment holds the drifted weights w'_t, whatever the lag.

        Raises:
            ValueError: If the inverse-volatility action is chosen without a volatility.
        """
        weights = self.weights[actions]
        chosen = actions == self.inverse_volatility
        if chosen.any():
            if volatility is None:
                raise ValueError("volatility must be given for the inverse-volatility action, got none. Pass it.")
            weights = np.where(chosen[:, None], inverse_volatility_weights(volatility), weights)
        return np.where((actions == self.hold)[:, None], held, weights)


def equal_weights(num_assets: int, share: float = 1.0) -> FloatArray:
    """Return 1/N: `share` of the wealth in equal parts over the risky assets, the rest in cash, [N+1]."""
    return np.append(np.full(num_assets, share / num_assets), 1.0 - share)


def inverse_volatility_weights(volatility: FloatArray) -> FloatArray:
    """Weights proportional to 1 / sigma over the risky assets, no cash: [..., N+1] from [..., N].

    An asset whose price stands still (filled days, a halt) is not free of risk: sigma counts as at least a tenth of the
    day's median.
    """
    floor = np.maximum(0.1 * np.median(volatility, axis=-1, keepdims=True), 1e-8)
    inverse = 1.0 / np.maximum(volatility, floor)
    weights = inverse / inverse.sum(-1, keepdims=True)
    return np.concatenate([weights, np.zeros_like(weights[..., :1])], axis=-1)


def build_action_table(config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionTable:
    """The table that the configuration names, for a universe of N assets."""
    kind = config.action_table
    if kind == "auto":
        kind = "lattice" if len(assets) <= AUTO_LATTICE_ASSETS else "ladder"
    return (lattice_table if kind == "lattice" else ladder_table)(assets, config.action_levels)


def lattice_table(assets: tuple[str, ...], levels: int) -> ActionTable:
    """All portfolios whose N+1 weights are multiples of 1 / levels, and hold.

    Raises:
        ConfigError: If there are more than 10000 of them.
    """
    slots = len(assets) + 1
    size = comb(levels + slots - 1, slots - 1)
    if size > MAX_LATTICE_ACTIONS:
        raise ConfigError(
            f"action_table lattice must have at most {MAX_LATTICE_ACTIONS} actions, got {size} "
            f"({len(assets)} assets, action_levels {levels}). Lower action_levels or use action_table=ladder."
        )
    rows = []
    for bars in combinations(range(levels + slots - 1), slots - 1):
        edges = (-1, *bars, levels + slots - 1)
        rows.append([(right - left - 1) / levels for left, right in pairwise(edges)])
    columns = (*assets, "cash")
    names = [_portfolio_name(row, columns) for row in rows]
    return ActionTable((*names, "hold"), np.array([*rows, rows[0]]))


def _portfolio_name(weights: list[float], columns: tuple[str, ...]) -> str:
    return " + ".join(f"{weight:.0%} {name}" for weight, name in zip(weights, columns, strict=True) if weight > 0)


def ladder_table(assets: tuple[str, ...], levels: int) -> ActionTable:
    """Cash, equal weight in `levels` steps of equity, inverse volatility, one tilt per asset, and hold.

    A tilt is half equal weight and half the asset. For one asset the ladder alone is left: the rest would repeat it.
    """
    num_assets = len(assets)
    equal = equal_weights(num_assets)
    cash = np.append(np.zeros(num_assets), 1.0)
    names = [f"{step / levels:.0%} equal weight" if step else "cash" for step in range(levels + 1)]
    rows: list[FloatArray] = [equal * (step / levels) + cash * (1.0 - step / levels) for step in range(levels + 1)]
    inverse_volatility = None
    if num_assets > 1:
        inverse_volatility = len(names)
        names += ["inverse volatility", *(f"tilt {name}" for name in assets)]
        rows += [equal, *(0.5 * equal + 0.5 * np.eye(num_assets + 1)[i] for i in range(num_assets))]
    return ActionTable((*names, "hold"), np.array([*rows, cash]), inverse_volatility)
