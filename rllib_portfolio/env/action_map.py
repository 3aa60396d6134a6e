"""Action maps, which turn the actions of a policy into target weights on the simplex.

Actions are mapped only here; no policy network applies a softmax of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import CASH
from rllib_portfolio.market.universe import BoolArray

MAX_LATTICE_ACTIONS = 10_000
AUTO_LATTICE_ASSETS = 3


class ActionInputs(NamedTuple):
    """What an action map may use besides the actions, as known at the decision; None where it is not at hand."""

    volatility: FloatArray | None = None
    """Trailing daily volatility, [B, N]; only the inverse-volatility action needs it."""
    tradable: BoolArray | None = None
    """Whether each asset may be bought, [B, N]; None if all may."""
    features: FloatArray | None = None
    """Features of each asset as observed, [B, N, F]."""


NO_INPUTS = ActionInputs()


def softmax_weights(actions: FloatArray, logit_scale: float, tradable: BoolArray | None = None) -> FloatArray:
    """Return the target weights softmax(logit_scale * action) over cash and the tradable assets, [B, N+1].

    The zero action gives the uniform portfolio. With logit_scale 10 every corner is reached to within N e^-20.

    Args:
        actions: Actions, [B, N+1], each in [-1, 1], cash last.
        logit_scale: Factor by which the actions are multiplied, above 0.
        tradable: Whether each asset may be bought, [B, N]; None if all may. The others get weight 0.
    """
    logits = logit_scale * np.asarray(actions, dtype=np.float64)
    if tradable is not None:
        logits[..., :-1] = np.where(tradable, logits[..., :-1], -np.inf)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


class ActionMap(Protocol):
    """The valid actions, and the target weights that each of them asks for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the discrete actions, or of the components of a continuous action, for reports."""
        ...

    @property
    def space(self) -> spaces.Space[Any]:
        """The Gymnasium space of the action of one portfolio."""
        ...

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number of a batch of actions is valid; the result has the shape of the batch."""
        ...

    def target(self, actions: NDArray[Any], held: FloatArray, inputs: ActionInputs) -> FloatArray:
        """Return target weights [B, N+1] for B actions.

        Args:
            actions: Actions in the space, with a leading axis B.
            held: Weights that a hold action keeps, [B, N+1]. An environment passes the drifted weights w'_t, whatever
                its execution lag.
            inputs: What is known at the decision.
        """
        ...

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each of B actions trades nothing, whatever the portfolio holds, [B]."""
        ...

    def to_json(self) -> dict[str, Any] | None:
        """Return the values that `action_map_of` needs in addition to the environment's settings, or None."""
        ...


@dataclass(frozen=True, slots=True)
class SoftmaxMap:
    """Continuous actions: weights = softmax(logit_scale * action) over the assets and cash.

    Attributes:
        assets: Names of the N risky assets.
        logit_scale: Factor by which the actions are multiplied.
    """

    assets: tuple[str, ...]
    logit_scale: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the components of an action."""
        return (*self.assets, CASH)

    @property
    def space(self) -> spaces.Box:
        """The space of N+1 numbers in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (len(self.assets) + 1,), np.float32)

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number lies in [-1, 1]."""
        return np.asarray(np.abs(actions) <= 1.0)

    def target(self, actions: NDArray[Any], held: FloatArray, inputs: ActionInputs) -> FloatArray:
        """Return the softmax of the scaled actions over the tradable assets and cash; `held` is ignored."""
        return softmax_weights(actions, self.logit_scale, inputs.tradable)

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return False for each action, since no continuous action means hold in every portfolio."""
        return np.zeros(len(actions), dtype=np.bool_)

    def to_json(self) -> None:
        """Return None, since the settings of the environment define the map."""


