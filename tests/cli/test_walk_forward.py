"""`backtest.py walk-forward` as people call it: what it prints, how it exits, what a signal leaves behind."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
import yaml

from rllib_portfolio import cli
from rllib_portfolio.cli import walk_forward
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import plan_walk_forward
from rllib_portfolio.experiments.walk_forward.record import start_analysis
from tests.cli.test_train import assert_in_use, assert_quiet, write_config
from tests.experiments.walk_forward.test_runs import crash_prices
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import STEPS_PER_ITERATION, TOTAL_STEPS, tiny_apg_config, tiny_dqn_config

OFTEN = {"schedule.evaluation_interval": 128}
SHORT_RUN = {"schedule.total_timesteps": 128}
REWARD = "tests.experiments.walk_forward.user_rewards:unhurried"
UNHURRIED = {"environment.reward": REWARD}
FIRST_RUN = Path("ppo", "fold-0", "seed-0")


@pytest.fixture(scope="module")
def environment(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Options of a process in the checkout, without the settings that these tests make for Ray."""
    ours = ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "PYTHONWARNINGS")
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    return {"cwd": pytestconfig.rootpath, "env": variables, "text": True}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "backtest.py", "walk-forward", *map(str, arguments)]


def record_of(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "walk_forward.json").read_text())
    return record


class Analysis(NamedTuple):
    """One analysis: stopped by a signal while it trained, then taken up again and brought to its end."""

    output: Path
    stopped: subprocess.CompletedProcess[str]
    record_when_stopped: dict[str, Any]
    resumed: subprocess.CompletedProcess[str]


