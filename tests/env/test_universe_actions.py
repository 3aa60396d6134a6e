"""Action tables in a universe: what each action holds of what is tradable, and which actions there are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.env.action_map import ActionInputs, SoftmaxMap, softmax_weights
from rllib_portfolio.env.action_table import (
    ActionTable,
    action_map_of,
    build_action_table,
    ladder_table,
    lattice_table,
    quantile_weights,
)
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.universe import TRADABLE
from tests.universes import universe_market

ABCD = ("A", "B", "C", "D")
FEATURES = ("momentum_126", "momentum_252", "rsi_14", "log_return_21", "log_return_5", TRADABLE)


def table_of(num_assets: int, features: tuple[str, ...] = FEATURES, **config: Any) -> ActionTable:
    settings = EnvironmentConfig(action_mode="discrete", **config)
    return build_action_table(settings, tuple(f"S{i}" for i in range(num_assets)), features)


def targets_of(table: ActionTable, inputs: ActionInputs) -> np.ndarray:
    """Targets of all actions, [K, N+1], for the inputs of one day; the held portfolio is 30 % of the first asset."""
    num_actions, num_assets = table.num_actions, inputs.volatility.shape[-1]
    held = np.zeros((num_actions, num_assets + 1))
    held[:, 0], held[:, -1] = 0.3, 0.7
    repeated = ActionInputs(*(None if each is None else np.repeat(each[None], num_actions, 0) for each in inputs))
    return table.target(np.arange(num_actions), held, repeated)


# ---------------------------------------------------------------- rows as functions of what is tradable


def test_the_ladder_over_what_is_tradable_by_hand() -> None:
    # B and D trade: equal weight is 1/2 each, the inverse volatilities are 1/0.02 : 1/0.01 = 1 : 2.
    inputs = ActionInputs(np.array([0.5, 0.02, 0.5, 0.01]), np.array([False, True, False, True]))
    table = ladder_table(ABCD, levels=2)
    assert table.names[-6:] == ("inverse volatility", "tilt A", "tilt B", "tilt C", "tilt D", "hold")
    expected = [
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.0, 0.25, 0.0, 0.25, 0.5],
        [0.0, 0.5, 0.0, 0.5, 0.0],
        [0.0, 1 / 3, 0.0, 2 / 3, 0.0],
        [0.0, 0.25, 0.0, 0.25, 0.5],  # the half of A is cash
        [0.0, 0.75, 0.0, 0.25, 0.0],
        [0.0, 0.25, 0.0, 0.25, 0.5],
        [0.0, 0.25, 0.0, 0.75, 0.0],
        [0.3, 0.0, 0.0, 0.0, 0.7],
    ]
    np.testing.assert_allclose(targets_of(table, inputs), expected, rtol=1e-15, atol=1e-16)
    (available,) = table.available(ActionInputs(tradable=inputs.tradable[None]))
    assert available.tolist() == [True, True, True, True, False, True, False, True, True]


def test_where_nothing_trades_all_is_cash_or_held() -> None:
    inputs = ActionInputs(np.full(4, 0.01), np.zeros(4, bool), np.zeros((4, len(FEATURES))))
    for table in (ladder_table(ABCD, 2), ladder_table(ABCD, 2, {"momentum": 0})):
        targets = targets_of(table, inputs)
        np.testing.assert_array_equal(targets[:-1], np.tile([0.0, 0.0, 0.0, 0.0, 1.0], (table.num_actions - 1, 1)))
        (available,) = table.available(ActionInputs(tradable=np.zeros((1, 4), bool)))
        assert np.flatnonzero(available).tolist() == [0, table.hold]


def test_a_lattice_has_the_portfolios_of_what_is_tradable() -> None:
    table = lattice_table(("A", "B"), levels=2)
    (available,) = table.available(ActionInputs(tradable=np.array([[True, False]])))
    names = [name for name, is_available in zip(table.names, available, strict=True) if is_available]
    assert names == [name for name in table.names if "B" not in name]
    targets = targets_of(table, ActionInputs(np.full(2, 0.01), np.array([True, False])))
    np.testing.assert_array_equal(targets[table.names.index("50% A + 50% B")], [0.5, 0.0, 0.5])


def test_every_action_is_available_in_a_complete_market() -> None:
    for each in (SoftmaxMap(ABCD, 10.0), ladder_table(ABCD, 2), lattice_table(ABCD, 1)):
        assert each.available(ActionInputs(np.full((1, 4), 0.01))) is None
        assert not each.needs_features


# ---------------------------------------------------------------- tilts by a feature


def test_a_fifth_of_the_tradable_assets_by_hand() -> None:
    # Six assets trade: their fifth, rounded up, is two. Of the equal 3s the first one counts; 9 does not trade.
    values = np.array([[1.0, 3.0, 9.0, 3.0, 5.0, 3.0, 0.0]])
    tradable = np.array([[True, True, False, True, True, True, True]])
    expected = np.array([[1.0, 4.0, 0.0, 1.0, 4.0, 1.0, 1.0, 0.0]]) / 12.0
    np.testing.assert_allclose(quantile_weights(values, tradable), expected, rtol=1e-15)
    everything = np.ones((1, 7), bool)  # seven assets: again two
    expected = np.array([[1.0, 4.5, 4.5, 1.0, 1.0, 1.0, 1.0, 0.0]]) / 14.0
    values = np.array([[1.0, 8.0, 9.0, 3.0, 5.0, 3.0, 0.0]])
    np.testing.assert_allclose(quantile_weights(values, everything), expected, rtol=1e-15)


def test_quantiles_hold_the_extremes_of_the_features_with_the_longest_windows() -> None:
    table = table_of(70)
    assert table.names[5:] == (
        "inverse volatility",
        "tilt highest momentum_252",
        "tilt lowest momentum_252",
        "tilt highest log_return_21",
        "tilt lowest log_return_21",
        "hold",
    )
    assert table.needs_features
    assert table_of(3000).num_actions == table.num_actions
    rng = np.random.default_rng(0)
    features, tradable = rng.normal(size=(70, len(FEATURES))), rng.random(70) < 0.6
    for mask in (tradable, None):
        targets = targets_of(table, ActionInputs(rng.uniform(0.01, 0.02, 70), mask, features))
        trades = np.flatnonzero(tradable) if mask is not None else np.arange(70)
        size = -(-len(trades) // 5)
        for action, column, sign in ((6, 1, -1.0), (7, 1, 1.0), (8, 3, -1.0), (9, 3, 1.0)):
            expected = np.zeros(71)
            expected[trades] = 0.5 / len(trades)
            expected[sorted(trades, key=lambda i: sign * features[i, column])[:size]] += 0.5 / size
            np.testing.assert_allclose(targets[action], expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(
    ("num_assets", "features", "kind"),
    [
        (3, FEATURES[:-1], "lattice"),
        (3, FEATURES, "ladder"),
        (60, FEATURES, "ladder"),
        (60, FEATURES[:-1], "ladder"),
        (61, FEATURES, "quantiles"),
        (61, FEATURES[:-1], "quantiles"),
    ],
)
def test_auto_chooses_by_the_number_of_assets_and_no_lattice_in_a_universe(
    num_assets: int, features: tuple[str, ...], kind: str
) -> None:
    assert table_of(num_assets, features).names == table_of(num_assets, features, action_table=kind).names


def test_the_features_of_a_table_are_those_of_its_settings() -> None:
    table = table_of(5, action_table="quantiles", action_features=("rsi_14",))
    assert [name for name in table.names if "tilt" in name] == ["tilt highest rsi_14", "tilt lowest rsi_14"]
    assert table_of(5, ("mine", TRADABLE), action_table="quantiles").names[6:8] == (
        "tilt highest mine",
        "tilt lowest mine",
    )
    assert table_of(5, (TRADABLE,), action_table="quantiles").feature_tilts == ()
    for unknown in ("rsi_15", TRADABLE):
        with pytest.raises(
            ConfigError,
            match=rf"^environment\.action_features must be asset features of the market, got {unknown} \(those of the "
            r"market are momentum_126, .*log_return_5\)\. Correct the name, or switch the feature on",
        ):
            table_of(5, action_table="quantiles", action_features=(unknown,))


@pytest.mark.parametrize("kind", ["ladder", "quantiles"])
def test_a_table_comes_back_from_json_and_over_other_assets(kind: str) -> None:
    config = EnvironmentConfig(action_mode="discrete", action_table=kind)
    built = build_action_table(config, ABCD, FEATURES)
    again = action_map_of(json.loads(json.dumps(built.to_json())), config, ABCD)
    assert isinstance(again, ActionTable)
    rng = np.random.default_rng(1)
    for num_assets in (4, 9, 2):
        assets = tuple(f"T{i}" for i in range(num_assets))
        other, expected = again.over(assets), build_action_table(config, assets, FEATURES)
        assert other.names == expected.names
        volatility, features = rng.uniform(0.01, 0.02, num_assets), rng.normal(size=(num_assets, len(FEATURES)))
        for tradable in (None, rng.random(num_assets) < 0.7):
            inputs = ActionInputs(volatility, tradable, features)
            np.testing.assert_array_equal(targets_of(other, inputs), targets_of(expected, inputs))
    single = ladder_table(("A",), 4)
    assert single.over(("B",)).names == single.names


def test_what_an_action_needs_is_asked_for() -> None:
    table = table_of(5, action_table="quantiles")
    tilt = np.array([table.feature_tilts[0].action])
    with pytest.raises(ValueError, match=r"features must be given for a tilt by a feature, got none"):
        table.target(tilt, np.zeros((1, 6)), ActionInputs(np.full((1, 5), 0.01)))


# ---------------------------------------------------------------- padding, order, the environment


@pytest.mark.parametrize("kind", ["ladder", "quantiles"])
def test_assets_that_are_never_listed_change_no_target(kind: str) -> None:
    rng = np.random.default_rng(2)
    table, padded = table_of(6, action_table=kind), table_of(9, action_table=kind)
    volatility, features, tradable = rng.uniform(0.01, 0.02, 6), rng.normal(size=(6, 6)), rng.random(6) < 0.7
    targets = targets_of(table, ActionInputs(volatility, tradable, features))
    more = ActionInputs(
        np.append(volatility, np.zeros(3)), np.append(tradable, [False] * 3), np.vstack([features, np.ones((3, 6))])
    )
    of_padded = targets_of(padded, more)
    assert (of_padded[:, 6:9] == 0.0).all()
    kept = [padded.names.index(name) for name in table.names]
    np.testing.assert_allclose(np.delete(of_padded[kept], [6, 7, 8], axis=1), targets, rtol=1e-15, atol=1e-15)
    assert table.available(ActionInputs(tradable=tradable[None]))[0].tolist() == (
        padded.available(ActionInputs(tradable=more.tradable[None]))[0, kept].tolist()
    )


def test_permuting_the_assets_permutes_the_targets() -> None:
    rng = np.random.default_rng(3)
    table = table_of(11, action_table="quantiles")
    volatility, features, tradable = rng.uniform(0.01, 0.02, 11), rng.normal(size=(11, 6)), rng.random(11) < 0.7
    order = rng.permutation(11)
    targets = targets_of(table, ActionInputs(volatility, tradable, features))[:-1]
    permuted = targets_of(table, ActionInputs(volatility[order], tradable[order], features[order]))[:-1]
    np.testing.assert_allclose(permuted[:, :-1], targets[:, :-1][:, order], rtol=1e-13, atol=1e-16)


def test_the_softmax_leaves_out_what_does_not_trade() -> None:
    actions = np.random.default_rng(4).uniform(-1.0, 1.0, (3, 5))
    tradable = np.array([[True, False, True, True], [True, True, True, True], [False, False, False, False]])
    weights = SoftmaxMap(ABCD, 10.0).target(actions, np.zeros((3, 5)), ActionInputs(tradable=tradable))
    np.testing.assert_array_equal(weights[1], softmax_weights(actions[1:2], 10.0)[0])
    np.testing.assert_array_equal(weights[2], [0.0, 0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(weights[0, [0, 2, 3, 4]], softmax_weights(actions[:1, [0, 2, 3, 4]], 10.0)[0])
    assert weights[0, 1] == 0.0


@pytest.mark.parametrize("lag", [0, 1])
def test_an_environment_tilts_by_what_the_policy_sees(lag: int) -> None:
    market = universe_market(90, 12, seed=5)
    settings = {"action_mode": "discrete", "action_table": "quantiles", "execution_lag": lag, "random_start": False}
    env = PortfolioEnv(market, "all", **settings)
    assert env.action_names[-3:] == ("tilt highest last_return", "tilt lowest last_return", "hold")
    env.reset(seed=0)
    row, num_compared = int(env.state.row[0]), 0
    for _ in range(60):
        *_, info = env.step(env.action_names.index("tilt highest last_return"))
        seen, now = row - lag, row
        values, known = market.asset_features[seen, :, 0], market.universe.tradable[seen]
        wanted = quantile_weights(values[None], known[None])[0]
        buys = market.universe.tradable[now]
        if not market.universe.halted[now].any():  # a frozen holding would scale the others down
            np.testing.assert_allclose(info["weights"][:-1], np.where(buys, wanted[:-1], 0.0), rtol=1e-12, atol=1e-15)
            num_compared += 1
        row += 1
    assert num_compared > 10


def test_features_are_gathered_only_for_tables_that_need_them() -> None:
    market = universe_market(90, 4)
    for kind, is_needed in (("ladder", False), ("quantiles", True)):
        env = PortfolioVectorEnv(3, market, "all", action_mode="discrete", action_table=kind)
        env.reset(seed=0)
        features = env.simulation.action_inputs(env.state).features
        assert (features is not None) == is_needed
    rows = env.state.row - 1
    np.testing.assert_array_equal(features, market.asset_features[rows])
