"""The check of determinism: one seed gives the same bits twice, in the scalar and in the vector environment."""

from __future__ import annotations

from rllib_portfolio.audit.differences import changed_entry, differences, first_difference, require_same_features
from rllib_portfolio.audit.specimen import Specimen
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.env.checker import Counterexample, require_repeatable
from rllib_portfolio.market import CASH, prepare_market

WALK_DAYS = 252


def require_deterministic_custom_features(specimen: Specimen) -> None:
    """Compute each feature of the user twice from the same prices, and compare the values.

    Raises:
        Counterexample: If a value differs; names the feature, the day and both values.
    """
    if specimen.table is not None:
        same, last = specimen.table, len(specimen.table.prices) - 1
        where = "when it is computed again from the same prices"
        require_same_features(specimen.custom_features, same, same, last, where)


def require_deterministic(specimen: Specimen) -> str:
    """Prepare the market twice, run both environments twice, back-test the strategies twice, and compare the results.

    Returns:
        A text about what was covered.

    Raises:
        Counterexample: If a value differs; names the first one and both values.
    """
    market = specimen.market
    _require_same_market(specimen)
    episodes = require_repeatable(specimen.env, specimen.seed)
    window = market.windows.get("test", market.windows["all"])
    window = (window[0], min(window[1], window[0] + WALK_DAYS))
    names = _require_same_walks(specimen, window)
    prepared = "the market prepared twice; " if specimen.table is not None else ""
    if specimen.trained_on is not None:
        prepared += "the run's market.npz the same; "
    return (
        f"{prepared}{episodes}; the back-tests of {names} twice over {market.dates[window[0]]} to "
        f"{market.dates[window[1] - 1]}"
    )


def _require_same_market(specimen: Specimen) -> None:
    trained_on = specimen.trained_on
    if trained_on is not None:
        found = differences(trained_on, specimen.market, trained_on.num_days)
        if found:
            raise Counterexample(f"{found[0]} in the run's own market and when it is prepared again from its prices.")
    if specimen.table is None:
        return
    again = prepare_market(specimen.table, specimen.market_config, specimen.fitted)
    found = differences(specimen.market, again, specimen.market.num_days)
    entry = changed_entry(specimen.market.fitted, again.fitted)
    if found or entry:
        raise Counterexample(f"{found[0] if found else entry} when the market is prepared again from the same prices.")


def _require_same_walks(specimen: Specimen, window: tuple[int, int]) -> str:
    market = specimen.market
    strategies = [EqualWeight(), *([] if specimen.policy is None else [specimen.policy])]
    walks = [backtest(market, window, strategies, specimen.environment) for _ in range(2)]
    dates = market.dates[window[0] - 1 : window[1] - 1]
    for one, other in zip(*walks, strict=True):
        columns = [f"the weight of {asset} by {one.name}" for asset in (*market.assets, CASH)]
        difference = first_difference(one.name, columns, dates, one.weights, other.weights)
        if difference is not None:
            raise Counterexample(f"{difference} when the same window is back-tested again.")
    return " and ".join(strategy.name for strategy in strategies)
