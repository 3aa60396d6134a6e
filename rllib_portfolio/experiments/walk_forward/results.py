"""The pooled results of the finished runs of an analysis: one table, on the same days, after the same costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.atomic import whole_file
from rllib_portfolio.backtest.baselines import BuyAndHold, EqualWeight
from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.backtest.holdings import GROUPS, group_weights
from rllib_portfolio.backtest.lineup import Lineup, all_strategies, walk_lineup
from rllib_portfolio.backtest.sensitivity import SURVIVORSHIP, cost_sensitivity, survivorship_sensitivity
from rllib_portfolio.dates import dates_of
from rllib_portfolio.experiments.walk_forward.plan import Run, WalkForwardPlan
from rllib_portfolio.experiments.walk_forward.pooling import (
    FoldPolicy,
    PooledPolicy,
    missing_rows,
    without_days,
    without_rows,
)
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.ensemble import Ensemble
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.report import Report, report_of_walks
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.reporting.serialisation import write_csv
from rllib_portfolio.runs.validation import best_policy
from rllib_portfolio.statistics.metrics import sharpe_ratio
from rllib_portfolio.statistics.seeds import SeedSummary, seed_summary

WALKS = "walks"
TABLE = "results.csv"
Progress = Callable[[int, int], None]
Markets = Mapping[int, MarketData]
"""Maps each fold to the market that was prepared for it."""
ByFold = Mapping[int, Mapping[int, PortfolioPolicy]]
"""Maps each fold and seed to the policy that was best on that fold's validation window."""


@dataclass(frozen=True, eq=False)
class PooledResult:
    """The out-of-sample back-test over all folds.

    Attributes:
        lineup: Ensembles (if there are several seeds), single seeds, baselines, index and constant mixes.
        market: Their market, without missing days.
        window: Rows of the back-test in this market.
        subjects: Names of the rows that are judged: for each algorithm, its ensemble or its only seed.
        seed_walks: Maps each subject to one back-test per seed that has a policy for each fold.
        seed_summaries: Maps each subject to the interquartile mean of the Sharpe ratios of its seeds and folds.
        costs: Results of the subjects at other costs and lags; None if days are missing.
        sensitivities: Maps titles to tables of the subjects under other conditions, see `ReportContext`.
        missing: First and last test day of each fold that has no policy.
        notes: Sentences that belong to the table.
    """

    lineup: Lineup
    market: MarketData
    window: Window
    subjects: tuple[str, ...]
    seed_walks: Mapping[str, tuple[BacktestResult, ...]]
    seed_summaries: Mapping[str, SeedSummary]
    costs: pd.DataFrame | None = None
    sensitivities: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    missing: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def trained_until(self) -> np.datetime64:
        """The last day before the back-test, in which each policy decides only on days after its selection."""
        return self.market.dates[self.window[0] - 1]

    @property
    def table(self) -> pd.DataFrame:
        """The table with one row per strategy, see `compare`."""
        return compare(self.lineup.results, self.market.cash_returns[slice(*self.window)], self.market.periods_per_year)

    def report(self, context: ReportContext) -> Report:
        """Return the report, with table, crises and verdicts."""
        return report_of_walks(self.lineup, context=context)

    def context(self, plan: WalkForwardPlan, command: str, tuning: TuningRecord | None = None) -> ReportContext:
        """Return what a report needs in addition to the back-tests.

        Args:
            plan: The plan of the analysis.
            command: The command that repeats the analysis.
            tuning: The search that the configurations come from. The days on which it selected are in-sample.
        """
        selected_until, tuned = _selected_until(tuning, self.trained_until)
        return ReportContext(
            title=f"Walk-forward of {', '.join(algo.upper() for algo in plan.configs)}",
            market=self.market,
            window=self.window,
            execution=plan.execution,
            subjects=self.subjects,
            trained_until=selected_until,
            command=command,
            cost_curve=self.costs,
            sensitivities=self.sensitivities,
            seed_walks=self.seed_walks,
            seed_summaries=self.seed_summaries,
            tuning=tuning,
            notes=(*self.notes, *tuned),
        )

    def write(self, output: Path) -> dict[str, Any]:
        """Write each back-test and the table; return their entry in the record, as JSON values."""
        folder = output / WALKS
        folder.mkdir(exist_ok=True)
        files = {result.name: f"{WALKS}/{_slug(result.name)}.parquet" for result in self.lineup.results}
        for result in self.lineup.results:
            with whole_file(output / files[result.name]) as file:
                result.to_frame().to_parquet(file)
        with whole_file(output / TABLE) as file:
            write_csv(self.table, file)
        dates = self.lineup.results[0].dates
        return {
            "days": [str(dates[0]), str(dates[-1])],
            "num_days": len(dates),
            "missing_days": [list(span) for span in self.missing],
            "subjects": list(self.subjects),
            "walks": files,
            "seeds": {name: summary._asdict() for name, summary in self.seed_summaries.items()},
            "notes": list(self.notes),
        }


