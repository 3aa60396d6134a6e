"""Action maps: from what a policy says to target weights on the simplex.

An action is mapped once, here, by the environment. No policy applies a softmax of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import CASH

MAX_LATTICE_ACTIONS = 10_000
AUTO_LATTICE_ASSETS = 3


def softmax_weights(actions: FloatArray, logit_scale: float) -> FloatArray:
    """Target weights softmax(logit_scale * action), [B, N+1], of actions in [-1, 1], [B, N+1].

    The zero action is the uniform portfolio. With logit_scale 10 every corner is reached to within N e^-20.
    """
    logits = logit_scale * np.asarray(actions, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


class ActionMap(Protocol):
    """What actions are, and the target weights that each of them asks for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names for reports: of the actions, or of the columns of one."""
        ...

    @property
    def space(self) -> spaces.Space[Any]:
        """The actions of one portfolio."""
        ...

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number of a batch of actions may stand there; the shape is that of the batch."""
        ...

    def target(self, actions: NDArray[Any], held: FloatArray, volatility: FloatArray | None) -> FloatArray:
        """Return target weights [B, N+1] of B actions.

        Args:
            actions: In the space, with a leading axis B.
            held: Weights to hold, [B, N+1]: an environment holds the drifted weights w'_t, whatever the lag.
            volatility: Trailing daily volatility, [B, N]; a map that does not read it takes None.
        """
        ...

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each of B actions trades nothing whatever is held, [B]."""
        ...

    def to_json(self) -> dict[str, Any] | None:
        """Return what `action_map_of` needs beside the environment's settings; None if it needs nothing."""
        ...


@dataclass(frozen=True, slots=True)
class SoftmaxMap:
    """Continuous actions: weights = softmax(logit_scale * action), of assets and cash.

    Attributes:
        assets: Names of the N risky assets.
        logit_scale: Factor of the actions.
    """

    assets: tuple[str, ...]
    logit_scale: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of an action."""
        return (*self.assets, CASH)

    @property
    def space(self) -> spaces.Box:
        """Numbers in [-1, 1], [N+1]."""
        return spaces.Box(-1.0, 1.0, (len(self.assets) + 1,), np.float32)

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number lies in [-1, 1]."""
        return np.asarray(np.abs(actions) <= 1.0)

    def target(self, actions: NDArray[Any], held: FloatArray, volatility: FloatArray | None) -> FloatArray:
        """Return the softmax of the scaled actions; neither what is held nor the volatility is read."""
        return softmax_weights(actions, self.logit_scale)

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return False for each action: to hold is to ask for the weights that are held."""
        return np.zeros(len(actions), dtype=np.bool_)

    def to_json(self) -> None:
        """Return None: the settings of the environment say all."""


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

    @property
    def space(self) -> spaces.Space[Any]:
        """The indices of the actions."""
        return spaces.Discrete(self.num_actions)

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number is the index of an action."""
        return np.asarray((actions >= 0) & (actions < self.num_actions) & (actions % 1 == 0))

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each is the action that trades nothing."""
        return np.asarray(actions == self.hold)

    def target(self, actions: NDArray[Any], held: FloatArray, volatility: FloatArray | None) -> FloatArray:
        """Return target weights [B, N+1] of actions [B]: see `ActionMap`.

        Raises:
            ValueError: If the inverse-volatility action is chosen without a volatility.
        """
        weights = self.weights[actions.astype(np.int64)]
        chosen = actions == self.inverse_volatility
        if chosen.any():
            if volatility is None:
                raise ValueError("volatility must be given for the inverse-volatility action, got none. Pass it.")
            weights = np.where(chosen[:, None], inverse_volatility_weights(volatility), weights)
        return np.where((actions == self.hold)[:, None], held, weights)

    def to_json(self) -> dict[str, Any]:
        """Return the names, the weights and the index of the inverse-volatility action."""
        return {"names": self.names, "weights": self.weights.tolist(), "inverse_volatility": self.inverse_volatility}


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


def build_action_map(config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionMap:
    """Return the action map that the configuration names, for a universe of N assets."""
    if config.action_mode == "discrete":
        return build_action_table(config, assets)
    return SoftmaxMap(assets, config.logit_scale)


def action_map_of(values: Mapping[str, Any] | None, config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionMap:
    """Return the action map that `to_json` wrote, for an environment of this configuration."""
    if values is None:
        return SoftmaxMap(assets, config.logit_scale)
    return ActionTable(tuple(values["names"]), np.array(values["weights"]), values["inverse_volatility"])


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