@dataclass(frozen=True, slots=True, eq=False)
class ActionTable:
    """K discrete actions, each a target portfolio; the last one holds the current portfolio and trades nothing.

    Attributes:
        names: K names for reports.
        weights: Target weights, [K, N+1]. The rows of the hold and of the inverse-volatility action are ignored.
        inverse_volatility: Index of the action whose weights follow the trailing volatility, or None.
        equal_share: The part of each row that is spread equally over the tradable assets, [K]; None if there is none.
            The rest of a row is a weight of single assets, which becomes cash where they are not tradable.
    """

    names: tuple[str, ...]
    weights: FloatArray
    inverse_volatility: int | None = None
    equal_share: FloatArray | None = None

    @property
    def num_actions(self) -> int:
        """Number of actions, K."""
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
        """Return whether each action is the hold action, [B]."""
        return np.asarray(actions == self.hold)

    def target(self, actions: NDArray[Any], held: FloatArray, inputs: ActionInputs) -> FloatArray:
        """Return target weights, [B, N+1], for B indices of actions, as `ActionMap.target` does.

        Raises:
            ValueError: If the inverse-volatility action is chosen without a volatility.
        """
        rows = actions.astype(np.int64)
        weights = self.weights[rows] if inputs.tradable is None else self._over(inputs.tradable, rows)
        chosen = actions == self.inverse_volatility
        if chosen.any():
            if inputs.volatility is None:
                raise ValueError("volatility must be given for the inverse-volatility action, got none. Pass it.")
            by_risk = inverse_volatility_weights(inputs.volatility, inputs.tradable)
            weights = np.where(chosen[:, None], by_risk, weights)
        return np.where((actions == self.hold)[:, None], held, weights)

    def _over(self, tradable: BoolArray, rows: NDArray[np.int64]) -> FloatArray:
        """Return the weights [B, N+1] of table rows [B] in a universe in which the assets `tradable`, [B, N], trade."""
        share = np.zeros(len(rows)) if self.equal_share is None else self.equal_share[rows]
        single = self.weights[rows, :-1] - share[:, None] / tradable.shape[-1]
        risky = share[:, None] * equal_weights_over(tradable)[:, :-1] + np.where(tradable, np.maximum(single, 0.0), 0.0)
        return np.concatenate([risky, 1.0 - risky.sum(-1, keepdims=True)], axis=-1)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        share = None if self.equal_share is None else self.equal_share.tolist()
        values = {"names": self.names, "weights": self.weights.tolist(), "inverse_volatility": self.inverse_volatility}
        return {**values, "equal_share": share}


@cache
def equal_weights(num_assets: int, share: float = 1.0) -> FloatArray:
    """Return the 1/N portfolio, [N+1]: `share` of the wealth in equal parts in the risky assets, the rest in cash.

    The array is read-only, because calls with the same arguments share it.

    Args:
        num_assets: Number N of risky assets.
        share: Fraction of the wealth in risky assets, in [0, 1].
    """
    weights = np.append(np.full(num_assets, share / num_assets), 1.0 - share)
    weights.setflags(write=False)
    return weights


def equal_weights_over(members: BoolArray) -> FloatArray:
    """Return the 1/N portfolio over the members of each day, [..., N+1], all in cash where there are none.

    Args:
        members: Whether each asset is a member, [..., N].
    """
    count = members.sum(-1, keepdims=True)
    return np.concatenate([members / np.maximum(count, 1), count == 0], axis=-1)


def inverse_volatility_weights(volatility: FloatArray, tradable: BoolArray | None = None) -> FloatArray:
    """Return weights [..., N+1] proportional to 1 / sigma, without cash, for volatilities sigma [..., N].

    An asset whose price does not change (filled days, a trading halt) is not free of risk. Therefore sigma is raised to
    at least a tenth of the median over the assets. Only assets that are `tradable`, [..., N], count.
    """
    if tradable is not None:
        return _inverse_volatility_over(volatility, tradable)
    floor = np.maximum(0.1 * np.median(volatility, axis=-1, keepdims=True), 1e-8)
    inverse = 1.0 / np.maximum(volatility, floor)
    weights = inverse / inverse.sum(-1, keepdims=True)
    return np.concatenate([weights, np.zeros_like(weights[..., :1])], axis=-1)