def pool_runs(
    plan: WalkForwardPlan, output: Path, finished: Sequence[Run], *, progress: Progress | None = None
) -> PooledResult | None:
    """Back-test the policies of finished runs, and every baseline, over the test windows.

    A fold is used if every algorithm has a policy for it; algorithms without any policy are left out.

    Args:
        plan: The plan of the analysis.
        output: Folder of the analysis.
        finished: The runs that have a policy.
        progress: Called after each day of the back-test with the days done and the days in all.

    Returns:
        The result, or None if no fold can be used.

    Raises:
        ConfigError: If a policy is damaged, or was trained on other data than its fold's.
    """
    algos = [algo for algo in plan.configs if any(run.algo == algo for run in finished)]
    used = [
        fold
        for fold in range(len(plan.folds))
        if algos and all(any((run.algo, run.fold) == (algo, fold) for run in finished) for algo in algos)
    ]
    if not used:
        return None
    markets = {fold: plan.load_fold(fold) for fold in used}
    policies: dict[str, dict[int, dict[int, PortfolioPolicy]]] = {algo: {fold: {} for fold in used} for algo in algos}
    for run in finished:
        if run.fold in used:
            policy = best_policy(run.folder(output), markets[run.fold])
            policies[run.algo][run.fold] |= zip(run.seeds, policy.members, strict=True)
    return _pool(plan, markets, policies, progress)


def _pool(
    plan: WalkForwardPlan, markets: Markets, policies: Mapping[str, ByFold], progress: Progress | None
) -> PooledResult:
    used = sorted(markets)
    market, execution = markets[used[0]], plan.execution
    window = (plan.folds[used[0]].test[0], plan.folds[used[-1]].test[1])
    seeds = {algo: _single_seeds(plan, algo, markets, policies[algo]) for algo in policies}
    if len(plan.seeds) > 1:
        judged = [_ensemble(plan, algo, markets, policies[algo]) for algo in policies]
        singles = [single for strategies in seeds.values() for single in strategies]
    else:
        judged, singles = [strategies[0] for strategies in seeds.values()], []
    baselines = [*singles, *all_strategies(market)]
    lineup = walk_lineup(market, window, execution, judged, baselines, progress=progress)
    rows = missing_rows(window, [plan.folds[fold].test for fold in used])
    references = [EqualWeight(), BuyAndHold()]
    costs, sensitivities = None, {}
    if not len(rows):
        costs = cost_sensitivity(market, window, [*judged, *references], execution)
        survivorship = survivorship_sensitivity(market, window, [*judged, *references], execution)
        sensitivities = {} if survivorship is None else {SURVIVORSHIP: survivorship}
    results = tuple(without_days(result, market.dates[rows]) for result in lineup.results)
    if (by_group := group_weights(results, market)) is not None:
        sensitivities[GROUPS] = by_group
    by_name = {result.name: result for result in results}
    walked = {
        subject.name: tuple(by_name[single.name] for single in strategies)
        for subject, strategies in zip(judged, seeds.values(), strict=True)
    }
    summaries, undefined = _seed_summaries(plan, walked, market, used)
    return PooledResult(
        lineup=Lineup(results, lineup.failures, lineup.schedules),
        market=without_rows(market, rows),
        window=(window[0], window[1] - len(rows)),
        subjects=tuple(subject.name for subject in judged),
        seed_walks=walked,
        seed_summaries=summaries,
        costs=costs,
        sensitivities=sensitivities,
        missing=_missing_spans(plan, used),
        notes=(*_notes(plan, used, policies), *undefined),
    )


def _single_seeds(plan: WalkForwardPlan, algo: str, markets: Markets, by_fold: ByFold) -> list[PooledPolicy]:
    """Return one strategy per seed that has a policy for each fold."""
    complete = [seed for seed in plan.seeds if all(seed in by_seed for by_seed in by_fold.values())]
    return [
        PooledPolicy(
            f"{algo.upper()} seed {seed}",
            [
                FoldPolicy(market, plan.folds[fold].test, by_fold[fold][seed])
                for fold, market in sorted(markets.items())
            ],
        )
        for seed in complete
    ]


