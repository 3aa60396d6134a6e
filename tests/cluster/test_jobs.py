"""Jobs on a head and two worker nodes of cluster/local.sh: who may send them, what they ask for, nodes that are lost.

The tests share one cluster, since its start takes longer than each of them. Each names the nodes it loses by what runs
on them, so that they do not depend on their order.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from rllib_portfolio import load_policy
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.runs.folder import open_run_folder
from tests.cli.test_train import write_config
from tests.cluster.nodes import PINNED, LocalCluster, local_cluster, wait_until
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import COIN, tiny_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="local.sh reads /proc"),
    pytest.mark.timeout(400),
]
BATCH = 2 * 64
NUM_ITERATIONS = 100
MAX_STEPS, REPORT_INTERVAL, NUM_TRIALS = 6400, 640, 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(num_workers=2) as cluster:
        yield cluster


def test_a_submission_without_the_token_is_refused_and_one_with_it_is_taken(cluster: LocalCluster) -> None:
    refused = cluster.submit("--", "echo", "it ran", with_token=False)
    assert refused.returncode != 0
    assert "it ran" not in refused.stdout
    assert "token" in refused.stderr.lower()
    taken = cluster.submit("--", "echo", "it ran")
    assert taken.returncode == 0, taken.stderr
    assert "\nit ran\n" in taken.stdout


def test_training_outlives_a_lost_node_and_takes_in_the_one_that_joins(cluster: LocalCluster, tmp_path: Path) -> None:
    settings = {
        "schedule.total_timesteps": NUM_ITERATIONS * BATCH,
        "schedule.evaluation_interval": 30 * BATCH,
        "schedule.checkpoint_interval": 50 * BATCH,
        "schedule.checkpoints_kept": 2,
    }
    config, log = write_config(tmp_path / "tiny.yaml", COIN, settings), tmp_path / "log"
    command = ("python", "train.py", "--algo", "ppo", "--config", config, "--num-env-runners", 2)
    job = cluster.start(log, PINNED, *command, "--storage-path", tmp_path / "runs")
    runs = tmp_path / "runs" / "ppo"
    wait_until(lambda: any(len(rows_of(table.parent)) >= 2 for table in runs.glob("*/progress.csv")), job, log)
    (run_dir,) = runs.iterdir()
    lost = cluster.workers_with("ray::VectorisedEnvRunner")[0]
    cluster.local("lose", lost)
    wait_until(lambda: float(rows_of(run_dir)[-1]["env_runners/healthy"]) == 1.0, job, log)
    cluster.local("join", lost)
    assert job.wait(timeout=200) == 0, log.read_text()

    untrained, *rows = rows_of(run_dir)
    assert untrained["steps"] == "0"
    # each iteration is a whole batch of both or, in two rounds, of the one that is left: 128 steps
    assert [int(row["steps"]) for row in rows] == [BATCH * (i + 1) for i in range(NUM_ITERATIONS)]
    healthy = [float(row["env_runners/healthy"]) for row in rows]
    changes = [healthy[0], *(after for before, after in pairwise(healthy) if before != after)]
    assert changes == [2.0, 1.0, 2.0]
    assert float(rows[-1]["env_runners/restarts"]) == 1.0
    said = log.read_text()
    assert "1 env runner lost; what it was sampling is not counted; 1 of 2 sample" in said
    assert "1 env runner back; 2 of 2 sample" in said
    assert f"{NUM_ITERATIONS * BATCH:,} steps: validation Sharpe " in said
    assert "Traceback" not in said
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    assert read_progress(newest)["steps"] == NUM_ITERATIONS * BATCH
    run_config, market = open_run_folder(run_dir, {})
    (walked,) = backtest(market, market.windows["test"], [load_policy(newest)], run_config.environment)
    assert walked.returns.std() > 0.0


def test_a_walk_forward_analysis_has_every_fold_when_a_node_is_lost(cluster: LocalCluster, tmp_path: Path) -> None:
    settings = {
        "schedule.total_timesteps": MAX_STEPS,
        "schedule.evaluation_interval": REPORT_INTERVAL,
        "schedule.checkpoint_interval": REPORT_INTERVAL,
        "schedule.early_stopping_evaluations": None,
    }
    config, log, shared = write_config(tmp_path / "tiny.yaml", COIN, settings), tmp_path / "log", tmp_path / "shared"
    command = ("python", "backtest.py", "walk-forward", "--config", config, "--folds", 2, "--seeds", 1)
    job = cluster.start(log, PINNED, *command, "--storage-path", shared)
    runs = "walk-forward/*/ppo/fold-*/seed-0"
    wait_until(lambda: any(shared.glob(f"{runs}/checkpoints/*")), job, log)
    lost = cluster.workers_with("ray::_train")[0]
    cluster.local("lose", lost)
    cluster.local("join", lost)
    assert job.wait(timeout=240) == 0, log.read_text()

    (output,) = shared.glob("walk-forward/*")
    record = json.loads((output / "walk_forward.json").read_text())
    assert [(run["fold"], run["seed"], run["status"]) for run in record["runs"]] == [
        (0, 0, "finished"),
        (1, 0, "finished"),
    ]
    folders = sorted(shared.glob(runs))
    for folder in folders:  # each iteration once: none is lost, none is repeated
        assert [int(row["steps"]) for row in rows_of(folder)] == list(range(0, MAX_STEPS + 1, 64))
    assert record["pooled"]["missing_days"] == []
    assert "PPO seed 0" in pd.read_csv(output / "results.csv", index_col=0).index
    said = log.read_text()
    assert "Task _train failed. There are 3 retries remaining" in said  # Ray's word for the run that was lost
    assert "[2/2] ppo fold " in said
    assert "Traceback" not in said


def test_a_search_accounts_for_every_trial_when_a_node_is_lost(cluster: LocalCluster, tmp_path: Path) -> None:
    output, log, config = tmp_path / "search", tmp_path / "log", tmp_path / "search.yaml"
    space = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    config.write_text(yaml.safe_dump({**tiny_config(COIN).model_dump(mode="json"), "search": space}))
    size = ("--num-samples", NUM_TRIALS, "--max-steps", MAX_STEPS, "--report-interval", REPORT_INTERVAL)
    command = ("python", "tune.py", "--algo", "ppo", "--config", config, *size, "--scheduler", "none")
    job = cluster.start(log, PINNED, *command, "--retrain-top", 0, "--output-dir", output, "--address", "auto")
    running = output / "trials"
    wait_until(lambda: any(running.glob("trial_*/checkpoints/*")), job, log)
    lost = cluster.workers_with("ray::ImplicitFunc")[0]
    cluster.local("lose", lost)
    assert job.wait(timeout=240) == 0, log.read_text()

    study = optuna.load_study(study_name="ppo", storage=f"sqlite:///{output / 'ppo_study.db'}")
    assert [trial.number for trial in study.trials] == list(range(NUM_TRIALS))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    due = [64 * (i + 1) for i in range(MAX_STEPS // 64)]
    reports = [REPORT_INTERVAL * (i + 1) for i in range(MAX_STEPS // REPORT_INTERVAL)]
    for trial in study.trials:
        assert sorted(trial.intermediate_values) == reports
        assert [int(row["steps"]) for row in rows_of(running / f"trial_{trial.number:04d}")] == due
    said = log.read_text()
    assert f"Trials: {NUM_TRIALS} finished." in said
    assert re.search(r"^trial_\d{4}: goes on from its last checkpoint after Actor\w+: ", said, re.MULTILINE)
    assert "Traceback" not in said
    assert yaml.safe_load((output / "best_config.yaml").read_text())["schedule"]["total_timesteps"] == MAX_STEPS
