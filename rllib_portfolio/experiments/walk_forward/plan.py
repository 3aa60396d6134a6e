"""The plan of a walk-forward analysis: its folds, and the configuration and the folder of each training run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from rllib_portfolio.config import RUN_CONFIGS, ExecutionConfig, MarketConfig, RunConfig
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths, plan_folds, purge_days
from rllib_portfolio.market import Fold, MarketData, fold_config, load_market
from rllib_portfolio.market.plausibility import require_accepted_moves
from rllib_portfolio.market.table import data_hash


@dataclass(frozen=True, slots=True)
class Run:
    """One training run of the analysis: an algorithm on one fold with one seed, or with several as one program.

    Attributes:
        algo: Name of the algorithm.
        fold: Index of the fold.
        seed: The first seed.
        num_seeds: Number of successive seeds.
    """

    algo: str
    fold: int
    seed: int
    num_seeds: int = 1

    @property
    def seeds(self) -> range:
        """The seeds, in the order of the members of the run's policy."""
        return range(self.seed, self.seed + self.num_seeds)

    def folder(self, output: Path) -> Path:
        """Return the folder of the run, which holds the same files as a folder of `train.py`."""
        return output / self.name

    @property
    def name(self) -> str:
        """Path of the folder of the run, relative to that of the analysis."""
        seeds = f"seed-{self.seed}" if self.num_seeds == 1 else f"seeds-{self.seed}-{self.seeds[-1]}"
        return f"{self.algo}/fold-{self.fold}/{seeds}"

    def __str__(self) -> str:
        seeds = f"seed {self.seed}" if self.num_seeds == 1 else f"seeds {self.seed} to {self.seeds[-1]}"
        return f"{self.algo} fold {self.fold} {seeds}"

    def _asdict(self) -> dict[str, Any]:
        """Return the run as JSON values; the number of seeds is left out if it is 1."""
        values = {"algo": self.algo, "fold": self.fold, "seed": self.seed}
        return values if self.num_seeds == 1 else {**values, "num_seeds": self.num_seeds}


