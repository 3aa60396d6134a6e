"""The scramble test: replace every price after t, and nothing that is known at t may change, not in the last bit.

In both forms: t inside the training window with what was fitted frozen; and t at or after its end with everything
fitted anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.audit.certificate import Counterexample
from rllib_portfolio.audit.differences import (
    changed_entry,
    differences,
    feature_cells,
    first_difference,
    scrambled,
    with_another_future,
)
from rllib_portfolio.audit.specimen import Specimen
from rllib_portfolio.config import EnvironmentConfig, ExecutionConfig, import_function
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.evaluation import all_strategies, backtest
from rllib_portfolio.evaluation.policy import Strategy
from rllib_portfolio.market import CASH, MarketData, PriceTable, Window, prepare_market

WALK_DAYS = 45
"""Decisions up to t that are compared: baselines that are fitted every 21 days are fitted three times."""
SHARES = (0.25, 0.5, 0.75)

_AFTER = "once the prices after {date} are replaced"


def require_causal_custom_features(specimen: Specimen) -> None:
    """The user's own features by themselves: first of all, since a market with a bad one is refused.

    Raises:
        Counterexample: Names the feature, the day and both values.
    """
    table = specimen.table
    if table is None:
        return
    for name in specimen.custom_features:
        function = import_function(name, "features.custom")
        for row in (int(share * len(table.prices)) for share in SHARES):
            others = scrambled(table, row)
            _require_same_feature(name, function, table, others, row)


def require_causal(specimen: Specimen) -> str:
    """Scramble after several days, in both forms.

    Returns:
        What was covered, as a sentence.

    Raises:
        Counterexample: The first thing that knew of later prices, with its day and both values.
    """
    market, table = specimen.market, specimen.table
    inside = _rows(market, market.windows.get("train", market.windows["all"]))
    if table is None:
        rows = [*inside, *_later_rows(market)]
        for row in rows:
            _require_same(market, with_another_future(market, row), row, specimen, _AFTER)
        return f"{_covered(market, specimen, rows)}; the simulator's own features are taken as they are"
    frozen = prepare_market(table, specimen.market_config, market.fitted)
    rows = [*inside, *_later_rows(market)] if specimen.is_newer_data else inside
    for row in rows:
        other = prepare_market(scrambled(table, row), specimen.market_config, market.fitted)
        _require_same(frozen, other, row, specimen, f"{_AFTER}, what was fitted being frozen")
    if specimen.is_newer_data:
        return f"{_covered(market, specimen, rows)} with the fit frozen: nothing is fitted on newer prices"
    fitted = prepare_market(table, specimen.market_config) if specimen.fitted is not None else market
    later = _later_rows(market)
    for row in later:
        other = prepare_market(scrambled(table, row), specimen.market_config)
        where = f"{_AFTER} and everything is fitted anew"
        entry = changed_entry(fitted.fitted, other.fitted)
        if entry is not None:
            raise Counterexample(f"{entry} {where.format(date=market.dates[row])}.")
        _require_same(fitted, other, row, specimen, where)
    return (
        f"{_covered(market, specimen, inside)} with the fit frozen, and {_days(market, later)} with everything fitted "
        "anew"
    )


def _require_same_feature(
    name: str, function: Callable[..., Any], table: PriceTable, others: PriceTable, row: int
) -> None:
    values = function(table.prices.copy())
    cells, changed = (feature_cells(result)[: row + 1] for result in (values, function(others.prices.copy())))
    columns = [f"feature {name} of {asset}" for asset in getattr(values, "columns", [])] or [f"feature {name}"]
    difference = first_difference(name, columns, table.dates, cells, changed)
    if difference is not None:
        raise Counterexample(f"{difference} {_AFTER.format(date=table.dates[row])}.")


def _require_same(one: MarketData, other: MarketData, row: int, specimen: Specimen, where: str) -> None:
    """Everything that is known at the close of `row`: arrays, observations, baseline weights and policy decisions."""
    where = where.format(date=one.dates[row])
    found = differences(one, other, row)
    if found:
        raise Counterexample(f"{found[0]} {where}.")
    if one.first_row != other.first_row:
        raise Counterexample(f"the first row with features is {one.first_row}, and {other.first_row} {where}.")
    start, stop = _walk_window(one, row)
    dates = one.dates[start - 1 : stop - 1]
    observations = [
        _observations(market, (start, stop), specimen.environment, specimen.seed) for market in (one, other)
    ]
    names = [f"observation {name}" for name in _observation_names(one, specimen.environment)]
    difference = first_difference("observation", names, dates, *observations)
    if difference is not None:
        raise Counterexample(f"{difference} {where}.")
    walks = [_weights(market, (start, stop), specimen) for market in (one, other)]
    for name, weights in walks[0].items():
        columns = [f"the weight of {asset} by {name}" for asset in (*one.assets, CASH)]
        difference = first_difference(name, columns, dates, weights, walks[1][name])
        if difference is not None:
            raise Counterexample(f"{difference} {where}.")


def strategies_of(specimen: Specimen, market: MarketData) -> list[Strategy]:
    """The policy, where there is one, and every baseline."""
    policies = [] if specimen.policy is None else [specimen.policy]
    return [*policies, *all_strategies(market)]


def _weights(market: MarketData, window: Window, specimen: Specimen) -> dict[str, NDArray[Any]]:
    """Weights that each strategy traded to at each decision of the window."""
    execution = ExecutionConfig(**{name: getattr(specimen.environment, name) for name in ExecutionConfig.model_fields})
    return {
        result.name: result.weights for result in backtest(market, window, strategies_of(specimen, market), execution)
    }


def _observations(market: MarketData, window: Window, config: EnvironmentConfig, seed: int) -> NDArray[Any]:
    """What the environment shows at each decision of the window, under fixed random actions, [D, O]."""
    whole = config.model_copy(update={"episode_days": None, "rebalance_days": 1})
    simulation = Simulation(market, window, whole, num_portfolios=1, random_start=False)
    space = simulation.action_space
    space.seed(seed)
    simulation.reset(np.array([0]), [np.random.default_rng(seed)])
    rows = [simulation.observe()[0]]
    for _ in range(window[1] - window[0] - 1):
        simulation.step(np.asarray(space.sample())[None])
        rows.append(simulation.observe()[0])
    return np.stack(rows)


def _observation_names(market: MarketData, config: EnvironmentConfig) -> Sequence[str]:
    return Simulation(market, market.windows["all"], config, 1, random_start=False).layout.names


def _walk_window(market: MarketData, row: int) -> Window:
    """The window whose last decision is at the close of `row`."""
    return max(market.windows["all"][0], row + 2 - WALK_DAYS), row + 2


def _rows(market: MarketData, window: Window) -> list[int]:
    start, stop = window
    rows = [start + int(share * (stop - start)) for share in SHARES]
    return sorted({min(row, market.num_days - 2) for row in rows})


def _later_rows(market: MarketData) -> list[int]:
    """The last day of training, and one in the middle of each later window."""
    windows = market.windows
    last = [windows["train"][1] - 1] if "train" in windows else []
    later = [sum(windows[name]) // 2 for name in ("validation", "test", "new") if name in windows]
    return sorted({min(row, market.num_days - 2) for row in [*last, *later]})


def _covered(market: MarketData, specimen: Specimen, rows: list[int]) -> str:
    num_features = len(market.asset_feature_names) * market.num_assets + len(market.market_feature_names)
    who = f"{len(all_strategies(market))} baselines"
    if specimen.policy is not None:
        who = f"{specimen.policy.name} and {who}"
    return (
        f"{num_features} features on every day up to t, observations and weights of {who} at the last "
        f"{WALK_DAYS} decisions, t = {_days(market, rows)}"
    )


def _days(market: MarketData, rows: list[int]) -> str:
    return ", ".join(str(market.dates[row]) for row in rows)
