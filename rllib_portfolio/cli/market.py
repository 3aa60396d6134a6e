"""`python -m rllib_portfolio.market validate|process FILE`: check a price file, or write it with market regimes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rllib_portfolio.atomic import whole_file
from rllib_portfolio.cli.flags import add_flags
from rllib_portfolio.cli.settings import own_config
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.config.files import parse_assignment
from rllib_portfolio.config.user_values import user_path
from rllib_portfolio.dates import are_intraday
from rllib_portfolio.errors import ConfigError, DataError, file_error, reason
from rllib_portfolio.market.columns import INDEX_COLUMN, PRICE_PREFIX
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.frequency import span
from rllib_portfolio.market.lives import listed_names
from rllib_portfolio.market.loading import checked_table
from rllib_portfolio.market.plausibility import NUM_LISTED, require_accepted_moves, unaccepted_moves
from rllib_portfolio.market.prepare import market_log_returns, prepare_market
from rllib_portfolio.market.regimes import RegimeModels
from rllib_portfolio.market.sources import BUNDLED, FITTED_UNTIL, read_table
from rllib_portfolio.market.table import PriceTable
from rllib_portfolio.market.validation import validate_table
from rllib_portfolio.new_folder import made
from rllib_portfolio.shown_text import displayable

_DESCRIPTION = """\
Check a price file, or add market regimes to it.

Both commands read the file with the market settings of a training run. `validate` prints how it read the columns, and
ends with an error if training would refuse the prices. `process` writes the prices and the probabilities of the market
regimes to a Parquet file.
"""
DEFAULT_OUTPUT = Path("data/processed/dataset_with_regimes.parquet")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the two commands and their flags."""
    parser.description = _DESCRIPTION
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("validate", "check a price file"), ("process", "write a price file with market regimes")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("file", help="table of prices, folder of tables, or `sp500` for the bundled stocks")
        add_flags(command, "--index-path", help="table of the index level")
        command.add_argument("--fill-days", metavar="N", help="forward-fill at most N missing days in a row")
        command.add_argument(
            "--cash-rate", metavar="RATE", help="annual rate of cash as a fraction, or the name of a column"
        )
        add_flags(command, "--config", help="YAML file whose section `market` is used")
        add_flags(
            command, "--set", metavar="market.A=V",
            help="override a market setting, such as market.assets=[AAPL,MSFT]; may be repeated",
        )  # fmt: skip
        if name == "process":
            add_flags(
                command, "--output", type=Path, default=DEFAULT_OUTPUT, help="where to write (default: %(default)s)"
            )


def execute(options: argparse.Namespace) -> int:
    """Check or write the price file, and return the exit code."""
    config = _config(options)
    if options.command == "process":
        _require_output(options)
    table = read_table(config)
    told = table.notes[0] if options.command == "validate" and config.data != BUNDLED else None
    if told is not None:  # also where a check fails afterwards
        print(displayable(told), flush=True)
    table = checked_table(table, config)
    market = prepare_market(table, config, is_for_training=False)
    if options.command == "process":
        if market.universe is not None:
            raise DataError(
                f"the table must have a price of each asset on each day to be processed, got a universe that changes "
                f"({market.source}). Use the table itself: its regimes are computed whenever it is loaded."
            )
        _write(processed_table(validate_table(table, config), market), options.output)
    for line in _summary(market, told):
        print(displayable(line))
    if options.command == "process":
        print(displayable(f"written     {options.output}"))
    else:
        for move in unaccepted_moves(market, config)[NUM_LISTED:]:  # a note of the market lists the first ones
            print(displayable(f"note        {move}"))
        require_accepted_moves(market, config)
    return 0


def processed_table(table: PriceTable, market: MarketData) -> pd.DataFrame:
    """Return the table that `process` writes.

    Its columns are prices as `price_*`, the user's columns of the assets as `<name>_<asset>`, the index, the user's
    other columns and regime probabilities. The probabilities are missing in the first rows, which the features need,
    and replace columns of the same name.

    Args:
        table: The prices, after the checks of `validate_table`.
        market: The market that was prepared from them, with the fitted regime models.

    Returns:
        One row per day of `table`, in the format that `load_market` reads.
    """
    columns = {f"{PRICE_PREFIX}{name}": table.prices[name] for name in table.prices.columns}
    if table.index is not None:
        columns[INDEX_COLUMN] = table.index
    for name, values in table.asset_extra.items():
        columns |= {f"{name}_{asset}": values[asset] for asset in values.columns}
    columns |= {name: table.extra[name] for name in table.extra.columns}
    regimes = RegimeModels.from_json(market.fitted).probabilities(market_log_returns(table))
    columns |= {name: pd.Series(values, index=table.prices.index) for name, values in regimes.items()}
    processed = pd.DataFrame(columns).rename_axis("date")
    processed.attrs[FITTED_UNTIL] = str(market.dates[market.windows["train"][1] - 1])  # Parquet keeps this attribute
    return processed


def _config(options: argparse.Namespace) -> MarketConfig:
    """Return the market settings: flags override `--set`, which overrides `--config`."""
    settings = dict(parse_assignment(text) for text in options.set)
    for name in settings:
        if not name.startswith("market."):
            raise ConfigError(f"--set must name a setting of the market, got {name}. Write --set market.fill_days=3.")
    settings["market.data"] = options.file
    if options.index_path is not None:
        settings["market.index_path"] = options.index_path
    for name in ("fill_days", "cash_rate"):
        if (text := getattr(options, name)) is not None:
            settings |= dict([parse_assignment(f"market.{name}={text}")])
    return own_config(options.config, settings).market


def _require_output(options: argparse.Namespace) -> None:
    """Raise `ConfigError` if --output does not end in .parquet or is one of the input files."""
    output: Path = options.output
    if output.suffix.lower() != ".parquet":
        raise ConfigError(f"output must end in .parquet, got {output}. Correct its name.")
    if output.resolve() in [
        user_path(path).resolve() for path in (options.file, options.index_path) if path is not None
    ]:
        raise ConfigError(f"output must be another file than those it is made of, got {output}. Choose another.")


def _write(frame: pd.DataFrame, path: Path) -> None:
    try:
        with made(path.parent), whole_file(path) as file:
            frame.to_parquet(file)
    except OSError as error:
        text = f"--output must be writable, got {path} ({reason(error)})"
        raise file_error(error, text, "Choose another.") from None


def _summary(market: MarketData, told: str | None) -> list[str]:
    """Return the lines on a market, without a note that was told before."""
    days, unit = market.dates, "rows" if are_intraday(market.dates) else "days"
    windows = [
        f"{name:12}{days[start]} to {days[stop - 1]}, {stop - start} {unit}"
        for name, (start, stop) in market.windows.items()
    ]
    return [
        f"source      {market.source}",
        f"{unit:12}{market.num_days}, {days[0]} to {days[-1]}",
        f"assets      {listed_names(market.assets)}",
        f"rows/year   {market.periods_per_year}; features look back {market.first_row} rows, "
        f"{span(market.first_row, market.periods_per_year)}",
        *windows,
        f"features    {len(market.asset_feature_names)} per asset, {len(market.market_feature_names)} of the market",
        f"sha256      {market.data_hash}",
        *(f"note        {note}" for note in market.notes if note != told),
    ]
