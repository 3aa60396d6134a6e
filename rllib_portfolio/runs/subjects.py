"""Grouping of runs into the subjects of a verdict: runs that differ only in their seeds are one subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_portfolio.config import ExecutionConfig, MarketConfig, ResourceConfig, RunConfig
from rllib_portfolio.config.market import PATHS_BESIDE_DATA
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.ensemble import Ensemble
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.policies.strategy import Strategy
from rllib_portfolio.runs.folder import open_run_folder
from rllib_portfolio.runs.validation import best_policy
from rllib_portfolio.shown_text import LONGEST_NAME, displayable


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run: its folder, configuration, market and best policy."""

    run_dir: Path
    config: RunConfig
    market: MarketData
    policy: PortfolioPolicy

    @property
    def trained_until(self) -> np.datetime64:
        """Last day on which anything was fitted or selected, which is the last day of the validation window."""
        return self.market.dates[self.market.windows["validation"][1] - 1]


@dataclass(frozen=True, eq=False)
class Subject:
    """The strategy that one verdict is about.

    Attributes:
        strategy: The policy of a single seed, or the ensemble of several seeds.
        runs: The runs, each with one seed, or with several that were trained as one program.
        seeds: The policies of the seeds, as rows of their own; empty for a single seed.
    """

    strategy: Strategy
    runs: tuple[FinishedRun, ...]
    seeds: tuple[Strategy, ...] = ()

    @property
    def name(self) -> str:
        """Row label."""
        return self.strategy.name


def open_runs(run_dirs: Sequence[Path], overrides: dict[str, Any] | None = None) -> list[FinishedRun]:
    """Return finished runs with their best policies.

    Args:
        run_dirs: Their folders.
        overrides: Maps dotted settings to values that replace those of the configurations.

    Raises:
        ConfigError: If a folder holds no run or no whole policy.
    """
    runs = []
    for run_dir in run_dirs:
        config, market = open_run_folder(run_dir, overrides or {})
        runs.append(FinishedRun(run_dir, config, market, best_policy(run_dir, market)))
    return runs


def newer_data(run: FinishedRun, data_path: str | None, index_path: str | None) -> MarketConfig | None:
    """Return the configuration of a market on another table, with the assets and settings of a run's policy.

    Args:
        run: The run.
        data_path: The other table of prices; None for no other table.
        index_path: The table with its index.

    Returns:
        The configuration, or None without another table.

    Raises:
        ConfigError: If an index comes without prices, or the run's market was not a table of prices.
    """
    if data_path is None:
        if index_path is not None:
            raise ConfigError("--index-path must come with --data-path, got it alone. Name the table of prices, too.")
        return None
    spec = run.policy.spec
    if "features" not in spec.fitted:
        raise ConfigError(
            f"--data-path must be for a run on a table of prices, got {run.run_dir}, trained on {run.market.source}. "
            "Leave it out."
        )
    newer = {"data": data_path, "index_path": index_path, "periods_per_year": run.market.periods_per_year}
    if not spec.takes_any_assets:
        newer["assets"] = spec.assets
    return spec.market_config.model_copy(update=newer)


def require_comparable(runs: Sequence[FinishedRun], overrides: dict[str, Any]) -> ExecutionConfig:
    """Return the execution settings that all runs share.

    Args:
        runs: The runs.
        overrides: Execution settings of the command, which replace those of the runs.

    Raises:
        ConfigError: If two runs differ in prices, dates, features or execution settings; the message says in which.
    """
    first = runs[0]
    terms = _terms(first.config, overrides)
    for run in runs[1:]:
        pair = f"({first.run_dir} and {run.run_dir})"
        _require_same_market(first.market, run.market, pair)
        other = _terms(run.config, overrides)
        for name in ExecutionConfig.model_fields:
            if getattr(other, name) != getattr(terms, name):
                flag = f"Give all of them one --{name.replace('_', '-')}"
                remedy = flag if name in _SETTABLE else "Back-test them one by one"
                raise ConfigError(
                    f"runs must trade on the same terms, got {name} {getattr(terms, name)} and {getattr(other, name)} "
                    f"{pair}. {remedy}."
                )
        run.policy.require_compatible(first.market)
    return terms


def subjects_of(runs: Sequence[FinishedRun]) -> list[Subject]:
    """Return the subjects, in the order of their first runs.

    Raises:
        ConfigError: If two runs with the same settings have a seed in common.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(_settings(run.config), []).append(run)
    algorithms = [group[0].config.algo for group in groups.values()]
    subjects = []
    for group in groups.values():
        name = f"{group[0].config.algo.upper()} policy"
        if algorithms.count(group[0].config.algo) > 1:
            name += f" {displayable(str(group[0].run_dir), LONGEST_NAME // 2)}"
        subjects.append(_subject(name, group))
    return subjects


def _settings(config: RunConfig) -> str:
    """Return the settings that all seeds of one subject share, without paths of tables and the hardware used."""
    config = config.with_seeds(0)
    tables = {"data": "", **{name: getattr(config.market, name) and "" for name in PATHS_BESIDE_DATA}}
    machine = {
        name: ResourceConfig.model_fields[name].default
        for name in ("num_cpus_per_env_runner", "num_learners", "num_gpus_per_learner", "device", "torch_threads")
    }
    elsewhere = {
        "market": config.market.model_copy(update=tables),
        "resources": config.resources.model_copy(update=machine),
    }
    return config.model_copy(update=elsewhere).model_dump_json()


def _subject(name: str, runs: list[FinishedRun]) -> Subject:
    policies: dict[int, PortfolioPolicy] = {}
    for run in runs:
        for seed, policy in zip(run.config.seeds, run.policy.members, strict=True):
            if seed in policies:
                raise ConfigError(
                    f"runs of one configuration must differ in seed, got seed {seed} twice ({run.run_dir}). Leave one "
                    "out."
                )
            policy.name, policies[seed] = f"{name}, seed {seed}", policy
    seeds = tuple(policies.values())
    if len(seeds) == 1:
        seeds[0].name = name
        return Subject(seeds[0], tuple(runs))
    return Subject(Ensemble(seeds, f"{name}, {len(seeds)} seeds"), tuple(runs), seeds)


_SETTABLE = ("cost_bps", "execution_lag")


def _terms(config: RunConfig, overrides: dict[str, Any]) -> ExecutionConfig:
    values = {name: getattr(config.environment, name) for name in ExecutionConfig.model_fields}
    return ExecutionConfig(**{**values, **overrides})


def _require_same_market(one: MarketData, other: MarketData, pair: str) -> None:
    rates = [f"{market.periods_per_year * market.cash_returns.mean():.2%} a year" for market in (one, other)]
    differences = (
        ("prices", one.data_hash == other.data_hash, one.data_hash[:12], other.data_hash[:12]),
        ("assets", one.assets == other.assets, ", ".join(one.assets), ", ".join(other.assets)),
        ("windows", _windows(one) == _windows(other), _windows(one), _windows(other)),
        ("cash returns", np.array_equal(one.cash_returns, other.cash_returns), *rates),
    )
    for name, is_same, ours, theirs in differences:
        if not is_same:
            raise ConfigError(
                f"runs must be of the same market, got {name} {ours} and {theirs} {pair}. Back-test them one by one."
            )


def _windows(market: MarketData) -> str:
    return ", ".join(
        f"{name} {market.dates[start]} to {market.dates[stop - 1]}"
        for name, (start, stop) in market.windows.items()
        if name != "all"
    )
