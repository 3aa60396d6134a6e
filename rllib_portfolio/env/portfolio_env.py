"""The scalar and the vector portfolio environment: thin adapters that keep the state of a stateless `Simulation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pandas as pd
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rllib_portfolio.config import EnvironmentConfig, FeatureConfig, MarketConfig
from rllib_portfolio.config.user_values import user_path, validated
from rllib_portfolio.dates import are_intraday, parse_date, rows_between
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.env.transition import State, StepOutcome, nothing_done, with_rows
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window, load_market

WindowChoice = str | tuple[str, str] | list[str]
_WINDOW_NAMES = ("train", "validation", "test", "all")


class PortfolioEnv(gym.Env[NDArray[np.float32], Any]):
    """Allocate wealth among N risky assets and cash, day by day, on a real or a synthetic market.

    ## Description
    An episode starts with wealth 1, all in cash. The agent observes features and its portfolio's weights as known at
    the close of day t - L, where L is the execution lag. It chooses target weights, trades to them at the close of day
    t, pays transaction costs, and earns the returns of day t + 1. No observation depends on a price after day t - L.

    ## Action space
    `continuous`: `Box(-1, 1, (N + 1,), float32)`; target weights are softmax(logit_scale * action), cash last. The zero
    action is the uniform portfolio, and every corner of the simplex is reached to within 1e-3. With `partial_trading`
    there is one more component, the last: only the part sigmoid(logit_scale * action) of the way from the weights known
    at close t - L (see below) to these weights is traded.
    `discrete`: `Discrete(K)`; the index of a target portfolio in a table. The last one holds the drifted weights;
    `env.unwrapped.action_names` lists all of them.

    ## Observation space
    `Box(float32, (N F + M + N + 1,))`, names in `env.unwrapped.observation_names`:

    | index | observation | min | max |
    |---|---|---|---|
    | 0 .. N F - 1 | feature f of asset i at i F + f | -max float32 | max float32 |
    | N F .. N F + M - 1 | features of the market (index, regimes, user columns) | -max float32 | max float32 |
    | N F + M .. end | weights known at close t - L, cash last | 0 | 1 |

    For L = 0 these are the drifted weights w'_t. For L = 1 they are the weights held after the trade at the close of
    day t - 1, because w'_t would reveal the returns of day t. At the first decision all wealth is in cash.

    ## Rewards
    All rewards are computed after transaction costs. `excess_log_return` (default) is log(V_end / V_start) less the log
    growth of the uniform portfolio over all N + 1 assets, rebalanced daily without transaction costs. `log_return`,
    `drawdown_penalised` and `mean_variance` have no benchmark; `differential_sharpe` uses the return in excess of cash.
    `active_log_return`, `active_mean_variance` and `differential_information` use the return in excess of 1/N over the
    N risky assets, without transaction costs. A user's own function, given as `module:function`, takes a
    `rllib_portfolio.env.rewards.StepOutcome` (with the returns of cash and of 1/N) and returns an array [B].

    ## Starting state
    Wealth is 1, all in cash; the first trade pays costs like any other. With `random_start` the first day is drawn
    uniformly among those that leave room for a whole episode; otherwise it is the first day of the window.

    ## Episode end
    Truncated (never terminated) after `episode_days` days or at the end of the window.

    ## Info
    `date` (of the close), `wealth`, `weights` (target), `drifted_weights`, `turnover`, `cost`, `portfolio_return`,
    `asset_returns` (cash last), `bound_violation` (by how much the weights still violate a limit). All values are as of
    `date` and serve as records: with an execution lag, a decision must not use them.

    ## Arguments
    data: "sp500", the path of a table, a DataFrame of prices by day, a synthetic market as a dict, or a `MarketData`
    (prepared once for many environments). Default "sp500".
    window: "train", "validation", "test", "all", or (first date, last date), both inclusive. Default "train".
    cash_rate: Annual rate that cash earns, as a fraction. Default 0.02 (a `MarketData` has its own).
    features: A `FeatureConfig` or a dict of its fields. Default: `FeatureConfig()`.
    Any field of `rllib_portfolio.config.EnvironmentConfig`: action_mode, logit_scale, partial_trading, action_table,
    action_levels, action_features, reward, sharpe_decay, drawdown_penalty, risk_aversion, cost_bps, impact, fund_size,
    max_participation, exit_cost_bps, execution_lag, rebalance_days, max_weight, max_group_weight, max_turnover,
    min_cash, episode_days, random_start.

    ## Version history
    v0: first version.

    Raises:
        ConfigError: If an argument cannot be used.
        DataError: If the prices cannot be used.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        data: str | Path | Mapping[str, Any] | pd.DataFrame | MarketData = "sp500",
        window: WindowChoice = "train",
        *,
        cash_rate: float | None = None,
        features: FeatureConfig | Mapping[str, Any] | None = None,
        render_mode: None = None,
        **settings: Any,
    ) -> None:
        market = resolve_market(data, cash_rate, features)
        self.simulation = _simulation(market, window, settings)
        self.state = self.simulation.fresh([np.random.default_rng(0)])
        self.observation_space = self.simulation.layout.space
        self.action_space = self.simulation.action_space
        self.render_mode = render_mode

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of each number of an observation."""
        return self.simulation.layout.names

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the discrete actions, or of the components of a continuous action."""
        return self.simulation.action_map.names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seed of the random generator that draws the first day; None continues with the present generator.
            options: Ignored.

        Returns:
            The first observation, float32 [D], and `info`.
        """
        super().reset(seed=seed)
        self.state = self.simulation.fresh([self.np_random])
        return self._answer(nothing_done(1, self.simulation.market.num_assets))

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Trade, and earn the returns of the days up to the next decision."""
        self.state, reward, outcome = self.simulation.step(self.state, np.asarray(action)[None])
        observation, info = self._answer(outcome)
        return observation, float(reward[0]), False, bool(self.state.is_over[0]), info

    def _answer(self, outcome: StepOutcome) -> tuple[NDArray[np.float32], dict[str, Any]]:
        info = self.simulation.info(self.state, outcome)
        return self.simulation.observe(self.state)[0], {name: value[0] for name, value in info.items()}


