from __future__ import annotations

import numpy as np

from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.observation import EXACT_ROWS, ObservationLayout
from rllib_portfolio.market import MarketData

ROW = {"execution_lag": 0, "random_start": False}


def test_an_observation_is_asset_features_then_market_features_then_drifted_weights(tiny_market: MarketData) -> None:
    # Row 7. Per asset its row and 1000 (i + 1) + row; the market's minus the row; the weights as given.
    layout = ObservationLayout(tiny_market)
    weights = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]])
    observations = layout.observe(np.array([7, 60]), weights)
    expected = [[7, 1007, 7, 2007, 7, 3007, -7, 0.1, 0.2, 0.3, 0.4], [60, 1060, 60, 2060, 60, 3060, -60, 0, 0, 0, 1]]
    np.testing.assert_array_equal(observations, np.array(expected, dtype=np.float32))
    assert observations.dtype == np.float32
    for row, weight, observation in zip((7, 60), weights, observations, strict=True):
        alone = layout.observe_one(row, weight)
        np.testing.assert_array_equal(alone, observation)
        assert alone.dtype == np.float32


def test_an_observation_by_reference_is_the_row_and_the_weights(tiny_market: MarketData) -> None:
    layout = ObservationLayout(tiny_market)
    weights = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]])
    references = layout.refer(np.array([7, 60]), weights)
    np.testing.assert_array_equal(references, np.array([[7, *weights[0]], [60, *weights[1]]], dtype=np.float32))
    assert references.dtype == np.float32
    assert layout.has_references
    assert int(np.float32(EXACT_ROWS - 1)) == EXACT_ROWS - 1
    assert int(np.float32(EXACT_ROWS + 1)) != EXACT_ROWS + 1


def test_features_are_the_markets_own_arrays(tiny_market: MarketData) -> None:
    asset, market = ObservationLayout(tiny_market).features
    assert np.shares_memory(asset, tiny_market.asset_features)
    assert np.shares_memory(market, tiny_market.market_features)


def test_every_number_of_an_observation_has_its_name(tiny_market: MarketData) -> None:
    env = PortfolioEnv(tiny_market, **ROW)
    assert env.observation_names == (
        "A.row",
        "A.asset_and_row",
        "B.row",
        "B.asset_and_row",
        "C.row",
        "C.asset_and_row",
        "minus_row",
        "weight.A",
        "weight.B",
        "weight.C",
        "weight.CASH",
    )
    observation, _ = env.reset()
    named = dict(zip(env.observation_names, observation.tolist(), strict=True))
    assert named["B.asset_and_row"] == 2004.0  # the decision before the first return of the window, that of row 5
    assert named["minus_row"] == -4.0
    assert named["weight.CASH"] == 1.0


def test_an_observation_is_the_callers_own(tiny_market: MarketData) -> None:
    env = PortfolioEnv(tiny_market, **ROW)
    first, info = env.reset()
    kept = first.copy()
    env.step(np.array([1.0, 0.0, 0.0, -1.0]))
    np.testing.assert_array_equal(first, kept)
    first[:], info["drifted_weights"][:], info["weights"][:] = np.nan, np.nan, np.nan
    observation, reward, *_, info = env.step(np.zeros(4))
    assert np.isfinite(observation).all()
    assert np.isfinite(reward)
    assert np.isfinite(info["drifted_weights"]).all()