def stopped_by(
    number: signal.Signals, arguments: list[object], output: Path, environment: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """Start an analysis in `output` and send it a signal once its first run is under way."""
    process = subprocess.Popen(
        command(*arguments, "--output-dir", output),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **environment,
    )
    try:
        progress, deadline = output / FIRST_RUN, time.monotonic() + 240
        while not ((progress / "progress.csv").is_file() and len(rows_of(progress)) >= 2):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "training does not get going"
            time.sleep(0.05)
        assert_in_use(cli.backtest, ["walk-forward", "--resume", output], output, process.pid)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def assert_stopped(done: subprocess.CompletedProcess[str], output: Path, record: dict[str, Any]) -> None:
    assert_quiet(done.stderr)
    again = f"python backtest.py walk-forward --resume {output} --trust-custom {REWARD}"
    assert done.stdout.splitlines()[-1] == f"Stopped; what was done is kept. Continue with: {again}"
    (stopped,) = [run for run in record["runs"] if (run["fold"], run["seed"]) == (0, 0)]
    assert stopped["status"] == "stopped"
    assert 0 < stopped["steps"] < TOTAL_STEPS


@pytest.fixture(scope="module")
def analysis(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, Any], price_settings: dict[str, Any]
) -> Analysis:
    """Two folds of two seeds of PPO."""
    folder = tmp_path_factory.mktemp("analysis")
    config, output = write_config(folder / "tiny.yaml", price_settings, UNHURRIED, OFTEN), folder / "out"
    stopped = stopped_by(signal.SIGTERM, ["--config", config, "--folds", 2, "--seeds", 2], output, environment)
    record = record_of(output)
    again = command("--resume", output, "--trust-custom", REWARD)
    resumed = subprocess.run(again, capture_output=True, timeout=300, check=False, **environment)
    return Analysis(output, stopped, record, resumed)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_sigterm_leaves_checkpoints_and_says_how_to_continue(analysis: Analysis) -> None:
    assert analysis.stopped.returncode == 143, analysis.stopped.stderr
    assert "Fold 1: train 2010-02-17 to " in analysis.stopped.stderr
    assert_stopped(analysis.stopped, analysis.output, analysis.record_when_stopped)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_stopped_analysis_goes_on_and_prints_its_folds_its_table_and_its_verdict(analysis: Analysis) -> None:
    done, output = analysis.resumed, analysis.output
    assert done.returncode == 0, done.stderr
    assert_quiet(done.stderr)
    rows = [int(row["steps"]) for row in rows_of(output / FIRST_RUN)]
    assert rows == list(range(0, TOTAL_STEPS + 1, STEPS_PER_ITERATION))  # none lost, none repeated
    assert "Fold 1: train 2010-02-17 to " in done.stderr
    assert "[4/4] ppo fold " in done.stderr
    num_finished = sum(run["status"] == "finished" for run in analysis.record_when_stopped["runs"])
    assert f"Resuming {output}: {num_finished} of 4 fold runs are complete, " in done.stderr
    assert "finished after 640 steps" in done.stderr
    for text in (
        "PPO ensemble",
        "PPO seed 1",
        "1/N",
        "buy-and-hold",
        "verdict",
        "interquartile mean",
        f"{output}/report",
    ):
        assert text in done.stdout, text
    assert "…" not in done.stdout
    record = record_of(output)
    assert [run["status"] for run in record["runs"]] == ["finished"] * 4
    assert len(record["sessions"]) == 2
    assert record["command"].startswith("python backtest.py walk-forward --config ")
    assert (output / "report" / "report.html").is_file()
    walk = pd.read_parquet(output / record["pooled"]["walks"]["PPO ensemble"])
    assert [str(day.date()) for day in walk.index[[0, -1]]] == record["pooled"]["days"]
    assert record["pooled"]["missing_days"] == []


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_finished_analysis_is_not_trained_again_and_its_table_is_made_anew(
    analysis: Analysis, capsys: pytest.CaptureFixture[str]
) -> None:
    output = analysis.output
    record = record_of(output)
    finished = {path: path.stat().st_mtime_ns for path in output.glob("ppo/**/*") if path.is_file()}
    walk = pd.read_parquet(output / record["pooled"]["walks"]["PPO ensemble"])
    assert cli.backtest(["walk-forward", "--resume", str(output), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "PPO ensemble" in printed.out
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert record_of(output)["sessions"] == record["sessions"]
    again = pd.read_parquet(output / record["pooled"]["walks"]["PPO ensemble"])
    pd.testing.assert_frame_equal(again, walk, check_exact=True)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_fold_that_fails_is_told_and_the_exit_code_is_1(
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    price_settings: dict[str, Any],
) -> None:
    monkeypatch.setattr(walk_forward, "ray_session", lambda config, address: nullcontext())
    settings = {
        **price_settings,
        **SHORT_RUN,
        "environment.reward": "tests.experiments.walk_forward.user_rewards:no_crash",
    }
    plan = plan_walk_forward(
        [load_run_config(write_config(tmp_path / "calm.yaml", settings), {})], 1, FoldLengths(num_folds=2)
    )
    crash_prices(tmp_path / "crash.csv", plan)
    output = tmp_path / "out"
    flags = ("--config", tmp_path / "calm.yaml", "--data-path", tmp_path / "crash.csv", "--folds", 2, "--seeds", 1)
    assert cli.backtest(["walk-forward", *map(str, flags), "--output-dir", str(output)]) == 1
    printed = capsys.readouterr()
    failure = "failed: ppo fold 1 seed 0: RuntimeError: environment step failed (env runner 0): the market crashed"
    assert failure in printed.err
    assert "1 of 2 runs failed; the other runs are kept and pooled. Repeat those that failed with: " in printed.err
    first, last = plan.fold_dates[1]["test"]
    assert (
        f"Missing days, left out for all strategies because their fold has no policy: {first} to {last}." in printed.out
    )
    assert "PPO seed 0" in printed.out  # one seed is no ensemble
    assert "PPO ensemble" not in printed.out
    record = record_of(output)
    assert [run["status"] for run in record["runs"]] == ["finished", "failed"]
    assert record["pooled"]["missing_days"] == [[first, last]]
    assert record["pooled"]["days"] == list(plan.fold_dates[0]["test"])


def test_help_lists_every_flag_and_an_example(environment: dict[str, Any]) -> None:
    done = subprocess.run(command("--help"), capture_output=True, timeout=60, check=False, **environment)
    assert done.returncode == 0
    assert done.stderr == ""
    for text in ("--folds N", "--seeds N", "--rolling", "--test-start DATE", "--resume DIR", "examples:"):
        assert text in done.stdout


# ---------------------------------------------------------------- what can be mended: one line, exit code 2


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr; the command must exit with 2 and say nothing else."""
    assert cli.backtest(["walk-forward", "--quiet", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.fixture
def files(tmp_path: Path, price_settings: dict[str, Any]) -> tuple[Path, Path]:
    """A configuration of PPO and one of DQN."""
    dqn = tmp_path / "dqn.yaml"
    dqn.write_text(yaml.safe_dump(tiny_dqn_config(price_settings).model_dump(mode="json")))
    return write_config(tmp_path / "ppo.yaml", price_settings), dqn


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "training.gama=0.9"], "training.gama is not a known setting"),
        (["--set", "training.gamma"], "--set must read section.setting=value"),
        (["--total-timesteps", "0e3"], "schedule.total_timesteps: input should be greater than or equal to 1"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--folds", "0"], "folds must be at least 1, got 0"),
        (["--folds", "2", "--test-years", "1"], "folds must follow from test_years, got both"),
        (["--train-years", "nan"], "train_years must be a number of years, got nan"),
        (["--data-path", f"{'a' * 300}.csv"], "the price file must be readable, got aaa"),
        (["--test-start", "1990-01-01"], "first test day must leave room for training"),
        (["--resume", "out", "--folds", "3"], "--resume must keep the analysis' own settings, got --folds."),
        (["--resume", "out", "--rolling", "--set", "seed=1"], "--resume must keep the analysis' own settings, got"),
        (["--resume", "nowhere://bucket/analysis"], "--storage-path must be a shared folder or the URI of an object"),
        (["--resume", "nowhere"], "walk-forward folder must have a readable walk_forward.json"),
        (["--algo", "dqn"], "--algo must name the algorithm of each file, got dqn without ppo"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: tuple[Path, Path], flags: list[str], message: str
) -> None:
    output = tmp_path / "out"
    given = [] if "--resume" in flags else ["--config", files[0], "--output-dir", output]
    assert refusal(capsys, *given, *flags).startswith(message)
    assert not output.exists()


def test_the_number_of_seeds_is_that_of_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    config = tiny_apg_config(price_settings, {"resources.num_stacked_seeds": 2})
    (tmp_path / "apg.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    given = ("--config", tmp_path / "apg.yaml", "--seeds", 3, "--output-dir", tmp_path / "out")
    assert refusal(capsys, *given).startswith("resources.num_stacked_seeds must be 1, got 2 (walk-forward, apg). ")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_runs_of_a_job_may_use_a_device_that_another_machine_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[Path, Path]
) -> None:
    command = ("--config", files[0], "--set", "resources.device=cuda", "--output-dir", tmp_path / "out")
    assert refusal(capsys, *command).startswith("--device must be one that this machine has, got cuda")
    monkeypatch.setenv("RAY_ADDRESS", "no-port")  # an address that is none ends the command before Ray
    assert refusal(capsys, *command).startswith("--address must lead to a running Ray cluster, got 'no-port'")


def test_a_file_of_two_algorithms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    path.write_text("algo: [ppo, dqn]\n")
    line = refusal(capsys, "--config", path)
    assert line == f"algo must be one of ppo, dqn, apg, got ['ppo', 'dqn'] ({path}). Correct the name."


def test_settings_of_one_algorithm_are_named_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: tuple[Path, Path]
) -> None:
    both = ("--config", *files, "--output-dir", tmp_path / "out")
    line = refusal(capsys, *both, "--set", "training.batch_size=8")
    assert line.startswith("training.batch_size is not a known setting")  # not one of PPO
    line = refusal(capsys, *both, "--set", "dqn.training.batch_size=0")
    assert line.startswith("training.batch_size: input should be greater than or equal to 1")
    line = refusal(capsys, *both, "--set", "dqn.environment.cost_bps=25")
    assert line.startswith(
        "environment.cost_bps must be the same for all algorithms, got 10.0 for ppo and 25.0 for dqn"
    )
    line = refusal(capsys, "--config", files[0], files[0])
    assert line.startswith("--config must name one file for each algorithm, got two for ppo")


def parsed(*flags: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    walk_forward.configure(parser)
    return parser.parse_args(["--quiet", *map(str, flags)])


def test_what_is_planned_from_another_folder_finds_its_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    prices = Path(price_settings["market.data"])
    monkeypatch.chdir(prices.parent)
    config = write_config(tmp_path / "ppo.yaml", price_settings, {"market.data": prices.name})
    (planned,) = walk_forward._configs(parsed("--config", config, "--index-path", prices.name))
    assert (planned.market.data, planned.market.index_path) == (str(prices), str(prices))


def test_an_analysis_whose_table_was_moved_is_told_where_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    output, old, new = tmp_path / "out", tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_bytes(Path(price_settings["market.data"]).read_bytes())
    config = load_run_config(write_config(tmp_path / "ppo.yaml", price_settings, {"market.data": str(old)}), {})
    start_analysis(plan_walk_forward([config], 1, FoldLengths(num_folds=2)), output)
    old.rename(new)
    plan = walk_forward._plan(parsed("--resume", output, "--data-path", new), output, [])
    assert plan.market_config.data == str(new)
    assert record_of(output)["plan"]["algorithms"]["ppo"]["market"]["data"] == str(new)  # for the next --resume
    (2.0 * pd.read_csv(new, index_col=0)).to_csv(new)
    before = record_of(output)
    line = refusal(capsys, "--resume", output, "--data-path", new)
    assert line.startswith("tables must be those that the folds were planned on, got data_hash ")
    assert record_of(output) == before


def test_another_configuration_in_the_same_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: tuple[Path, Path]
) -> None:
    output = tmp_path / "out"
    plan = plan_walk_forward([load_run_config(files[0], {})], 3, FoldLengths(num_folds=2))
    start_analysis(plan, output)
    line = refusal(capsys, "--config", files[0], "--folds", 2, "--output-dir", output, "--set", "training.gamma=0.5")
    assert line.startswith(f"ppo settings training.gamma must be that of the analysis in {output}, 0.99, got 0.5.")
