"""The scramble test: replace every price after day t, and require that everything known at t stays bit-identical.

The test has two forms. For t inside the training window the fitted models stay frozen; for t at its end or later they
are fitted anew. With an execution lag of L days, the decisions that are traded up to the close of t + L are known at t,
too. Prices after t may change the weights to which a portfolio has drifted by then, but no observation or decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.audit.differences import (
    changed_entry,
    differences,
    first_difference,
    require_same_features,
    scrambled,
    with_another_future,
)
from rllib_portfolio.audit.specimen import Specimen
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.lineup import all_strategies
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env.checker import Counterexample
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.market import CASH, MarketData, Window, prepare_market
from rllib_portfolio.policies.strategy import MarketView, Strategy

WALK_DAYS = 45
"""Number of compared days, in which baselines that are fitted every 21 days are fitted three times."""
SHARES = (0.25, 0.5, 0.75)

_AFTER = "once the prices after {date} are replaced"


def require_causal_custom_features(specimen: Specimen) -> None:
    """Scramble the prices of each feature of the user.

    This runs first, because a market with a feature that fails is refused.

    Raises:
        Counterexample: If a feature depends on later prices; names the feature, the day and both values.
    """
    table = specimen.table
    if table is None:
        return
    for row in (int(share * len(table.prices)) for share in SHARES):
        after = _AFTER.format(date=table.dates[row])
        require_same_features(specimen.custom_features, table, scrambled(table, row), row, after)


def require_causal(specimen: Specimen) -> str:
    """Run both forms of the scramble test on several days.

    Returns:
        A text about what was covered.

    Raises:
        Counterexample: If a value depends on later prices; names the first one, its day and both values.
    """
    market, table = specimen.market, specimen.table
    lag = specimen.environment.execution_lag
    inside = _rows(market, market.windows.get("train", market.windows["all"]), lag)
    if table is None:
        rows = [*inside, *_later_rows(market, lag)]
        for row in rows:
            _require_same(market, with_another_future(market, row), row, specimen, _AFTER)
        return f"{_covered(market, specimen, rows)}; the simulator's own features are not computed again"
    frozen = prepare_market(table, specimen.market_config, market.fitted)
    rows = [*inside, *_later_rows(market, lag)] if specimen.is_newer_data else inside
    for row in rows:
        other = prepare_market(scrambled(table, row), specimen.market_config, market.fitted)
        _require_same(frozen, other, row, specimen, f"{_AFTER}, with all fitted models kept")
    if specimen.is_newer_data:
        return f"{_covered(market, specimen, rows)} with all fitted models kept: nothing is fitted on newer prices"
    fitted = prepare_market(table, specimen.market_config) if specimen.fitted is not None else market
    later = _later_rows(market, lag)
    for row in later:
        other = prepare_market(scrambled(table, row), specimen.market_config)
        where = f"{_AFTER} and everything is fitted again"
        entry = changed_entry(fitted.fitted, other.fitted)
        if entry is not None:
            raise Counterexample(f"{entry} {where.format(date=market.dates[row])}.")
        _require_same(fitted, other, row, specimen, where)
    return (
        f"{_covered(market, specimen, inside)} with all fitted models kept, and {_days(market, later)} with "
        "everything fitted again"
    )


def _require_same(one: MarketData, other: MarketData, row: int, specimen: Specimen, where: str) -> None:
    """Require that two markets agree in all that is known at the close of `row`.

    The comparison covers arrays, observations, decisions and traded weights.
    """
    where = where.format(date=one.dates[row])
    lag, days = specimen.environment.execution_lag, specimen.environment.rebalance_days
    found = differences(one, other, row)
    if found:
        raise Counterexample(f"{found[0]} {where}.")
    if one.first_row != other.first_row:
        raise Counterexample(f"the first row with features is {one.first_row}, and {other.first_row} {where}.")
    start, stop = _walk_window(one, row + lag, days)
    where = f"{where}, at an execution lag of {lag}" if lag else where
    dates = one.dates[start - 1 : stop - 1]
    observations = [
        _observations(market, (start, stop), specimen.environment, specimen.seed) for market in (one, other)
    ]
    names = [f"observation {name}" for name in ObservationLayout(one).names]
    difference = first_difference("observation", names, dates, *observations)
    if difference is not None:
        raise Counterexample(f"{difference} {where}.")
    walks = [_walks(market, (start, stop), specimen) for market in (one, other)]
    num_known = stop - start - lag  # with a lag, weights traded after `row` also depend on the drift
    for ours, theirs in zip(*walks, strict=True):
        of_strategy = [f"of {asset} by {ours.name}" for asset in (*one.assets, CASH)]
        wanted, held = ([f"the {what} weight {asset}" for asset in of_strategy] for what in ("target", "traded"))
        for difference in (
            first_difference(ours.name, wanted, dates[::days], ours.targets, theirs.targets),
            first_difference(ours.name, held, dates, ours.weights[:num_known], theirs.weights[:num_known]),
        ):
            if difference is not None:
                raise Counterexample(f"{difference} {where}.")


def _strategies(specimen: Specimen, market: MarketData) -> list[Strategy]:
    """Return the policy, if there is one, and every baseline."""
    policies = [] if specimen.policy is None else [specimen.policy]
    return [*policies, *all_strategies(market)]


@dataclass(frozen=True, eq=False)
class _Noted:
    """A strategy that records its decisions."""

    strategy: Strategy
    answers: list[NDArray[Any] | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.strategy.name

    def decide(self, view: MarketView) -> NDArray[Any] | None:
        answer = self.strategy.decide(view)
        self.answers.append(None if answer is None else np.array(answer))
        return answer


class _Walk(NamedTuple):
    """The decisions of one strategy, [K, N+1] with NaN for "hold", and its traded weights on each day, [T, N+1]."""

    name: str
    targets: NDArray[Any]
    weights: NDArray[Any]


def _walks(market: MarketData, window: Window, specimen: Specimen) -> list[_Walk]:
    """Return the decisions and the traded weights of each strategy over the window."""
    noted = [_Noted(strategy) for strategy in _strategies(specimen, market)]
    # Decisions and weights do not depend on costs. Impact at the volatility of replaced prices could exceed the wealth.
    walks = backtest(market, window, noted, specimen.environment.model_copy(update={"impact": 0.0}))
    hold = np.full(market.num_assets + 1, np.nan)
    return [
        _Walk(walk.name, np.stack([hold if answer is None else answer for answer in one.answers]), walk.weights)
        for one, walk in zip(noted, walks, strict=True)
    ]


def _observations(market: MarketData, window: Window, config: EnvironmentConfig, seed: int) -> NDArray[Any]:
    """Return the observation on each day of the window under fixed random actions, [D, O]."""
    whole = config.model_copy(update={"episode_days": None, "rebalance_days": 1})
    simulation = Simulation(market, window, whole, random_start=False)
    space = simulation.action_space
    space.seed(seed)
    state = simulation.fresh([np.random.default_rng(seed)])
    rows = [simulation.observe(state)[0]]
    for _ in range(window[1] - window[0] - 1):
        state, *_ = simulation.step(state, np.asarray(space.sample())[None])
        rows.append(simulation.observe(state)[0])
    return np.stack(rows)


def _walk_window(market: MarketData, last: int, rebalance_days: int) -> Window:
    """Return a window of at most `WALK_DAYS` days whose last decision is traded at the close of `last`."""
    num_days = min(WALK_DAYS, last + 2 - market.windows["all"][0]) - 1  # days after the first decision
    return last + 1 - num_days // rebalance_days * rebalance_days, last + 2


def _rows(market: MarketData, window: Window, execution_lag: int) -> list[int]:
    """Return the days t of a window; each leaves a day of returns after the last decision that is known at t."""
    start, stop = window
    rows = [start + int(share * (stop - start)) for share in SHARES]
    return sorted({min(row, market.num_days - 2 - execution_lag) for row in rows})


def _later_rows(market: MarketData, execution_lag: int) -> list[int]:
    """Return the last day of training and the middle day of each later window."""
    windows = market.windows
    last = [windows["train"][1] - 1] if "train" in windows else []
    later = [sum(windows[name]) // 2 for name in ("validation", "test", "new") if name in windows]
    return sorted({min(row, market.num_days - 2 - execution_lag) for row in [*last, *later]})


def _covered(market: MarketData, specimen: Specimen, rows: list[int]) -> str:
    num_features = len(market.asset_feature_names) * market.num_assets + len(market.market_feature_names)
    who = f"{len(all_strategies(market))} baselines"
    if specimen.policy is not None:
        who = f"{specimen.policy.name} and {who}"
    lag = specimen.environment.execution_lag
    traded = f"t + {lag}" if lag else "t"
    return (
        f"{num_features} features on every day up to t, observations and decisions of {who} for the trades of the "
        f"{WALK_DAYS} days up to {traded}, t = {_days(market, rows)}"
    )


def _days(market: MarketData, rows: list[int]) -> str:
    return ", ".join(str(market.dates[row]) for row in rows)
