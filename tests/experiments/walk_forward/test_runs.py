"""Runs as Ray tasks: side by side, resumed, and failing alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import RunConfig
from rllib_portfolio.errors import ClaimLostError
from rllib_portfolio.experiments.progress import Progress, RunOutcome
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import WalkForwardPlan, plan_walk_forward
from rllib_portfolio.experiments.walk_forward.record import start_analysis
from rllib_portfolio.experiments.walk_forward.results import PooledResult, pool_runs
from rllib_portfolio.experiments.walk_forward.runs import train_runs
from rllib_portfolio.policies.checkpoint import checkpoints, read_progress
from rllib_portfolio.policies.saved_policy import load_policy, read_policy
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.runs.folder import open_run_folder
from tests.full_disk import full_disk
from tests.market.tables import SHORT, random_prices
from tests.runs.test_storage import Disk, Store, claim_of_another, files_of
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import STEPS_PER_ITERATION, TOTAL_STEPS, tiny_apg_config, tiny_config, tiny_dqn_config

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
TWO = FoldLengths(num_folds=2)
OFTEN = {"schedule.evaluation_interval": 128}
SHORT_RUN = {"schedule.total_timesteps": 128}
FEW_STEPS = 320
"""Environment steps of each run of the analysis that most tests share."""


def start(output: Path, *configs: RunConfig, num_seeds: int = 2, lengths: FoldLengths = TWO) -> WalkForwardPlan:
    return start_analysis(plan_walk_forward(configs, num_seeds, lengths), output)


def statuses(outcomes: tuple[RunOutcome, ...]) -> dict[str, str]:
    return {str(outcome.run): outcome.status for outcome in outcomes}


def times(output: Path) -> dict[str, int]:
    """Return the time at which each file of each run was last written."""
    return {str(path): path.stat().st_mtime_ns for path in output.glob("*/fold-*/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(
    ray_session: None, tmp_path_factory: pytest.TempPathFactory, price_settings: dict[str, Any]
) -> tuple[WalkForwardPlan, Path, tuple[RunOutcome, ...], list[Progress]]:
    """Two folds of two seeds of PPO, one of DQN's beside them; what was reported on the way."""
    output = tmp_path_factory.mktemp("walk-forward") / "out"
    steps = {"schedule.total_timesteps": FEW_STEPS}
    plan = start(output, tiny_config(price_settings, OFTEN, steps), tiny_dqn_config(price_settings, steps))
    reported: list[Progress] = []
    return plan, output, train_runs(plan, output, on_progress=reported.append), reported


@pytest.fixture(scope="module")
def pooled(finished: Any) -> PooledResult:
    """Return the pooled result of the runs of PPO."""
    plan, output, outcomes, _ = finished
    result = pool_runs(plan, output, [outcome.run for outcome in outcomes if outcome.run.algo == "ppo"])
    assert result is not None
    return result


def test_every_run_ends_in_a_run_folder_of_its_own(finished: Any) -> None:
    plan, output, outcomes, reported = finished
    assert [outcome.run for outcome in outcomes] == list(plan.runs)
    assert {outcome.status for outcome in outcomes} == {"finished"}
    for outcome in outcomes:
        config, market = open_run_folder(outcome.run.folder(output), {})
        assert config == plan.run_config(outcome.run).for_assets(market.num_assets)
        assert tuple(market.windows[name] for name in ("train", "validation", "test")) == plan.folds[outcome.run.fold]
        assert outcome.steps == FEW_STEPS
        load_policy(outcome.run.folder(output)).require_compatible(market)
    assert reported[-1].num_runs == 8
    assert reported[-1].steps == reported[-1].total_steps == 8 * FEW_STEPS


def test_what_is_finished_is_not_repeated(finished: Any) -> None:
    plan, output, outcomes, _ = finished
    before = times(output)
    again = train_runs(plan, output)
    assert [outcome.to_json() for outcome in again] == [outcome.to_json() for outcome in outcomes]
    assert times(output) == before