def _inverse_volatility_over(volatility: FloatArray, tradable: BoolArray) -> FloatArray:
    # A row without a tradable asset takes the median of all, so that numpy does not warn; its weights are all cash.
    known = np.where(tradable | ~tradable.any(-1, keepdims=True), volatility, np.nan)
    floor = np.maximum(0.1 * np.nanmedian(known, axis=-1, keepdims=True), 1e-8)
    inverse = np.where(tradable, 1.0 / np.maximum(volatility, floor), 0.0)
    total = inverse.sum(-1, keepdims=True)
    return np.concatenate([inverse / np.where(total > 0.0, total, 1.0), total == 0.0], axis=-1)


def build_action_map(config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionMap:
    """Return the action map that the configuration names.

    Args:
        config: Action mode, scale of the softmax, and kind and levels of the action table.
        assets: Names of the N risky assets.

    Raises:
        ConfigError: If a lattice would have too many actions.
    """
    if config.action_mode == "discrete":
        return build_action_table(config, assets)
    return SoftmaxMap(assets, config.logit_scale)


def action_map_of(values: Mapping[str, Any] | None, config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionMap:
    """Rebuild an action map from the values that its `to_json` returned and the environment's settings.

    Args:
        values: Result of `to_json`; None stands for a `SoftmaxMap`.
        config: Settings of the environment, of which only `logit_scale` is used.
        assets: Names of the N risky assets.
    """
    if values is None:
        return SoftmaxMap(assets, config.logit_scale)
    share = values.get("equal_share")  # earlier versions did not write it
    equal_share = None if share is None else np.array(share)
    return ActionTable(tuple(values["names"]), np.array(values["weights"]), values["inverse_volatility"], equal_share)


def build_action_table(config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionTable:
    """Return the action table that the configuration names.

    Args:
        config: Kind of the action table, and its levels.
        assets: Names of the N risky assets.

    Raises:
        ConfigError: If a lattice would have too many actions.
    """
    kind = config.action_table
    if kind == "auto":
        kind = "lattice" if len(assets) <= AUTO_LATTICE_ASSETS else "ladder"
    return (lattice_table if kind == "lattice" else ladder_table)(assets, config.action_levels)


def lattice_table(assets: tuple[str, ...], levels: int) -> ActionTable:
    """Return a table of all portfolios whose N+1 weights are multiples of 1 / levels, and of the hold action.

    Args:
        assets: Names of the N risky assets.
        levels: Number of equal parts into which the wealth is divided, at least 1.

    Raises:
        ConfigError: If there are more than 10000 such portfolios.
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
    """Return a table of cash, equal weight at `levels` levels of exposure, inverse volatility, tilts, and hold.

    There is one tilt per asset: half equal weight and half that asset. With a single asset, inverse volatility and the
    tilt are left out because they would repeat equal weight.

    Args:
        assets: Names of the N risky assets.
        levels: Number of levels of exposure above 0: 1 / levels, 2 / levels ... 1.
    """
    num_assets = len(assets)
    equal = equal_weights(num_assets)
    cash = np.append(np.zeros(num_assets), 1.0)
    names = [f"{step / levels:.0%} equal weight" if step else "cash" for step in range(levels + 1)]
    rows: list[FloatArray] = [equal * (step / levels) + cash * (1.0 - step / levels) for step in range(levels + 1)]
    share = [step / levels for step in range(levels + 1)]
    inverse_volatility = None
    if num_assets > 1:
        inverse_volatility = len(names)
        names += ["inverse volatility", *(f"tilt {name}" for name in assets)]
        rows += [equal, *(0.5 * equal + 0.5 * np.eye(num_assets + 1)[i] for i in range(num_assets))]
        share += [1.0, *([0.5] * num_assets)]
    return ActionTable((*names, "hold"), np.array([*rows, cash]), inverse_volatility, np.array([*share, 0.0]))
