"""Guards against columns that are not prices, implausible moves and implausible results.

The thresholds lie beyond the extremes of about 400 real series over all windows of at least 60 rows; the series include
bankruptcies and prices of one cent. Their largest median move is 12.5 %, their largest share of moves above 50 % is
14 %, and the range of their logarithms is at least 0.36 of the root of the summed squared moves. A cryptocurrency with
a volatility of 10 % a day has a median move of 7 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.dates import Dates
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.frequency import WEEKDAYS
from rllib_portfolio.market.sources import BUNDLED
from rllib_portfolio.market.universe import Universe

MIN_ROWS = 60
"""Fewest rows that are judged; in fewer rows a few extreme days would decide."""
MAX_MEDIAN_MOVE = 0.15
"""Largest median absolute move of a day; for longer periods it grows with the square root of their length."""
MAX_MEDIAN_MOVE_OF_COUNTS = 0.08
MIN_COUNT = 1000
"""Whole numbers with at least this median are a volume if their median move is above 8 %."""
JUMP, MAX_SHARE_OF_JUMPS = 0.5, 0.15
MIN_WANDERING, MIN_MEDIAN_MOVE = 0.3, 0.002
"""A random walk hardly ever stays within 0.3 of the root of its summed squared moves; noise around a level does. So do
pegged prices, but their median move is below 0.2 %."""
MIN_ROWS_OF_NOISE = 120
"""Fewest rows in which noise is distinguished from a random walk."""
LARGEST_TIMES_MEDIAN = 8.0
MIN_WANDERING_OF_SCORES = 0.75
"""Threshold for whole numbers between 0 and 100 (scores), which revert more slowly than noise."""

MIN_MOVE, MAX_MOVE = -0.6, 1.5
"""Moves from one row to the next beyond these are listed and must be accepted by the user (market.accept_moves)."""
NUM_LISTED = 10
SPLITS = (3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 100)
"""Recognised ratios of splits. A 2-for-1 split is a fall of 50 %, which is not listed."""
SPLIT_TOLERANCE = 0.04
UNDONE = 0.2
"""Two moves in a row are a bad tick if their sum is below this fraction of the first, in logarithms."""

MAX_ANNUAL_RETURN, MAX_SHARPE_RATIO = 2.0, 4.0
MIN_YEARS = 0.25
"""Shortest window, in years, whose annual figures are judged."""

ACCEPT = "set market.accept_moves to true"


class Move(NamedTuple):
    """A move from one row to the next that must be accepted by the user (market.accept_moves)."""

    asset: str
    day: np.datetime64
    size: float
    hint: str

    def __str__(self) -> str:
        return f"{self.asset} {self.day} {_percent(self.size, '+')}{f' ({self.hint})' if self.hint else ''}"


def require_prices(name: str, values: FloatArray, periods_per_year: int, source: str) -> None:
    """Raise a DataError if `doubt` says that a column does not hold prices.

    Args:
        name: Name of the column.
        values: Positive numbers, [T].
        periods_per_year: Rows per year.
        source: Where the table came from, for messages.
    """
    found = doubt(values, periods_per_year)
    if found is not None:
        measured, kind = found
        raise DataError(
            f"{name} must be a column of prices, got {measured} ({source}). It looks like {kind}: leave it out of "
            f"market.assets or of the table; if it is a price, {ACCEPT}."
        )


def doubt(values: FloatArray, periods_per_year: int) -> tuple[str, str] | None:
    """Return why values cannot be prices, or None if they may be prices.

    Args:
        values: Positive numbers, [T].
        periods_per_year: Rows per year; moves over longer periods are larger.

    Returns:
        A phrase for what was measured and a phrase for what the values may be, or None.
    """
    steps = np.diff(values)
    if len(values) < MIN_ROWS or not steps.any():
        return None
    is_whole = bool((values == np.round(values)).all())
    if is_whole and steps.min() >= 0.0 and (steps > 0.0).mean() >= 0.5:
        return f"whole numbers that never fall, from {values[0]:.0f} to {values[-1]:.0f}", "row numbers or dates"
    moves = values[1:] / values[:-1] - 1.0
    median, jumps = float(np.median(np.abs(moves))), float((np.abs(moves) > JUMP).mean())
    is_count = is_whole and float(np.median(values)) >= MIN_COUNT
    kind = "a volume" if is_count else "a volume, a score or a return"
    largest = MAX_MEDIAN_MOVE_OF_COUNTS if is_count else MAX_MEDIAN_MOVE
    if median > largest * max(1.0, WEEKDAYS / periods_per_year) ** 0.5:
        return f"numbers that move by {_percent(median)} on the median row", kind
    if jumps > MAX_SHARE_OF_JUMPS and periods_per_year > WEEKDAYS / 2:
        return f"numbers that move by more than 50 % on {_percent(jumps)} of the rows", kind
    is_score = is_whole and values.min() <= 20.0 and 80.0 <= values.max() <= 100.0
    least = MIN_WANDERING_OF_SCORES if is_score else MIN_WANDERING
    if len(values) >= MIN_ROWS_OF_NOISE and median >= MIN_MEDIAN_MOVE and _wandering(values) < least:
        ratio = values.max() / values.min()
        return (
            f"numbers that move by {_percent(median)} on the median row and come back to the same level (the largest "
            f"is {ratio:.3g} times the smallest)",
            "a score" if is_score else kind,
        )
    return None


def _wandering(values: FloatArray) -> float:
    """Return the range of the logarithms over the root of their summed squared moves: about 1.6 for a random walk.

    Moves are limited to a multiple of the median one, so that bad ticks that are undone do not look like noise.
    """
    logs = np.log(values)
    sizes = np.abs(np.diff(logs))
    sizes = np.minimum(sizes, LARGEST_TIMES_MEDIAN * np.median(sizes))
    return float(np.ptp(logs) / np.sqrt((sizes**2).sum()))


# ---------------------------------------------------------------- moves


def extreme_moves(
    dates: Dates, assets: tuple[str, ...], returns: FloatArray, universe: Universe | None = None
) -> tuple[Move, ...]:
    """Return the moves beyond -60 % or +150 % from one row to the next, ordered by day.

    A loss at the end of a life is stated by the user, and is not listed.

    Args:
        dates: Days or moments, datetime64 [T].
        assets: Names of the N assets.
        returns: Simple returns, [T, N]; row 0 is zero.
        universe: The universe, or None for a complete table.
    """
    is_loss = returns < MIN_MOVE
    if universe is not None:
        is_loss &= universe.listed
    rows, columns = np.nonzero(is_loss | (returns > MAX_MOVE))
    return tuple(
        Move(assets[column], dates[row], float(returns[row, column]), _hint(returns[:, column], row))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    )


def _hint(returns: FloatArray, row: int) -> str:
    """Return a hint on the likely cause of a move: a bad tick or an unadjusted split."""
    gross = 1.0 + float(returns[row])
    if gross <= 0.0:
        return "nothing is left"
    for other, when in ((row + 1, "the next row undoes it"), (row - 1, "it undoes the row before")):
        both = gross * (1.0 + float(returns[other])) if 0 < other < len(returns) else 0.0
        if both > 0.0 and abs(math.log(both)) < UNDONE * abs(math.log(gross)):
            return f"{when}: looks like a bad tick"
    ratio = max(gross, 1.0 / gross)
    split = min(SPLITS, key=lambda number: abs(ratio / number - 1.0))
    if abs(ratio / split - 1.0) > SPLIT_TOLERANCE:
        return ""
    return f"looks like an unadjusted {f'{split}-for-1' if gross < 1.0 else f'1-for-{split}'} split"


def move_notes(
    dates: Dates,
    assets: tuple[str, ...],
    returns: FloatArray,
    config: MarketConfig,
    universe: Universe | None = None,
) -> tuple[str, ...]:
    """Return a note that lists the extreme moves of a table, or counts them if the configuration accepts them.

    There is no note without such moves. Those of the bundled universe are known and need not be accepted.

    Args:
        dates: Days or moments, datetime64 [T].
        assets: Names of the N assets.
        returns: Simple returns, [T, N]; row 0 is zero.
        config: The source of the data, and whether extreme moves are accepted.
        universe: The universe, or None for a complete table.
    """
    moves = () if config.data == BUNDLED else extreme_moves(dates, assets, returns, universe)
    if not moves:
        return ()
    told = f" were accepted (market.accept_moves): {len(moves)}" if config.accept_moves else f": {_listed(moves)}"
    return (f"Moves beyond -60 % or +150 % from one row to the next{told}.",)


def unaccepted_moves(market: MarketData, config: MarketConfig) -> tuple[Move, ...]:
    """Return the extreme moves that the user must accept; there are none in simulated markets.

    Args:
        market: The market.
        config: The source of its data, and whether extreme moves are accepted.
    """
    if config.accept_moves or isinstance(config.data, dict) or BUNDLED in (config.data, market.source):
        return ()
    return extreme_moves(market.dates, market.assets, market.returns, market.universe)


def require_accepted_moves(market: MarketData, config: MarketConfig) -> None:
    """Raise a DataError that lists the first extreme moves if there are any that the user has not accepted.

    Args:
        market: The market.
        config: The source of its data, and whether extreme moves are accepted.
    """
    moves = unaccepted_moves(market, config)
    if moves:
        raise DataError(
            f"moves from one row to the next must be between -60 % and +150 %, got {len(moves)} beyond: "
            f"{_listed(moves)} ({market.source}). Correct the prices. If the moves are real, {ACCEPT}."
        )


def _listed(moves: tuple[Move, ...]) -> str:
    more = f"; and {len(moves) - NUM_LISTED} more" if len(moves) > NUM_LISTED else ""
    return "; ".join(map(str, moves[:NUM_LISTED])) + more


# ---------------------------------------------------------------- results


def implausible_result(table: pd.DataFrame, market: MarketData, num_days: int) -> str | None:
    """Return a warning if a result is implausibly high, with the asset whose moves are the least plausible.

    Simulated markets may be designed for such results and give no warning.

    Args:
        table: One row per strategy, with `annual_return` and `sharpe_ratio`.
        market: Market of the back-test.
        num_days: Rows of the back-test.
    """
    is_simulated = market.fitted.get("features", {}) is None
    found = table[(table["annual_return"] > MAX_ANNUAL_RETURN) | (table["sharpe_ratio"] > MAX_SHARPE_RATIO)]
    if found.empty or is_simulated or num_days < MIN_YEARS * market.periods_per_year:
        return None
    worst = found.sort_values("annual_return", na_position="first").iloc[-1]
    moves = market.returns[1:]
    is_move = np.ones_like(moves, dtype=np.bool_)
    if market.universe is not None:
        is_move = market.universe.quoted[1:] & market.universe.listed[:-1]  # neither a halt nor an end
    num_moves = np.maximum(is_move.sum(axis=0), 1)
    logs = np.where(is_move, np.log1p(np.maximum(moves, -1.0 + 1e-12)), 0.0)  # a total loss counts as a large one
    growth = logs.sum(axis=0) / num_moves * market.periods_per_year
    median = np.array(
        [
            np.median(np.abs(column[kept])) if kept.any() else 0.0
            for column, kept in zip(moves.T, is_move.T, strict=True)
        ]
    )
    measures = [
        growth / math.log1p(MAX_ANNUAL_RETURN),
        median / MAX_MEDIAN_MOVE,
        (is_move & (np.abs(moves) > JUMP)).sum(axis=0) / num_moves / MAX_SHARE_OF_JUMPS,
        np.abs(logs).max(axis=0) / math.log1p(MAX_MOVE),
    ]
    column = int(np.max(measures, axis=0).argmax())
    row, annual = int(np.abs(logs[:, column]).argmax()), float(np.expm1(growth[column]))
    return (
        f"Warning: {worst.name} earns {_percent(float(worst['annual_return']))} a year at a Sharpe ratio of "
        f"{worst['sharpe_ratio']:.1f}, above the plausible limits of 200 % a year and a Sharpe ratio of 4. Check "
        f"{market.assets[column]} first, whose prices are the least plausible: it earns {_percent(annual)} a year, "
        f"moves by {_percent(float(median[column]))} on the median row, and by "
        f"{_percent(float(moves[row, column]), '+')} on {market.dates[row + 1]}. If all prices are right, a strategy "
        "may use information from the future."
    )


def _percent(share: float, sign: str = "") -> str:
    return f"{100.0 * share:{sign},.3g} %" if abs(share) < 10.0 else f"{100.0 * share:{sign},.0f} %"