def test_the_pooled_walk_holds_what_each_fold_s_ensemble_says(finished: Any) -> None:
    plan, output, outcomes, _ = finished
    pooled = pool_runs(plan, output, [outcome.run for outcome in outcomes])
    names = [result.name for result in pooled.lineup.results]
    assert names[:7] == ["PPO ensemble", "DQN ensemble", "PPO seed 0", "PPO seed 1", "DQN seed 0", "DQN seed 1", "1/N"]
    assert pooled.subjects == ("PPO ensemble", "DQN ensemble")
    assert names[-2:] == ["constant mix of PPO ensemble", "constant mix of DQN ensemble"]
    assert [walk.name for walk in pooled.seed_walks["DQN ensemble"]] == ["DQN seed 0", "DQN seed 1"]
    walk, start_row = pooled.lineup.results[0], plan.folds[0].test[0]
    assert (walk.dates[0], walk.dates[-1]) == tuple(
        np.datetime64(plan.fold_dates[fold]["test"][side]) for fold, side in ((0, 0), (1, 1))
    )
    # the first decision is out of cash, on the first fold's market: the mean of its two policies
    market = plan.load_fold(0)
    policies = [load_policy(run.folder(output)) for run in plan.runs if run.fold == 0 and run.algo == "ppo"]
    alone = [backtest(market, (start_row, start_row + 1), [policy], plan.execution)[0] for policy in policies]
    np.testing.assert_allclose(walk.weights[0], np.mean([each.weights[0] for each in alone], axis=0), rtol=1e-12)
    assert pooled.missing == ()
    assert pooled.costs is not None
    assert pooled.seed_summaries["PPO ensemble"].num_runs == 4


@pytest.mark.parametrize(
    ("last_day", "until", "sentence"),
    [
        ("2010-06-30", None, None),
        ("2011-03-31", "2011-03-31", "IN-SAMPLE up to 2011-03-31: the settings were selected by a search on days up"),
        (None, None, "The search behind the settings kept no daily returns"),
    ],
)
def test_days_that_the_settings_were_selected_on_are_in_sample(
    finished: Any, pooled: PooledResult, last_day: str | None, until: str | None, sentence: str | None
) -> None:
    plan = finished[0]
    assert pooled.trained_until == np.datetime64(plan.fold_dates[0]["validation"][1])
    trials = None
    if last_day is not None:
        days = pd.bdate_range(end=last_day, periods=80)
        trials = pd.DataFrame(np.random.default_rng(0).normal(0.0, 0.01, (80, 4)), index=days)
    context = pooled.context(plan, "command", TuningRecord(4, 0.1, trial_returns=trials))
    assert context.trained_until == (pooled.trained_until if until is None else np.datetime64(until))
    notes = [note for note in context.notes if "selected by a search" in note or "The search behind" in note]
    assert [note[: len(sentence or "")] for note in notes] == ([] if sentence is None else [sentence])


def test_the_pooled_walk_is_written_as_tables(pooled: PooledResult, tmp_path: Path) -> None:
    written = json.loads(json.dumps(pooled.write(tmp_path), allow_nan=False))
    frame = pd.read_parquet(tmp_path / written["walks"]["PPO ensemble"])
    np.testing.assert_array_equal(frame["return"], pooled.lineup.results[0].returns)
    table = pd.read_csv(tmp_path / "results.csv", index_col=0)
    assert list(table.index) == [result.name for result in pooled.lineup.results]
    assert table.loc["PPO ensemble", "total_return"] == pytest.approx(frame["wealth"].iloc[-1] - 1.0, rel=1e-12)
    assert any("Left out, since no fold has a policy: DQN" in note for note in written["notes"])


def test_a_pooled_walk_that_could_not_be_written_leaves_the_old_one(pooled: PooledResult, tmp_path: Path) -> None:
    pooled.write(tmp_path)
    before = files_of(tmp_path)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        pooled.write(tmp_path)
    assert files_of(tmp_path).items() >= before.items()