class PortfolioVectorEnv(gym.vector.VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """`num_envs` portfolios computed in common arrays; each equals a `PortfolioEnv` bit for bit.

    A finished environment is reset by the next step, which ignores its action and gives reward 0
    (`AutoresetMode.NEXT_STEP`). With seed s, environment i has the random generator of seed s + i. `info` holds arrays
    with leading axis B.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [],
        "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        data: str | Path | Mapping[str, Any] | pd.DataFrame | MarketData = "sp500",
        window: WindowChoice = "train",
        *,
        cash_rate: float | None = None,
        features: FeatureConfig | Mapping[str, Any] | None = None,
        render_mode: None = None,
        **settings: Any,
    ) -> None:
        market = resolve_market(data, cash_rate, features)
        self.num_envs = num_envs
        self.simulation = _simulation(market, window, settings)
        self.state = self.simulation.fresh([np.random.default_rng(0)] * num_envs)
        self.single_observation_space = self.simulation.layout.space
        self.single_action_space = self.simulation.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self._generators: list[np.random.Generator] = []
        self._finished = np.zeros(num_envs, dtype=np.bool_)
        self._mask = np.ones(num_envs, dtype=np.bool_)
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self._never = np.zeros(num_envs, dtype=np.bool_)

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of each number of an observation."""
        return self.simulation.layout.names

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the discrete actions, or of the components of a continuous action."""
        return self.simulation.action_map.names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: One seed s, which gives environment i the seed s + i, or a sequence of one seed for each environment.
                None continues with the present generators, or draws new seeds at the first reset.
            options: Ignored.

        Returns:
            The first observations, float32 [B, D], and `info`.

        Raises:
            ConfigError: If there are several seeds, but not one for each environment.
        """
        if seed is not None or not self._generators:
            self._generators = [seeding.np_random(s)[0] for s in self._seeds(seed)]
        self.state = self.simulation.fresh(self._generators)
        self._finished = np.zeros(self.num_envs, dtype=np.bool_)
        return self._answer(nothing_done(self.num_envs, self.simulation.market.num_assets))

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one step in every environment; environments that had finished are reset instead."""
        if not self._generators:
            raise ResetNeeded("step must follow a reset, got none (PortfolioVectorEnv). Call reset first.")
        actions = np.array(actions)
        if self._finished.any() and len(actions) == self.num_envs:
            actions[self._finished] = 0  # ignored, so that it may be invalid
        self.state, reward, outcome = self.simulation.step(self.state, actions)
        if self._finished.any():
            which = np.flatnonzero(self._finished)
            started = self.simulation.fresh([self._generators[index] for index in which])
            self.state = with_rows(self.state, started, which)
            outcome = with_rows(outcome, nothing_done(len(which), self.simulation.market.num_assets), which)
            reward[which] = 0.0
        self._finished = self.state.is_over
        observations, info = self._answer(outcome)
        return observations, reward, self._never.copy(), self._finished.copy(), info

    def get_state(self) -> dict[str, Any]:
        """Return everything that later steps depend on, including the random generators, as picklable values."""
        return {
            "simulation": self.state._asdict(),
            "finished": self._finished.copy(),
            "generators": [generator.bit_generator.state for generator in self._generators],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `get_state` returned."""
        self.state = State(**state["simulation"])
        self._finished = state["finished"].copy()
        self._generators = [seeding.np_random(0)[0] for _ in state["generators"]]
        for generator, bits in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = bits

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ConfigError(f"seed must be one number or {self.num_envs} of them, got {len(seed)}. Give one each.")
        return seed

    def _answer(self, outcome: StepOutcome) -> tuple[NDArray[np.float32], dict[str, Any]]:
        info: dict[str, Any] = self.simulation.info(self.state, outcome)
        if not self._masks:
            self._masks = {f"_{name}": self._mask for name in info}
        return self.simulation.observe(self.state), info | self._masks


def resolve_market(
    data: str | Path | Mapping[str, Any] | pd.DataFrame | MarketData,
    cash_rate: float | None = None,
    features: FeatureConfig | Mapping[str, Any] | None = None,
) -> MarketData:
    """Return the market that the arguments of an environment name.

    Each process reads and prepares a named market only once.

    Args:
        data: The name `sp500`, a path, the parameters of a synthetic market, a DataFrame of prices, or a prepared
            market.
        cash_rate: Annual rate that cash earns, as a fraction; None keeps the rate of the market.
        features: Settings of the features; None takes the defaults.

    Raises:
        ConfigError: If an argument cannot be used, or `features` is given with a market that is already prepared.
        DataError: If the prices cannot be used.
    """
    data = str(data) if isinstance(data, Path) else data
    prepared = isinstance(data, MarketData) or (isinstance(data, str) and data.endswith(".npz"))
    if prepared and features is not None:
        raise ConfigError("features must be left out beside a prepared market, got both. Prepare the market with them.")
    if isinstance(data, MarketData):
        market = data
    else:
        settings: dict[str, Any] = {"data": dict(data) if isinstance(data, Mapping) else data}
        if features is not None:
            settings["features"] = features if isinstance(features, FeatureConfig) else dict(features)
        if isinstance(data, str | Mapping):
            config = validated(MarketConfig, settings, "environment arguments")
            market = _provided.get(str(data)) or _read_market(config.model_dump_json(), _modified_at(data))
        else:
            market = load_market(settings)
    return market if cash_rate is None else market.with_cash_rate(cash_rate)


_provided: dict[str, MarketData] = {}


def provide_market(path: str, market: MarketData) -> None:
    """Register a prepared market that environments of this process use if their `data` is `path`.

    The file need not exist.

    Args:
        path: Value of an environment's `data` for which `market` is used.
        market: The prepared market.
    """
    _provided[path] = market


@lru_cache(maxsize=8)
def _read_market(config_json: str, modified_at: float) -> MarketData:
    return load_market(MarketConfig.model_validate_json(config_json))


def _modified_at(data: str | Mapping[str, Any]) -> float:
    path = user_path(data) if isinstance(data, str) else None
    return path.stat().st_mtime if path is not None and path.is_file() else 0.0


def resolve_window(market: MarketData, window: WindowChoice) -> Window:
    """Return the half-open row range of a window.

    Args:
        market: The market, with its named windows.
        window: Name of a window, or its first and last date, both inclusive, in ISO 8601.

    Raises:
        ConfigError: If the name is unknown or no trading day lies between the dates.
    """
    if isinstance(window, str):
        if window not in market.windows:
            raise ConfigError(
                f"window must be one of {', '.join(_WINDOW_NAMES)} or (first date, last date), got {window!r} "
                f"({market.source}). Correct the name."
            )
        return market.windows[window]
    try:
        first, last = (_date(day, market) for day in window)
    except ValueError as error:
        raise ConfigError(f"window must be two ISO dates, got {window!r} ({error}). Write 2016-01-01.") from None
    start, stop = rows_between(market.dates, first, last)
    if stop <= start:
        raise ConfigError(
            f"window must hold a trading day, got {first} to {last} ({market.source} has {market.dates[0]} to "
            f"{market.dates[-1]}). Move it."
        )
    return start, stop


def _date(day: object, market: MarketData) -> np.datetime64:
    if isinstance(day, str):
        return parse_date(day, market.dates)
    moment = np.datetime64(day)  # type: ignore[call-overload]
    return cast(np.datetime64, moment if are_intraday(market.dates) else moment.astype("datetime64[D]"))


def _simulation(market: MarketData, window: WindowChoice, settings: Mapping[str, Any]) -> Simulation:
    config = validated(EnvironmentConfig, settings, "environment arguments")
    random_start = config.random_start if config.random_start is not None else window == "train"
    return Simulation(market, resolve_window(market, window), config, random_start)
