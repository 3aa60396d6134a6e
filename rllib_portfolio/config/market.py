"""Settings of the market: prices, splits, features."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from rllib_portfolio.config.fields import ColumnName, DateWindow, Days, RowsPerYear, StrictModel
from rllib_portfolio.config.user_values import is_annual_rate

RegressionDays = Annotated[int, Field(ge=3, le=1_000_000)]
"""The window of a regression with two coefficients, which needs a third observation to have a residual."""
Lag = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
PATHS_BESIDE_DATA = ("index_path", "membership_path", "exits_path", "assets_path")
"""Settings of a market that name files, apart from `data`."""


class FeatureConfig(StrictModel):
    """The features of an observation. An empty tuple or null switches a feature off. All windows count rows."""

    log_return_days: tuple[Days, ...] = (1, 5, 21)
    """Log return over each horizon, per asset."""
    momentum_days: tuple[Annotated[int, Field(ge=22, le=1_000_000)], ...] = (126, 252)
    """Log return over each horizon without its last 21 days, per asset."""
    volatility_days: tuple[Annotated[int, Field(ge=2, le=1_000_000)], ...] = (21, 63)
    """Sample standard deviation of daily log returns, per asset."""
    drawdown_days: Days | None = 252
    """Distance below the highest close of the window, per asset."""
    rsi_days: Days | None = 14
    """Relative strength index (Wilder), scaled to [-1, 1], per asset."""
    macd_days: tuple[Days, Days, Days] | None = (12, 26, 9)
    """Fast, slow and signal span of the MACD histogram, divided by the price and within [-1, 1], per asset."""
    moving_average_days: tuple[Days, ...] = (50, 200)
    """Log distance of the close from its moving average, per asset."""
    long_momentum_days: tuple[Days, Days] | None = None
    """Log return from the second to the first of two distances; [252, 756] covers months 13 to 36, per asset."""
    max_return_days: Days | None = None
    """Highest daily log return, per asset."""
    beta_days: RegressionDays | None = None
    """Slope of daily log returns on those of the index, which the table must have, per asset."""
    residual_volatility_days: RegressionDays | None = None
    """Standard deviation of what this regression leaves of the daily log returns, per asset."""
    amihud_days: Days | None = None
    """Log of Amihud's illiquidity, the mean of |return| / (price times volume); needs a column `volume` per asset. The
    price is the one that is read: a close adjusted for dividends understates early dollar volumes."""
    dollar_volume_days: Days | None = None
    """Log of the mean of price times volume, with the same price; needs a column `volume` per asset."""
    cross_section: Literal["values", "ranks"] = "values"
    """values: asset features as they are. ranks: their ranks among the assets of the same day, scaled to [-1, 1]."""
    index: bool = True
    """Volatility (21, 63 days) and trend (21, 252 days) of the index, if the market has one."""
    num_gmm_regimes: int = Field(3, ge=0, le=8)
    """Components of a Gaussian mixture on market return and volatility; 0 or 1 switches it off."""
    num_hmm_regimes: int = Field(2, ge=0, le=4)
    """States of a hidden Markov model on market returns, whose filtered probabilities are the features; 0 or 1 switches
    it off."""
    user_columns: bool = True
    """Use the extra columns of the user's own table, of the market (VIX, regimes, the one that `cash_rate` names) and
    per asset."""
    available_lag: Lag | dict[str, Lag] = 0
    """Rows after which a value of a user column is known; a mapping gives them by column, and 0 for the others."""
    custom: tuple[str, ...] = ()
    """The user's own features, each as `module:function`. A function maps prices (DataFrame) to a DataFrame with a
    column per asset, or to a Series."""

    def lag_of(self, column: str) -> int:
        """Return the number of rows after which a value of a user column is known; names are compared in lower case."""
        lags = self.available_lag
        if isinstance(lags, dict):
            return {name.strip().lower(): lag for name, lag in lags.items()}.get(column.strip().lower(), 0)
        return lags

    @property
    def largest_lag(self) -> int:
        """The largest number of rows after which a value of a user column is known."""
        lags = self.available_lag
        return max(lags.values(), default=0) if isinstance(lags, dict) else lags

    @field_validator("long_momentum_days")
    @classmethod
    def _first_is_nearer(cls, days: tuple[int, int] | None) -> tuple[int, int] | None:
        if days is not None and days[0] >= days[1]:
            raise PydanticCustomError("distances", "the first distance must be smaller than the second")
        return days


class MarketConfig(StrictModel):
    """The source of the prices, their split by date, and what is computed from them."""

    data: str | dict[str, Any] = "sp500"
    """`sp500`, the path of a table or of a folder or zip file with one table per asset (.csv, .csv.gz, .parquet,
    .feather), or a synthetic market as {source: kelly, ...}."""
    kind: Literal["prices", "returns"] = "prices"
    """returns: the table and the index hold simple returns as fractions, as Kenneth French's library does in per cent.
    Each becomes a price path that starts at 1."""
    date_format: str | None = None
    """Format of the days in the table and in the index file, such as %d/%m/%Y; null recognises ISO 8601, YYYYMMDD, and
    day and month in the order that the table settles."""
    index_path: str | None = None
    """Table with the index level, for the user's own data."""
    assets: tuple[ColumnName, ...] | None = None
    """A subset of the universe, in this order; null takes all."""
    membership_path: str | None = None
    """CSV file with the periods in which assets may be held (asset, start, end); null: membership.csv beside the table,
    if there is one."""
    exits_path: str | None = None
    """CSV file with the ends of assets (asset, date, return, reason); null: exits.csv beside the table, if there is
    one."""
    assets_path: str | None = None
    """CSV file with what is known of assets (asset, group, cost_bps); null: assets.csv beside the table, if there is
    one."""
    default_exit_return: float | None = Field(None, ge=-1, le=10)
    """Return of selling an asset whose prices end before the table without a return in exits.csv, from its last price;
    null: such assets are an error."""
    gaps: Literal["refuse", "halt"] = "refuse"
    """Missing prices between the first and the last price of an asset, beyond `fill_days`. halt: trading was halted,
    and weights are frozen."""
    min_history_days: int | None = Field(None, ge=0, le=1_000_000)
    """Prices that an asset must have before the one at which it may be bought, where assets list late; null: until all
    its price features are defined. With fewer, those that are missing are 0."""
    fill_days: int = Field(0, ge=0, le=30)
    """Forward-fill at most this many missing days in a row within the life of an asset; 0 fills none."""
    cash_rate: float | ColumnName = 0.02
    """Annual rate that cash earns, as a fraction, or the name of a column of the table."""
    train: DateWindow | None = None
    validation: DateWindow | None = None
    test: DateWindow | None = None
    """Date windows; null: 1990-2011 / 2012-2015 / 2016-2022 for `sp500`, 60 / 20 / 20 % of the days for other data.
    The purge removes the end of the training window, as many days as the longest feature looks back."""
    periods_per_year: RowsPerYear | None = None
    """Rows per year, for annual figures; null or `auto` infers them from the dates (252 for weekdays and simulated
    markets)."""
    accept_moves: bool = False
    """Accept columns that do not look like prices, and moves beyond -60 % or +150 % from one row to the next."""
    features: FeatureConfig = FeatureConfig()
    observation_filter: Literal["train_window", "running", "none"] = "train_window"
    """train_window: standardise features by moments of the training window that are robust to a single outlying asset,
    and limit them to 32 in absolute value. running: use RLlib's running MeanStdFilter. none: raw features."""

    @field_validator("date_format")
    @classmethod
    def _format_tells_the_month(cls, written: str | None) -> str | None:
        sample = datetime(2021, 12, 31)
        try:
            read = None if written is None else datetime.strptime(sample.strftime(written), written)
        except ValueError:
            read = datetime.min
        if read is not None and (read.year, read.month) != (sample.year, sample.month):
            raise PydanticCustomError("date_format", "a format must have year and month, such as %d/%m/%Y")
        return written

    @field_validator("periods_per_year", mode="before")
    @classmethod
    def _auto_infers(cls, periods: Any) -> Any:
        return None if periods == "auto" else periods

    @field_validator("cash_rate", mode="before")
    @classmethod
    def _rate_is_a_fraction(cls, rate: Any) -> Any:
        if isinstance(rate, int | float) and not is_annual_rate(rate):
            raise PydanticCustomError("annual_rate", "an annual rate must be a fraction (divide per cent by 100)")
        return rate