def _ensemble(plan: WalkForwardPlan, algo: str, markets: Markets, by_fold: ByFold) -> PooledPolicy:
    """Return a strategy that uses, in each fold, the ensemble of the seeds that the fold has."""
    name = f"{algo.upper()} ensemble"
    return PooledPolicy(
        name,
        [
            FoldPolicy(market, plan.folds[fold].test, Ensemble(tuple(by_fold[fold].values()), name))
            for fold, market in sorted(markets.items())
        ],
    )


def _seed_summaries(
    plan: WalkForwardPlan,
    walked: Mapping[str, Sequence[BacktestResult]],
    market: MarketData,
    used: Sequence[int],
) -> tuple[dict[str, SeedSummary], list[str]]:
    """Return interquartile means over seeds and folds, and a note for each of them that is undefined."""
    summaries, notes = {}, []
    for name, walks in walked.items():
        scores = np.array([[_fold_sharpe(walk, market, plan.folds[fold].test) for fold in used] for walk in walks])
        if len(walks) < 2:
            continue
        if np.isfinite(scores).all():
            summaries[name] = seed_summary(scores)
        else:
            notes.append(
                f"{name}: the Sharpe ratio of a seed is undefined in some fold, so there is no mean over seeds."
            )
    return summaries, notes


def _fold_sharpe(walk: BacktestResult, market: MarketData, test: Window) -> float:
    dates: NDArray[np.datetime64] = market.dates[slice(*test)]
    returns = walk.returns[np.isin(walk.dates, dates)]
    return float(sharpe_ratio(returns, market.cash_returns[slice(*test)], market.periods_per_year))


def _selected_until(tuning: TuningRecord | None, trained_until: np.datetime64) -> tuple[np.datetime64, tuple[str, ...]]:
    """Return the last day on which settings or policies of the first fold were selected, and notes about it."""
    if tuning is None:
        return trained_until, ()
    if tuning.trial_returns is None or not isinstance(tuning.trial_returns.index, pd.DatetimeIndex):
        return trained_until, (
            "The search behind the settings kept no daily returns, so it is not known whether it selected on days of "
            "this analysis.",
        )
    last = dates_of(tuning.trial_returns.index).max()
    if last <= trained_until:
        return trained_until, ()
    return last, (
        f"IN-SAMPLE up to {last}: the settings were selected by a search on days up to this one, which include "
        "test days of this analysis.",
    )


def _missing_spans(plan: WalkForwardPlan, used: Sequence[int]) -> tuple[tuple[str, str], ...]:
    return tuple(dates["test"] for fold, dates in enumerate(plan.fold_dates) if fold not in used)


def _notes(plan: WalkForwardPlan, used: Sequence[int], policies: Mapping[str, ByFold]) -> list[str]:
    names = ", ".join(algo.upper() for algo in policies)
    notes = [
        f"Walk-forward: {names}, {len(plan.folds)} folds, {len(plan.seeds)} seed(s). Each decision is made by policies "
        f"that were trained and selected on earlier days, with {plan.purge_days} days purged between training and "
        "validation. One portfolio trades through all folds and pays for the trades when the policies change."
    ]
    if len(plan.seeds) > 1:
        notes.append(
            "An ensemble holds the mean of the target weights of its seeds. Each seed is also shown; none is selected."
        )
    stacked = {run.algo.upper(): None for run in plan.runs if run.num_seeds > 1 and run.algo in policies}
    if stacked:
        notes.append(
            f"The seeds of {', '.join(stacked)} were trained as one program: in each fold, the checkpoint of all seeds "
            "was selected by the validation score of their ensemble."
        )
    left_out = [algo.upper() for algo in plan.configs if algo not in policies]
    if left_out:
        notes.append(f"Left out, since no fold has a policy: {', '.join(left_out)}.")
    for first, last in _missing_spans(plan, used):
        notes.append(f"Missing days, left out for all strategies because their fold has no policy: {first} to {last}.")
    for algo, by_fold in policies.items():
        for fold in used:
            absent = [str(seed) for seed in plan.seeds if seed not in by_fold[fold]]
            if absent:
                notes.append(f"{algo.upper()} has no policy of seed {', '.join(absent)} for fold {fold}.")
    return notes


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