@dataclass(frozen=True)
class WalkForwardPlan:
    """Everything on which the training runs of an analysis depend.

    Attributes:
        configs: Maps each algorithm to its configuration. All have the same market, costs and limits. The windows of
            `config.market` do not belong to a fold, see `run_config`.
        seeds: S seeds, the same for each algorithm and fold.
        folds: J folds as row windows of the market, in chronological order.
        fold_dates: First and last day of the windows of each fold.
        purge_days: Rows between the end of a training window and the start of its validation window.
        data_hash: Hash of the prices.
        index_and_cash_hash: Hash of the daily returns of index and cash; None in records older than this field.
    """

    configs: dict[str, RunConfig]
    seeds: tuple[int, ...]
    folds: tuple[Fold, ...]
    fold_dates: tuple[dict[str, tuple[str, str]], ...]
    purge_days: int
    data_hash: str
    index_and_cash_hash: str | None = None

    @property
    def market_config(self) -> MarketConfig:
        """The market of all runs, without the windows of a fold."""
        return next(iter(self.configs.values())).market

    @property
    def execution(self) -> ExecutionConfig:
        """Costs and limits of all runs and of the pooled back-test."""
        return _execution(next(iter(self.configs.values())))

    @property
    def runs(self) -> tuple[Run, ...]:
        """All training runs, sorted by fold first. Successive seeds of an algorithm that stacks them are one run."""
        return tuple(
            Run(algo, fold, *seeds)
            for fold in range(len(self.folds))
            for algo, config in self.configs.items()
            for seeds in (_successive(self.seeds) if config.stacks_seeds else ((seed, 1) for seed in self.seeds))
        )

    def fold_market_config(self, fold: int) -> MarketConfig:
        """Return the market with the windows of a fold, whose training window then fits scaler and regimes."""
        return self.market_config.model_copy(update=dict(self.fold_dates[fold]))

    def load_fold(self, fold: int) -> MarketData:
        """Prepare the market of one fold.

        Raises:
            ConfigError: If its windows or tables are not those of the plan.
            DataError: If the prices cannot be used.
        """
        market = load_market(self.fold_market_config(fold))
        windows = {name: market.windows[name] for name in Fold._fields}
        wanted = {
            "windows": (windows, self.folds[fold]._asdict()),
            "data_hash": (market.data_hash, self.data_hash),
            "index_and_cash_hash": (_index_and_cash_hash(market), self.index_and_cash_hash),
        }
        for name, (got, planned) in wanted.items():
            if got != planned and planned is not None:
                raise ConfigError(
                    f"tables must be those that the folds were planned on, got {name} {got} instead of {planned} "
                    f"(fold {fold}, {market.source}). Put the old ones back, or start anew."
                )
        return market

    def run_config(self, run: Run) -> RunConfig:
        """Return the complete configuration of one training run."""
        config = self.configs[run.algo].with_seeds(run.seed, run.num_seeds)
        return config.model_copy(update={"market": self.fold_market_config(run.fold)})

    def merged_with(self, other: WalkForwardPlan) -> WalkForwardPlan:
        """Return this plan with the algorithms, seeds and tables of another plan that has the same folds.

        Raises:
            ConfigError: If the algorithms differ in market, costs or limits, or if new seeds follow those of a run
                that trains several as one program.
        """
        tables = other.market_config.data, other.market_config.index_path
        configs = {**self.with_tables(*tables).configs, **other.configs}
        _require_comparable(list(configs.values()))
        merged = replace(self, configs=configs, seeds=tuple(sorted({*self.seeds, *other.seeds})))
        lost = next((run for run in self.runs if run not in merged.runs), None)
        if lost is not None:
            raise ConfigError(
                f"seeds of {lost.algo} must stay {lost.seed} to {lost.seeds[-1]}, which are trained as one program, "
                f"got {other.seeds[0]} to {other.seeds[-1]} (walk-forward). Leave them as they were, or choose another "
                "--output-dir."
            )
        return merged

    def with_tables(self, data: str | dict[str, Any] | None, index_path: str | None) -> WalkForwardPlan:
        """Return this plan with other paths of its tables.

        Args:
            data: The new source of the prices; None keeps the old one.
            index_path: The new path of the index; None keeps the old one.

        Raises:
            ConfigError: If there was no index before.
        """
        before = self.market_config
        if index_path is not None and before.index_path is None:
            raise ConfigError(
                f"index_path must be null, as when the folds were planned, got {index_path} (walk-forward). Leave it "
                "out."
            )
        market = {"data": data or before.data, "index_path": index_path or before.index_path}
        configs = {
            algo: config.model_copy(update={"market": config.market.model_copy(update=market)})
            for algo, config in self.configs.items()
        }
        return replace(self, configs=configs)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "algorithms": {algo: config.model_dump(mode="json") for algo, config in self.configs.items()},
            "seeds": list(self.seeds),
            "folds": [
                {"rows": dict(zip(Fold._fields, map(list, fold), strict=True)), "dates": _lists(dates)}
                for fold, dates in zip(self.folds, self.fold_dates, strict=True)
            ],
            "purge_days": self.purge_days,
            "data_hash": self.data_hash,
            "index_and_cash_hash": self.index_and_cash_hash,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WalkForwardPlan:
        """Return the plan that `to_json` wrote."""
        return cls(
            configs={
                algo: validated(RUN_CONFIGS[algo], config, "walk-forward record")
                for algo, config in values["algorithms"].items()
            },
            seeds=tuple(values["seeds"]),
            folds=tuple(Fold(*(tuple(fold["rows"][name]) for name in Fold._fields)) for fold in values["folds"]),
            fold_dates=tuple(
                {name: (first, last) for name, (first, last) in fold["dates"].items()} for fold in values["folds"]
            ),
            purge_days=values["purge_days"],
            data_hash=values["data_hash"],
            index_and_cash_hash=values.get("index_and_cash_hash"),
        )