def test_seeds_that_are_trained_as_one_program_are_rows_of_their_own(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    unhurried = {"environment.reward": "tests.experiments.walk_forward.user_rewards:unhurried"}
    steps = {"schedule.total_timesteps": FEW_STEPS}
    output, reported = tmp_path / "out", list[Progress]()
    plan = start(output, tiny_apg_config(price_settings, unhurried, steps))

    def is_one_under_way() -> bool:
        return bool(reported) and max(reported[-1].running.values(), default=0) >= STEPS_PER_ITERATION

    stopped = train_runs(plan, output, on_progress=reported.append, should_stop=is_one_under_way)
    assert any(outcome.status == "stopped" and outcome.steps for outcome in stopped)
    outcomes = train_runs(plan, output)
    assert statuses(outcomes) == {f"apg fold {fold} seeds 0 to 1": "finished" for fold in (0, 1)}
    assert sorted(path.name for path in output.glob("apg/*/*")) == ["seeds-0-1"] * 2
    for run in plan.runs:  # each iteration once
        rows = [int(row["steps"]) for row in rows_of(run.folder(output))]
        assert rows == list(range(0, FEW_STEPS + 1, STEPS_PER_ITERATION))
    before = times(output)
    assert [outcome.to_json() for outcome in train_runs(plan, output)] == [outcome.to_json() for outcome in outcomes]
    assert times(output) == before

    pooled = pool_runs(plan, output, [outcome.run for outcome in outcomes])
    assert pooled is not None
    names = [result.name for result in pooled.lineup.results]
    assert names[:4] == ["APG ensemble", "APG seed 0", "APG seed 1", "1/N"]
    assert [walk.name for walk in pooled.seed_walks["APG ensemble"]] == ["APG seed 0", "APG seed 1"]
    assert pooled.seed_summaries["APG ensemble"].num_runs == 4
    assert any(note.startswith("The seeds of APG were trained as one program: ") for note in pooled.notes)
    policy, market, (first, stop) = read_policy(plan.runs[0].folder(output)), plan.load_fold(0), plan.folds[0].test
    assert len(policy.members) == 2
    alone = backtest(market, (first, stop), [policy, *policy.members], plan.execution)
    for ours, theirs in zip(pooled.lineup.results, alone, strict=False):  # the later fold begins with what is held
        np.testing.assert_allclose(ours.weights[: stop - first], theirs.weights, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- interruptions and failures


def test_an_interrupted_analysis_leaves_checkpoints_and_goes_on_from_them(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    unhurried = {"environment.reward": "tests.experiments.walk_forward.user_rewards:unhurried"}
    plan = start(tmp_path / "out", tiny_config(price_settings, OFTEN, unhurried), num_seeds=1)
    reported: list[Progress] = []

    def is_one_under_way() -> bool:
        return any(steps >= STEPS_PER_ITERATION for steps in reported[-1].running.values()) if reported else False

    outcomes = train_runs(plan, tmp_path / "out", on_progress=reported.append, should_stop=is_one_under_way)
    assert {"stopped"} <= set(statuses(outcomes).values()) <= {"stopped", "finished"}
    stopped = {outcome.run: outcome.steps for outcome in outcomes if outcome.status == "stopped" and outcome.steps}
    assert stopped
    for run, steps in stopped.items():
        assert steps < TOTAL_STEPS
        assert read_progress(checkpoints(run.folder(tmp_path / "out"))[-1])["steps"] == steps
    reported.clear()
    again = train_runs(plan, tmp_path / "out", on_progress=reported.append)
    assert set(statuses(again).values()) == {"finished"}
    assert reported[-1].steps == TOTAL_STEPS * len(plan.runs)
    assert reported[-1].steps_made == reported[-1].steps - sum(outcome.steps for outcome in outcomes)
    for run in plan.runs:  # every iteration once, after the untrained network: none is lost, none is repeated
        rows = [int(row["steps"]) for row in rows_of(run.folder(tmp_path / "out"))]
        assert rows == list(range(0, TOTAL_STEPS + 1, STEPS_PER_ITERATION))


def test_a_run_whose_process_dies_goes_on_in_another_one(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    settings = {
        "environment.reward": "tests.experiments.walk_forward.user_rewards:unhurried",
        "schedule.checkpoint_interval": STEPS_PER_ITERATION,
    }
    plan = start(tmp_path / "out", tiny_config(price_settings, settings), num_seeds=1, lengths=FoldLengths(num_folds=1))
    folder = plan.runs[0].folder(tmp_path / "out")
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        if not killed and progress.running.get(plan.runs[0], 0) >= 2 * STEPS_PER_ITERATION:
            (events,) = folder.glob("events.out.tfevents.*")  # its name ends in the process id and a counter
            killed.append(int(events.name.split(".")[-2]))
            os.kill(killed[0], signal.SIGKILL)

    (outcome,) = train_runs(plan, tmp_path / "out", on_progress=kill_once)
    assert len(killed) == 1
    assert (outcome.status, outcome.steps) == ("finished", TOTAL_STEPS)
    rows = [int(row["steps"]) for row in rows_of(folder)]
    assert rows == list(range(STEPS_PER_ITERATION, TOTAL_STEPS + 1, STEPS_PER_ITERATION))
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2


def test_runs_that_are_kept_in_an_object_store_are_brought_to_the_analysis_when_they_are_finished(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    output, folders = tmp_path / "out", Store(f"store:/{tmp_path}", Disk(), tmp_path / "bucket")
    plan = start(output, tiny_config(price_settings, SHORT_RUN), num_seeds=1)
    outcomes = train_runs(plan, output, folders=folders)
    assert set(statuses(outcomes).values()) == {"finished"}
    for run in plan.runs:
        assert files_of(run.folder(output)) == files_of(tmp_path / "bucket" / run.name)
        load_policy(run.folder(output))
    first = plan.runs[0].folder(output)
    kept = files_of(first)
    shutil.rmtree(first)  # as on another machine
    assert [outcome.to_json() for outcome in train_runs(plan, output, folders=folders)] == [
        outcome.to_json() for outcome in outcomes
    ]
    assert files_of(first) == kept


@pytest.mark.parametrize("is_told_by", ["the renewal", "a run"])
def test_an_analysis_whose_place_in_a_store_is_taken_over_ends_and_brings_nothing_more(
    ray_session: None,
    tmp_path: Path,
    price_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    is_told_by: str,
) -> None:
    if is_told_by == "the renewal":
        monkeypatch.setattr("rllib_portfolio.runs.folder_lock.RENEWED_EVERY_S", 0.05)
    endless = {"schedule.total_timesteps": 10**7, "schedule.evaluation_interval": 10**7}
    often = {"schedule.checkpoint_interval": STEPS_PER_ITERATION if is_told_by == "a run" else 10**7}
    output, folders = tmp_path / "out", Store(f"store:/{tmp_path}", Disk(), tmp_path / "bucket")
    one = {"num_seeds": 1, "lengths": FoldLengths(num_folds=1)}
    plan = start(output, tiny_config(price_settings, endless, often), **one)
    before: dict[str, bytes] = {}

    def take_over(progress: Progress) -> None:
        if not before and progress.running.get(plan.runs[0], 0) >= 2 * STEPS_PER_ITERATION:
            claim_of_another(tmp_path / "bucket")
            before.update(files_of(tmp_path / "bucket"))

    taken_over = rf"store:/{tmp_path} is now written by process 7 on another since .*\. This process stops "
    with pytest.raises(ClaimLostError, match=taken_over), folders.only_writer("", is_new=True):
        train_runs(plan, output, on_progress=take_over, folders=folders)
    assert files_of(tmp_path / "bucket") == before


def crash_prices(path: Path, plan: WalkForwardPlan) -> None:
    """The prices of the plan, with a crash every five days in what the second fold trains on and the first does not."""
    prices = random_prices(600)
    rows = range(plan.folds[0].train[1] + 1, plan.folds[1].train[1], 5)
    prices.iloc[list(rows)] *= 0.5
    prices.assign(index=prices.mean(axis=1)).to_csv(path)


def test_a_fold_that_fails_is_reported_and_the_others_are_pooled(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    calm = plan_walk_forward([tiny_config(price_settings)], 1, TWO)
    crash_prices(tmp_path / "crash.csv", calm)
    settings = {
        "market.data": str(tmp_path / "crash.csv"),
        "market.features": SHORT.model_dump(),
        "environment.reward": "tests.experiments.walk_forward.user_rewards:no_crash",
    }
    plan = start(tmp_path / "out", tiny_config(settings, SHORT_RUN), num_seeds=1)
    outcomes = train_runs(plan, tmp_path / "out")
    assert statuses(outcomes) == {"ppo fold 0 seed 0": "finished", "ppo fold 1 seed 0": "failed"}
    assert "the market crashed" in str(outcomes[1].error)
    pooled = pool_runs(plan, tmp_path / "out", [outcome.run for outcome in outcomes if outcome.status == "finished"])
    assert pooled.missing == (plan.fold_dates[1]["test"],)
    assert len(pooled.lineup.results[0].dates) == plan.folds[0].test[1] - plan.folds[0].test[0]
    assert any(note.startswith("Missing days") for note in pooled.notes)


def test_a_seed_that_is_missing_in_one_fold_is_no_row_and_the_ensemble_does_without(
    finished: Any, pooled: PooledResult
) -> None:
    plan, output, outcomes, _ = finished
    runs = [outcome.run for outcome in outcomes if outcome.run.algo == "ppo"]
    partial = pool_runs(plan, output, runs[:-1])  # fold 1 has seed 0 alone
    assert partial is not None
    names = [result.name for result in partial.lineup.results]
    assert "PPO seed 0" in names
    assert "PPO seed 1" not in names
    assert any(note == "PPO has no policy of seed 1 for fold 1." for note in partial.notes)
    second = plan.folds[1].test[0] - plan.folds[0].test[0]
    ours, theirs = partial.lineup.results[0].weights, pooled.lineup.results[0].weights
    np.testing.assert_array_equal(ours[:second], theirs[:second])
    assert not np.array_equal(ours[second], theirs[second])
    assert pool_runs(plan, output, []) is None


def test_a_fold_that_is_missing_in_the_middle_leaves_a_hole_in_all_rows(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    plan = start(
        tmp_path / "out",
        tiny_config(price_settings, SHORT_RUN),
        num_seeds=1,
        lengths=FoldLengths(num_folds=3),
    )
    first, _, third = (outcome.run for outcome in train_runs(plan, tmp_path / "out"))
    pooled = pool_runs(plan, tmp_path / "out", [first, third])
    assert pooled.subjects == ("PPO seed 0",)
    assert pooled.missing == (plan.fold_dates[1]["test"],)
    days = [np.arange(*plan.folds[fold].test) for fold in (0, 2)]
    expected = plan.load_fold(0).dates[np.concatenate(days)]
    assert all(np.array_equal(result.dates, expected) for result in pooled.lineup.results)
    np.testing.assert_array_equal(pooled.market.dates[slice(*pooled.window)], expected)
    assert pooled.table.loc["all cash", "total_return"] == pytest.approx(1.02 ** (len(expected) / 252) - 1.0)
    assert set(pooled.report(pooled.context(plan, "command")).table.index) == {
        result.name for result in pooled.lineup.results
    }


def test_runs_with_processes_of_their_own_get_room_for_all_of_them(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    # two CPUs: one for the task, one for its env runner; without a reservation two tasks would wait for each other
    config = tiny_config(price_settings, {"resources.num_env_runners": 1, **SHORT_RUN})
    plan = start(tmp_path / "out", config, num_seeds=2, lengths=FoldLengths(num_folds=1))
    assert set(statuses(train_runs(plan, tmp_path / "out")).values()) == {"finished"}
