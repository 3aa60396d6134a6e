"""The two pictures in which a strategy near 1/N can be seen, and the bands of weights, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.baselines import ConstantMix, EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.lineup import Lineup
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.reporting.inputs import ReportContext, ReportInputs, inputs_of_walks
from rllib_portfolio.reporting.plots import (
    active_weights_figure,
    bands_of,
    relative_figure,
    tilts,
    weights_figure,
)
from rllib_portfolio.reporting.value_series import inputs_of_values
from tests.backtest.hand_made import market_of

FREE = ExecutionConfig(cost_bps=0.0, execution_lag=0)
TWO_ASSETS = market_of([[0.0, 0.0], [0.0, 0.0], [0.10, 0.0], [0.0, 0.2]])
NO_FAILURES = pd.DataFrame(columns=["strategy", "date", "reason"])


def inputs_of(weights: list[float]) -> ReportInputs:
    """A constant mix beside 1/N, free of cost, over the two days of `TWO_ASSETS`."""
    walks = backtest(TWO_ASSETS, (2, 4), [ConstantMix(np.array(weights), "mine"), EqualWeight()], FREE)
    return inputs_of_walks(Lineup(walks, NO_FAILURES), ReportContext("two", TWO_ASSETS, (2, 4), FREE, ("mine",)))


def test_relative_wealth_is_the_ratio_of_the_two() -> None:
    # mine: 1.06, then 1.06 * 1.06; 1/N: 1.05, then 1.05 * 1.1
    figure = relative_figure(inputs_of([0.6, 0.3, 0.1]))
    (line,) = figure["data"]
    assert line["name"] == "mine"
    assert line["y"] == pytest.approx([1.06 / 1.05, 1.06**2 / (1.05 * 1.1)], rel=1e-4)
    (bar,) = figure["layout"]["shapes"]
    assert (bar["y0"], bar["y1"]) == (1.0, 1.0)


def test_active_weights_are_stacked_to_either_side_and_named() -> None:
    # 0.6 - 0.5, 0.3 - 0.5, 0.1 - 0: the sides are 0.2 high and deep
    figure = active_weights_figure(inputs_of([0.6, 0.3, 0.1]), "mine")
    named = [trace["name"] for trace in figure["data"] if trace.get("showlegend", True)]
    assert named[0] == "B −20.0 %"  # the largest first
    assert sorted(named[1:]) == ["A +10.0 %", "cash +10.0 %"]
    sides = {
        side: np.sum([trace["y"] for trace in figure["data"] if trace["stackgroup"] == side], axis=0)
        for side in ("above", "below")
    }
    np.testing.assert_allclose(sides["above"], [0.2, 0.2])
    np.testing.assert_allclose(sides["below"], [-0.2, -0.2])
    assert tilts(inputs_of([0.65, 0.3, 0.05]), "mine") == (
        "The active share of mine against 1/N is 20.0 % on average over these days. Largest mean tilts, as shares of "
        "the portfolio: overweight A (+15.0 %), cash (+5.0 %); underweight B (−20.0 %)."
    )


def test_value_series_have_relative_wealth_and_no_weights() -> None:
    mine, bar = np.linspace(1.0, 2.0, 20), np.linspace(1.0, 1.5, 20)
    inputs = inputs_of_values({"mine": mine}, pd.Series(bar, name="bar"))
    figure = relative_figure(inputs)
    assert figure["data"][0]["y"][-1] == pytest.approx(2.0 / 1.5, rel=1e-4)
    assert active_weights_figure(inputs, "mine") is None
    assert tilts(inputs, "mine") == ""
    assert relative_figure(inputs_of_values({"mine": mine})) is None


def test_beyond_the_ten_largest_assets_share_one_band_with_a_stated_share() -> None:
    # thirteen assets, the three smallest of 2 % each: 6 % together
    weights = np.array([[0.02] * 3 + [0.03] * 7 + [0.30, 0.20, 0.10]] * 4)
    bands = bands_of(weights, [f"asset {i}" for i in range(13)], "{:.1%}")
    largest = [label for label, _, _ in bands[:4]]
    assert largest == ["asset 10 30.0 %", "asset 11 20.0 %", "asset 12 10.0 %", "asset 3 3.0 %"]
    assert len(bands) == 11
    label, held, _ = bands[-1]
    assert label == "3 other assets 6.0 %"
    np.testing.assert_allclose(held.sum(axis=1), 0.06)
    assert len({colour for _, _, colour in bands}) == 11


def test_the_held_weights_add_up_to_all_with_cash_named() -> None:
    figure = weights_figure(inputs_of([0.6, 0.3, 0.1]), "mine")
    assert [trace["name"] for trace in figure["data"]] == ["A 60.0 %", "B 30.0 %", "cash 10.0 %"]
    np.testing.assert_allclose(np.sum([trace["y"] for trace in figure["data"]], axis=0), 1.0)
