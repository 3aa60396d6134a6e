"""Tables of discrete actions, and the action map that a configuration names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env.action_map import (
    ActionInputs,
    ActionMap,
    SoftmaxMap,
    equal_weights,
    equal_weights_over,
    inverse_volatility_weights,
)
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.universe import TRADABLE, BoolArray

MAX_LATTICE_ACTIONS = 10_000
AUTO_LATTICE_ASSETS = 3
AUTO_LADDER_ASSETS = 60
"""Largest number of assets for which `action_table: auto` has a tilt to each asset."""
QUANTILES = 5
"""A tilt by a feature holds one part of this many, rounded up."""
TILTED_KINDS = ("momentum", "volatility", "log_return")
"""Kinds of features by which the table tilts if `action_features` is empty: those with the longest window of each."""


_HIGHEST = "tilt highest "


class FeatureTilt(NamedTuple):
    """An action that holds half equal weight and half the assets with the highest or lowest values of a feature."""

    action: int
    """Index of the action."""
    column: int
    """Index of the asset feature."""
    highest: bool
    """Whether the assets with the highest values are held, not those with the lowest."""


@dataclass(frozen=True, slots=True, eq=False)
class ActionTable:
    """K discrete actions, each a target portfolio; the first is all cash, the last holds the current portfolio.

    Attributes:
        names: K names for reports.
        weights: Target weights where all assets are tradable, [K, N+1]. The rows of the hold, of the inverse-volatility
            action and of the tilts by a feature are ignored.
        inverse_volatility: Index of the action whose weights follow the trailing volatility, or None.
        equal_share: The part of each row that is spread equally over the tradable assets, [K]. None if the rows are
            weights of single assets, which become cash where the assets are not tradable.
        first_tilt: Index of the first of N actions that hold half equal weight and half one asset, in the order of the
            assets; None if there are none.
        feature_tilts: The actions that hold the assets with the highest or lowest values of a feature.
    """

    names: tuple[str, ...]
    weights: FloatArray
    inverse_volatility: int | None = None
    equal_share: FloatArray | None = None
    first_tilt: int | None = None
    feature_tilts: tuple[FeatureTilt, ...] = ()

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

    @property
    def needs_features(self) -> bool:
        """Whether there are tilts by a feature."""
        return bool(self.feature_tilts)

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number is the index of an action."""
        return np.asarray((actions >= 0) & (actions < self.num_actions) & (actions % 1 == 0))

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each action is the hold action, [B]."""
        return np.asarray(actions == self.hold)

    def available(self, inputs: ActionInputs) -> BoolArray | None:
        """Return whether each action can be traded, [B, K]; None if all assets are tradable.

        An action is available if each single asset that it names is tradable, and if any asset is where it spreads
        wealth over all of them. Cash and hold are always available.

        Args:
            inputs: What is known at the decision.
        """
        tradable = inputs.tradable
        if tradable is None:
            return None
        if self.equal_share is None:
            named = (self.weights[:, :-1] > 0.0).astype(np.float32)
            named[self.hold] = 0.0
            return np.asarray((~tradable).astype(np.float32) @ named.T == 0.0)
        result = np.repeat(tradable.any(-1, keepdims=True), self.num_actions, axis=-1)
        result[:, [0, self.hold]] = True
        if self.first_tilt is not None:
            result[:, self.first_tilt : self.first_tilt + tradable.shape[-1]] = tradable
        return result

    def target(self, actions: NDArray[Any], held: FloatArray, inputs: ActionInputs) -> FloatArray:
        """Return target weights, [B, N+1], for B indices of actions, as `ActionMap.target` does.

        Raises:
            ValueError: If an action is chosen without the volatility or the features that it needs.
        """
        rows = actions.astype(np.int64)
        weights = self.weights[rows] if inputs.tradable is None else self._over(inputs.tradable, rows)
        chosen = actions == self.inverse_volatility
        if chosen.any():
            if inputs.volatility is None:
                raise ValueError("volatility must be given for the inverse-volatility action, got none. Pass it.")
            tradable = None if inputs.tradable is None else inputs.tradable[chosen]
            volatility = np.broadcast_to(inputs.volatility, (len(rows), weights.shape[-1] - 1))[chosen]
            weights[chosen] = inverse_volatility_weights(volatility, tradable)
        for tilt in self.feature_tilts:
            which = np.flatnonzero(actions == tilt.action)
            if not len(which):
                continue
            if inputs.features is None:
                raise ValueError("features must be given for a tilt by a feature, got none. Pass them.")
            values = inputs.features[which, :, tilt.column]
            trades = np.ones(values.shape, np.bool_) if inputs.tradable is None else inputs.tradable[which]
            weights[which] = quantile_weights(values if tilt.highest else -values, trades)
        return np.where((actions == self.hold)[:, None], held, weights)

    def _over(self, tradable: BoolArray, rows: NDArray[np.int64]) -> FloatArray:
        """Return the weights [B, N+1] of table rows [B] in a universe in which the assets `tradable`, [B, N], trade."""
        if self.equal_share is None:
            risky = np.where(tradable, self.weights[rows, :-1], 0.0)
        else:
            risky = self.equal_share[rows, None] * equal_weights_over(tradable)[:, :-1]
        if self.first_tilt is not None:
            asset = rows - self.first_tilt
            which = np.flatnonzero((asset >= 0) & (asset < tradable.shape[-1]))
            which = which[tradable[which, asset[which]]]
            risky[which, asset[which]] += 0.5
        return np.concatenate([risky, np.maximum(1.0 - risky.sum(-1, keepdims=True), 0.0)], axis=-1)

    def over(self, assets: tuple[str, ...]) -> ActionTable:
        """Return a table with the same kinds of actions for other assets; only for tables of `ladder_table`.

        Args:
            assets: Names of the risky assets; at least two, if this table has at least two.
        """
        assert self.equal_share is not None
        if self.inverse_volatility is None:
            return ladder_table(assets, self.num_actions - 2)
        highest = [tilt for tilt in self.feature_tilts if tilt.highest]
        columns = {self.names[tilt.action].removeprefix(_HIGHEST): tilt.column for tilt in highest}
        return ladder_table(assets, self.inverse_volatility - 1, columns if self.first_tilt is None else None)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        share = None if self.equal_share is None else self.equal_share.tolist()
        values = {"names": self.names, "weights": self.weights.tolist(), "inverse_volatility": self.inverse_volatility}
        return {**values, "equal_share": share, "first_tilt": self.first_tilt, "feature_tilts": self.feature_tilts}


def quantile_weights(values: FloatArray, tradable: BoolArray) -> FloatArray:
    """Return half equal weight and half the fifth of the assets with the highest values, [B, N+1].

    Only tradable assets count, and the fifth is rounded up. Of equal values, those of earlier assets come first. Where
    nothing is tradable, all is cash.

    Args:
        values: Value of each asset, [B, N], finite.
        tradable: Whether each asset may be bought, [B, N].
    """
    order = np.argsort(np.where(tradable, -values, np.inf), axis=-1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), axis=-1)
    size = -(-tradable.sum(-1, keepdims=True) // QUANTILES)
    return np.asarray(0.5 * equal_weights_over(tradable) + 0.5 * equal_weights_over((ranks < size) & tradable))


def build_action_map(config: EnvironmentConfig, assets: tuple[str, ...], features: Sequence[str] = ()) -> ActionMap:
    """Return the action map that the configuration names.

    Args:
        config: Action mode, scale of the softmax, partial trading, and kind, levels and features of the action table.
        assets: Names of the N risky assets.
        features: Names of the F asset features of the market.

    Raises:
        ConfigError: If a lattice would have too many actions, or a feature of the table is unknown.
    """
    if config.action_mode == "discrete":
        return build_action_table(config, assets, features)
    return SoftmaxMap(assets, config.logit_scale, config.partial_trading)


def action_map_of(values: Mapping[str, Any] | None, config: EnvironmentConfig, assets: tuple[str, ...]) -> ActionMap:
    """Rebuild an action map from the values that its `to_json` returned and the environment's settings.

    Args:
        values: Result of `to_json`; None stands for a `SoftmaxMap`.
        config: Settings of the environment, of which only those of continuous actions are used.
        assets: Names of the N risky assets.
    """
    if values is None:
        return SoftmaxMap(assets, config.logit_scale, config.partial_trading)
    share = values.get("equal_share")  # earlier versions did not write it and what follows
    return ActionTable(
        names=tuple(values["names"]),
        weights=np.array(values["weights"]),
        inverse_volatility=values["inverse_volatility"],
        equal_share=None if share is None else np.array(share),
        first_tilt=values.get("first_tilt"),
        feature_tilts=tuple(FeatureTilt(*tilt) for tilt in values.get("feature_tilts", ())),
    )


def build_action_table(config: EnvironmentConfig, assets: tuple[str, ...], features: Sequence[str] = ()) -> ActionTable:
    """Return the action table that the configuration names.

    Args:
        config: Kind of the action table, its levels, and its features.
        assets: Names of the N risky assets.
        features: Names of the F asset features of the market.

    Raises:
        ConfigError: If a lattice would have too many actions, or a feature of the table is unknown.
    """
    kind = config.action_table
    if kind == "auto":
        is_small = len(assets) <= AUTO_LATTICE_ASSETS and TRADABLE not in features
        kind = "lattice" if is_small else "ladder" if len(assets) <= AUTO_LADDER_ASSETS else "quantiles"
    if kind == "lattice":
        return lattice_table(assets, config.action_levels)
    if kind == "ladder":
        return ladder_table(assets, config.action_levels)
    columns = _tilted_columns(config.action_features, [name for name in features if name != TRADABLE])
    return ladder_table(assets, config.action_levels, columns)


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


def ladder_table(assets: tuple[str, ...], levels: int, columns: Mapping[str, int] | None = None) -> ActionTable:
    """Return a table of cash, equal weight at `levels` levels of exposure, inverse volatility, tilts, and hold.

    A tilt is half equal weight and half a single asset or, if `columns` is given, half the fifth of the assets in which
    a feature is highest or lowest. With a single asset, inverse volatility and the tilts are left out because they
    would repeat equal weight.

    Args:
        assets: Names of the N risky assets.
        levels: Number of levels of exposure above 0: 1 / levels, 2 / levels ... 1.
        columns: Column of each feature by which the table tilts; None tilts to each asset instead.
    """
    num_assets = len(assets)
    equal = equal_weights(num_assets)
    cash = np.append(np.zeros(num_assets), 1.0)
    names = [f"{step / levels:.0%} equal weight" if step else "cash" for step in range(levels + 1)]
    rows: list[FloatArray] = [equal * (step / levels) + cash * (1.0 - step / levels) for step in range(levels + 1)]
    share = [step / levels for step in range(levels + 1)]
    inverse_volatility = first_tilt = None
    by_feature: list[FeatureTilt] = []
    if num_assets > 1:
        inverse_volatility = len(names)
        names, rows, share = [*names, "inverse volatility"], [*rows, equal], [*share, 1.0]
        if columns is None:
            first_tilt = len(names)
            names += [f"tilt {name}" for name in assets]
            rows += [0.5 * equal + 0.5 * np.eye(num_assets + 1)[i] for i in range(num_assets)]
            share += [0.5] * num_assets
        for name, column in (columns or {}).items():
            by_feature += [FeatureTilt(len(names), column, True), FeatureTilt(len(names) + 1, column, False)]
            names += [f"{_HIGHEST}{name}", f"tilt lowest {name}"]
            rows, share = [*rows, equal, equal], [*share, 1.0, 1.0]
    return ActionTable(
        (*names, "hold"),
        np.array([*rows, cash]),
        inverse_volatility,
        np.array([*share, 0.0]),
        first_tilt,
        tuple(by_feature),
    )


def _tilted_columns(chosen: tuple[str, ...], features: Sequence[str]) -> dict[str, int]:
    """Return the columns of the features by which a table tilts: those `chosen`, or a choice if there are none.

    Raises:
        ConfigError: If a chosen feature is not among `features`.
    """
    for name in chosen:
        if name not in features:
            raise ConfigError(
                f"environment.action_features must be asset features of the market, got {name} (those of the market "
                f"are {', '.join(features)}). Correct the name, or switch the feature on in market.features."
            )
    if not chosen:
        of_kinds = [[name for name in features if re.fullmatch(rf"{kind}_\d+", name)] for kind in TILTED_KINDS]
        longest = [max(names, key=lambda name: int(name.rpartition("_")[2])) for names in of_kinds if names]
        chosen = tuple(longest or features[:1])
    return {name: features.index(name) for name in chosen}