def plan_walk_forward(
    configs: Sequence[RunConfig], num_seeds: int, lengths: FoldLengths, market: MarketData | None = None
) -> WalkForwardPlan:
    """Divide the market of the configurations into folds, and return the plan.

    Args:
        configs: One configuration for each algorithm; the seeds start with that of the first one.
        num_seeds: Number of seeds S.
        lengths: Lengths of the folds.
        market: The prepared market of the configurations, if it is loaded already.

    Raises:
        ConfigError: If the configurations do not go together, or the folds do not fit the market.
        DataError: If the prices cannot be used, or hold extreme moves that are not accepted.
    """
    _require_comparable(configs)
    if num_seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {num_seeds} (walk-forward). Train one seed or more.")
    for config in configs:
        _require_stackable(config, num_seeds)
    market = market or load_market(configs[0].market)
    require_accepted_moves(market, configs[0].market)
    folds = plan_folds(market, lengths, configs[0].market.data)
    first_seed = configs[0].seed
    dates = [fold_config(configs[0].market, market, fold) for fold in folds]
    return WalkForwardPlan(
        configs={config.algo: config for config in configs},
        seeds=tuple(range(first_seed, first_seed + num_seeds)),
        folds=folds,
        fold_dates=tuple({name: getattr(config, name) for name in Fold._fields} for config in dates),
        purge_days=purge_days(market),
        data_hash=market.data_hash,
        index_and_cash_hash=_index_and_cash_hash(market),
    )


def _successive(seeds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first seed and the length of each run of successive numbers among sorted seeds."""
    for _, group in groupby(enumerate(seeds), lambda pair: pair[1] - pair[0]):
        found = [seed for _, seed in group]
        yield found[0], len(found)


def _require_stackable(config: RunConfig, num_seeds: int) -> None:
    """Raise a `ConfigError` unless a run can train the seeds of a fold, if its algorithm stacks them."""
    if len(config.seeds) > 1:
        raise ConfigError(
            f"resources.num_stacked_seeds must be 1, got {len(config.seeds)} (walk-forward, {config.algo}). Leave it "
            "out: the seeds of a fold are stacked, and --seeds is their number."
        )
    if config.stacks_seeds:
        config.with_seeds(config.seed, num_seeds)


def _index_and_cash_hash(market: MarketData) -> str:
    columns = {"cash": market.cash_returns}
    if market.index_returns is not None:
        columns["index"] = market.index_returns
    values = np.stack(list(columns.values())).round(12)  # CPUs differ in the last bit of a power
    return data_hash(market.dates, list(columns), values)


def _require_comparable(configs: Sequence[RunConfig]) -> None:
    """Raise a `ConfigError` unless all configurations have the same prices, features, costs and limits."""
    algos = [config.algo for config in configs]
    if not configs or len(set(algos)) < len(algos):
        raise ConfigError(
            f"algorithms must be at least one, each named once, got {', '.join(algos) or 'none'} (walk-forward)."
        )
    first = configs[0]
    if isinstance(first.market.data, str) and first.market.data.endswith(".npz"):
        raise ConfigError(
            f"market.data must be a table of prices, got {first.market.data} (walk-forward). A prepared market was "
            "fitted once; each fold fits anew."
        )
    for other in configs[1:]:
        for section, ours, theirs in (
            ("market", first.market, other.market),
            ("environment", _execution(first), _execution(other)),
        ):
            names = [name for name, value in ours if value != getattr(theirs, name)]
            if names:
                raise ConfigError(
                    f"{section}.{names[0]} must be the same for all algorithms, got {getattr(ours, names[0])} for "
                    f"{first.algo} and {getattr(theirs, names[0])} for {other.algo} (walk-forward). Set it for all."
                )


def _execution(config: RunConfig) -> ExecutionConfig:
    return ExecutionConfig(**{name: getattr(config.environment, name) for name in ExecutionConfig.model_fields})


def _lists(dates: Mapping[str, tuple[str, str]]) -> dict[str, list[str]]:
    return {name: list(days) for name, days in dates.items()}
