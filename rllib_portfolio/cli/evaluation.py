"""The evaluation behind a report of `backtest.py`: all its back-tests and the notes for its reader."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_portfolio.backtest.baselines import BuyAndHold, EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.backtest.holdings import GROUPS, group_weights
from rllib_portfolio.backtest.lineup import Lineup, all_strategies, walk_lineup
from rllib_portfolio.backtest.sensitivity import (
    SURVIVORSHIP,
    cost_sensitivity,
    start_sensitivity,
    survivorship_sensitivity,
    universe_sensitivity,
)
from rllib_portfolio.cli.console import say
from rllib_portfolio.cli.progress import progress_bar
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.strategy import Strategy
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.report import Report, report_of_walks
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.runs.subjects import Subject


class Evaluation:
    """The subjects (policies or ensembles under evaluation) on one window of a market."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        market: MarketData,
        window_name: str,
        execution: ExecutionConfig,
        subjects: Sequence[Subject],
        subsets: dict[str, tuple[str, ...]],
    ) -> None:
        self.arguments, self.market, self.execution = arguments, market, execution
        self.subjects, self.subsets, self.window_name = subjects, subsets, window_name
        self.window: Window = market.windows[window_name]
        self.trained_until = max(run.trained_until for subject in subjects for run in subject.runs)

    @property
    def is_in_sample(self) -> bool:
        """Whether a day of the window was used for fitting, tuning or selection."""
        return bool(self.market.dates[self.window[0]] <= self.trained_until)

    @property
    def days(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last day of the window."""
        return self.market.dates[self.window[0]], self.market.dates[self.window[1] - 1]

    @property
    def in_sample_sentence(self) -> str:
        """The warning about a window that is in-sample."""
        first, last = self.days
        return (
            f"IN-SAMPLE: the policies were fitted and selected on days up to {self.trained_until}, and this window is "
            f"{first} to {last}. These figures do not show the performance on unseen days; use --window test for that."
        )

    def report(self) -> Report:
        """Run all back-tests and return the report."""
        # The line-up takes longest, so everything that can fail on an input runs before it.
        tuning = None if self.arguments.tuning is None else TuningRecord.read(self.arguments.tuning)
        sensitivities = self._sensitivities()
        lineup = self._lineup()
        by_name = {result.name: result for result in lineup.results}
        if (by_group := group_weights(lineup.results, self.market)) is not None:
            sensitivities[GROUPS] = by_group
        context = ReportContext(
            title=f"{', '.join(subject.name for subject in self.subjects)}: {self.window_name} window{self._mark}",
            market=self.market,
            window=self.window,
            execution=self.execution,
            subjects=tuple(subject.name for subject in self.subjects),
            trained_until=self.trained_until,
            command=self.arguments.command_line,
            cost_curve=self._cost_curve(),
            sensitivities=sensitivities,
            seed_walks={
                subject.name: tuple(by_name[seed.name] for seed in subject.seeds)
                for subject in self.subjects
                if subject.seeds
            },
            tuning=tuning,
            validation=self._validation(),
            notes=self.notes(),
        )
        say(self.arguments, "Computing the significance tests ...")
        return report_of_walks(lineup, context=context)

    def notes(self) -> tuple[str, ...]:
        """Return the notes that only this report needs."""
        notes = []
        if self.is_in_sample:
            notes.append(self.in_sample_sentence)
        trained = [run.config.environment for subject in self.subjects for run in subject.runs]
        for name in ("cost_bps", "execution_lag"):
            given = getattr(self.arguments, name)
            if given is not None and any(getattr(config, name) != given for config in trained):
                notes.append(
                    f"{name} is {given:g}, as set on the command line; it was {getattr(trained[0], name)} in training."
                )
        return tuple(notes)

    def record(self) -> dict[str, Any]:
        """Return the command, the runs, the window and the data as JSON values."""
        first, last = self.days
        return {
            "command": self.arguments.command_line,
            "runs": [str(run.run_dir) for subject in self.subjects for run in subject.runs],
            "window": self.window_name,
            "first": str(first),
            "last": str(last),
            "is_in_sample": self.is_in_sample,
            "data_source": self.market.source,
            "data_hash": self.market.data_hash,
            "execution": self.execution.model_dump(mode="json"),
        }

    @property
    def _mark(self) -> str:
        return " (IN-SAMPLE)" if self.is_in_sample else ""

    def _lineup(self) -> Lineup:
        seeds = [seed for subject in self.subjects for seed in subject.seeds]
        baselines = [*seeds, *all_strategies(self.market)]
        num_strategies = len(self.subjects) + len(baselines)
        first, last = self.days
        label = f"Back-testing {num_strategies} strategies, {self.window_name} window{self._mark}, {first} to {last}"
        with progress_bar(self.arguments, label, "day") as progress:
            return walk_lineup(self.market, self.window, self.execution, self._judged(), baselines, progress=progress)

    def _judged(self) -> list[Strategy]:
        return [subject.strategy for subject in self.subjects]

    def _beside_references(self) -> list[Strategy]:
        """Return the strategies of the sensitivity tables: the subjects, 1/N and buy-and-hold."""
        return [*self._judged(), EqualWeight(), BuyAndHold()]

    def _cost_curve(self) -> Any:
        if self.arguments.no_costs_table:
            return None
        with progress_bar(self.arguments, "Repeating the back-test with execution lags 0 and 1", "walk") as progress:
            return cost_sensitivity(
                self.market, self.window, self._beside_references(), self.execution, progress=progress
            )

    def _sensitivities(self) -> dict[str, Any]:
        tables, strategies = {}, self._beside_references()
        if self.subsets:
            with progress_bar(self.arguments, "Back-testing parts of the universe", "walk") as progress:
                tables["Parts of the universe"] = universe_sensitivity(
                    self.market, self.window, strategies, self.execution, self.subsets, progress=progress
                )
        if self.market.universe is not None:
            with progress_bar(self.arguments, "Back-testing the survivors alone", "walk") as progress:
                survivorship = survivorship_sensitivity(
                    self.market, self.window, strategies, self.execution, progress=progress
                )
            if survivorship is not None:
                tables[SURVIVORSHIP] = survivorship
        if self.arguments.start_shift:
            with progress_bar(self.arguments, "Back-testing from later first days", "walk") as progress:
                tables["Later first days"] = start_sensitivity(
                    self.market, self.window, strategies, self.execution, self.arguments.start_shift, progress=progress
                )
        return tables

    def _validation(self) -> BacktestResult:
        """Back-test the first subject on the validation window of its own market, at the costs of its training."""
        headline = self.subjects[0]
        run = headline.runs[0]
        return backtest(run.market, run.market.windows["validation"], [headline.strategy], run.config.environment)[0]
