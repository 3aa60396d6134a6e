"""`tune.py` as people and schedulers call it: what it prints, how it exits, what kill -9 and signals leave behind."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio import cli
from rllib_portfolio.experiments.search.study import open_storage, open_study, study_path, trial_name
from tests.cli.test_train import assert_in_use, assert_quiet
from tests.runs.test_tracking import columns_of, rows_of
from tests.tiny_runs import COIN, tiny_config

SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def write_search(path: Path, *settings: dict[str, Any], space: object = SPACE) -> Path:
    """A configuration with a search space."""
    values = tiny_config(*settings).model_dump(mode="json")
    path.write_text(yaml.safe_dump(values | ({} if space is None else {"search": space})))
    return path


# ---------------------------------------------------------------- interruptions

NUM_TRIALS = 5
UNHURRIED = "tests.experiments.search.user_rewards:unhurried"
SLOW = {"environment.reward": UNHURRIED}
"""A quarter of a second an iteration: a trial of 512 steps takes two, and is evaluated four times."""


@pytest.fixture(scope="module")
def shell(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Options of a process in the checkout, without the settings that these tests make for Ray."""
    ours = ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "PYTHONWARNINGS")
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    return {"cwd": pytestconfig.rootpath, "env": variables, "text": True}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "tune.py", *map(str, arguments)]


def trials_in(output: Path) -> list[FrozenTrial]:
    """Return the trials of the study between two sessions."""
    return optuna.load_study(study_name="ppo", storage=f"sqlite:///{study_path(output, 'ppo')}").get_trials()


def reached(output: Path) -> tuple[int, int]:
    """Trials that are finished, and those that run and have reported, by now: Optuna would write when it connects."""
    path = study_path(output, "ppo")
    if not path.is_file():
        return 0, 0
    reported = "trial_id IN (SELECT trial_id FROM trial_intermediate_values)"
    query = f"SELECT SUM(state = 'COMPLETE'), SUM(state = 'RUNNING' AND {reported}) FROM trials"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            ((num_finished, num_running),) = database.execute(query).fetchall()
        except sqlite3.OperationalError:  # its tables are just being made
            return 0, 0
    return num_finished or 0, num_running or 0


def interrupted(
    number: signal.Signals,
    words: list[str],
    output: Path,
    shell: dict[str, Any],
    num_finished: int,
) -> subprocess.CompletedProcess[str]:
    """Start a command and send it a signal, SIGKILL to all of its session: Ray's processes have groups of their own.

    Sent when so many trials are finished and another one has reported.
    """
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **shell)
    try:
        deadline = time.monotonic() + 240
        while (now := reached(output))[0] < num_finished or not now[1]:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the search does not get going"
            time.sleep(0.2)
        assert_in_use(cli.tune, ["--resume", output], output, process.pid)
        for pid in processes_of(process.pid) if number == signal.SIGKILL else [process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    wait_until_alone(process.pid)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def wait_until_alone(session: int) -> None:
    """Until no process of a session is left: Ray's end themselves when their driver is gone."""
    deadline = time.monotonic() + 60
    while left := processes_of(session):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def processes_of(session: int) -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if session_of(pid) == session]


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


class Interruptions(NamedTuple):
    """One search: stopped by SIGTERM, taken up, killed with kill -9, taken up and brought to its end."""

    output: Path
    stopped: subprocess.CompletedProcess[str]
    when_stopped: list[FrozenTrial]
    killed: subprocess.CompletedProcess[str]
    when_killed: list[FrozenTrial]
    files_when_killed: dict[Path, int]
    resumed: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def interruptions(tmp_path_factory: pytest.TempPathFactory, shell: dict[str, Any]) -> Interruptions:
    folder = tmp_path_factory.mktemp("search")
    config, output = write_search(folder / "tiny.yaml", COIN, SLOW), folder / "out"
    again = command("--resume", output, "--trust-custom", UNHURRIED)
    first = command(
        *("--config", config, "--output-dir", output, "--num-samples", NUM_TRIALS, "--max-steps", 512),
        *("--report-interval", 128, "--scheduler", "none", "--retrain-top", 0),
    )
    stopped = interrupted(signal.SIGTERM, first, output, shell, 0)
    when_stopped = trials_in(output)
    killed = interrupted(signal.SIGKILL, again, output, shell, 1)
    when_killed = trials_in(output)
    files = {path: path.stat().st_mtime_ns for path in (output / "trials").rglob("*") if path.is_file()}
    resumed = subprocess.run(again, capture_output=True, timeout=300, check=False, **shell)
    return Interruptions(output, stopped, when_stopped, killed, when_killed, files, resumed)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_sigterm_leaves_trials_to_be_done_and_says_how_to_continue(interruptions: Interruptions) -> None:
    stopped, trials = interruptions.stopped, interruptions.when_stopped
    assert stopped.returncode == 143, stopped.stderr
    assert_quiet(stopped.stderr)
    again = f"python tune.py --resume {interruptions.output} --trust-custom {UNHURRIED}"
    assert stopped.stdout.splitlines()[-1] == f"Stopped; what was done is kept. Continue with: {again}"
    assert {trial.state for trial in trials} == {TrialState.RUNNING}
    assert 1 <= len(trials) < NUM_TRIALS
    assert any(trial.intermediate_values for trial in trials)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_kill_9_loses_and_repeats_nothing(interruptions: Interruptions) -> None:
    assert interruptions.killed.returncode == -signal.SIGKILL
    assert interruptions.resumed.returncode == 0, interruptions.resumed.stderr
    after = trials_in(interruptions.output)
    assert [trial.number for trial in after] == list(range(NUM_TRIALS))
    assert {trial.state for trial in after} == {TrialState.COMPLETE}
    assert len({trial.params["training.learning_rate"] for trial in after}) == NUM_TRIALS
    for before in (interruptions.when_stopped, interruptions.when_killed):
        for trial in before:
            now = after[trial.number]
            assert (now.params, now.datetime_start) == (trial.params, trial.datetime_start)
            assert now.intermediate_values.items() >= trial.intermediate_values.items()
            if trial.state == TrialState.COMPLETE:
                assert now == trial  # untouched
    for trial in after:
        folder = interruptions.output / "trials" / trial_name(trial.number)
        assert [int(row["steps"]) for row in rows_of(folder)] == list(range(64, 513, 64))
        assert list(trial.intermediate_values) == [128, 256, 384, 512]
        assert trial.intermediate_values == dict(columns_of(folder)["validation/sharpe_ratio"])


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_interrupted_trials_go_on_from_their_own_checkpoints_and_finished_ones_are_not_touched(
    interruptions: Interruptions,
) -> None:
    is_finished = {trial_name(trial.number): trial.state == TrialState.COMPLETE for trial in interruptions.when_killed}
    assert True in is_finished.values()
    trials = interruptions.output / "trials"
    for path, changed in interruptions.files_when_killed.items():
        begun_once = path.name == "run.json"  # written when a run begins
        if begun_once or is_finished[path.relative_to(trials).parts[0]]:
            assert path.stat().st_mtime_ns == changed, path
    for trial in interruptions.when_killed:
        if trial.state == TrialState.RUNNING and trial.intermediate_values:
            events = sorted((trials / trial_name(trial.number)).glob("events.out.tfevents.*"))
            assert len([path for path in events if path in interruptions.files_when_killed]) >= 1
            assert len([path for path in events if path not in interruptions.files_when_killed]) >= 1


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_search_that_is_brought_to_its_end_says_what_it_came_to(interruptions: Interruptions) -> None:
    done, output = interruptions.resumed, interruptions.output
    assert_quiet(done.stderr)
    num_before = sum(trial.state == TrialState.COMPLETE for trial in interruptions.when_killed)
    assert f"{num_before} of {NUM_TRIALS} trials had already ended." in done.stderr
    assert f"[{NUM_TRIALS}/{NUM_TRIALS}] trial_" in done.stderr
    assert done.stderr.count(": finished after 512 steps, validation Sharpe ") == NUM_TRIALS - num_before
    assert f"Trials: {NUM_TRIALS} finished." in done.stdout
    assert f"Train it: python train.py --config {output}/best_config.yaml" in done.stdout
    assert json.loads((output / "summary.json").read_text())["num_trials"] == NUM_TRIALS
    assert json.loads((output / "ppo_search.json").read_text())["command"].startswith("python tune.py --config ")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_search_that_is_complete_says_so_and_writes_its_tables_again(
    interruptions: Interruptions, capsys: pytest.CaptureFixture[str]
) -> None:
    output = interruptions.output
    assert cli.tune(["--resume", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        f"{output} is complete: its 5 trials have ended. To continue, pass a larger --num-samples.",
        "Writing tables and plots ...",
    ]
    assert f"Trials: {NUM_TRIALS} finished." in printed.out


def test_help_lists_every_flag_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.tune(["--help"])
    assert raised.value.code == 0
    printed = capsys.readouterr().out
    for text in (
        *("--num-samples N", "--max-steps N", "--max-concurrent N", "--time-budget TIME", "--search {optuna,random}"),
        *("--scheduler {median,asha,none}", "--address ADDRESS", "--resume [DIR]", "--storage URL"),
        *("--storage-path PATH", "examples:", "python tune.py --algo ppo --num-samples 50"),
    ):
        assert text in printed


@pytest.mark.ray
def test_a_trial_that_no_machine_can_hold_is_refused_before_anything_is_written(
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    config_path: Path,
) -> None:
    monkeypatch.setattr(sys.modules["rllib_portfolio.cli.tune"], "ray_session", lambda config, address: nullcontext())
    output = tmp_path / "out"
    line = refusal(capsys, "--config", config_path, "--output-dir", output, "--gpus-per-trial", 64)
    assert line.startswith("a trial must fit the Ray cluster, got 64 GPUs where it has ")
    assert not output.exists()


def test_a_search_from_another_folder_finds_its_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config_path: Path
) -> None:
    (tmp_path / "index.csv").touch()
    monkeypatch.chdir(tmp_path)
    command, parser = sys.modules["rllib_portfolio.cli.tune"], argparse.ArgumentParser()
    command.configure(parser)
    arguments = parser.parse_args(["--config", str(config_path), "--index-path", "index.csv"])
    arguments.command_line = "tune.py"
    assert command._new(arguments).config.market.index_path == f"{tmp_path}/index.csv"


# ---------------------------------------------------------------- what can be mended: one line, exit code 2


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that `tune.py` prints on stderr; it must exit with 2 and say nothing else."""
    assert cli.tune(["--quiet", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_trials_of_a_job_may_use_a_device_that_another_machine_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_path: Path
) -> None:
    command = ("--config", config_path, "--set", "resources.device=cuda", "--output-dir", tmp_path / "search")
    assert refusal(capsys, *command).startswith("--device must be one that this machine has, got cuda")
    monkeypatch.setenv("RAY_ADDRESS", "no-port")  # an address that is none ends the command before Ray
    assert refusal(capsys, *command).startswith("--address must lead to a running Ray cluster, got 'no-port'")


@pytest.mark.parametrize("flag", ["--output-dir", "--resume"])
def test_a_search_in_an_object_store(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, flag, "s3://bucket/search")
    assert line == (
        f"{flag} must be a path, got the URI s3://bucket/search. Only the runs of trials can be stored at a URI: "
        "give it as --storage-path."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return write_search(tmp_path / "tiny.yaml", COIN)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "training.gama=0.9"], "training.gama is not a known setting ("),
        (["--set", "training.gamma"], "--set must read section.setting=value"),
        (["--algo", "dqn"], "--algo must be that of "),
        (["--num-samples", "0"], "num_samples: input should be greater than or equal to 1"),
        (["--max-steps", "0e3"], "max_steps: input should be greater than or equal to 1"),
        (["--report-interval", "-1"], "report_interval: input should be greater than or equal to 1"),
        (["--seed", "-1"], "seed: input should be greater than or equal to 0"),
        (["--time-budget", "2 days"], "--time-budget must be a time such as 90, 30m or 2h, got '2 days'."),
        (["--time-budget", "0"], "--time-budget must be a time such as 90, 30m or 2h, got '0'."),
        (["--max-concurrent", "0"], "--max-concurrent must be at least 1, got 0."),
        (["--cpus-per-trial", "0"], "--cpus-per-trial must be at least 0.01, got 0.0."),
        (["--cpus-per-trial", "nan"], "--cpus-per-trial must be at least 0.01, got nan."),
        (["--gpus-per-trial", "-1"], "--gpus-per-trial must be at least 0.0, got -1.0."),
        (["--data-path", "nowhere.csv"], "the price file must exist, got nowhere.csv."),
        (["--storage", "nonsense"], "--storage must be the URL of a database that can be opened, got nonsense ("),
        (["--storage-path", "nowhere://bucket"], "--storage-path must be a shared folder or the URI of an object"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path, flags: list[str], message: str
) -> None:
    output = tmp_path / "out"
    assert refusal(capsys, "--config", config_path, "--output-dir", output, *flags).startswith(message)
    assert not output.exists()


@pytest.mark.parametrize(("flag", "value"), [("wandb", "project"), ("mlflow", "runs")])
def test_a_service_whose_package_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path, flag: str, value: str
) -> None:
    if find_spec(flag) is not None:
        pytest.skip(f"{flag} is installed")
    line = refusal(capsys, "--config", config_path, "--output-dir", tmp_path / "out", f"--{flag}", value)
    assert line.startswith(f"--{flag} must come with its package, got No module named '{flag}'.")
    assert line.endswith(f"pip install rllib-portfolio[{flag}].")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "search must map settings to {low, high} or {choices}, got None ("),
        ({"market.cash_rate": {"low": 0.0, "high": 0.1}}, "search must not contain market.cash_rate: all trials must"),
        ({"environment.cost_bps": {"low": 0.0, "high": 10.0}}, "search must not contain environment.cost_bps: costs"),
        ({"training.gama": {"low": 0.9, "high": 0.99}}, "training.gama is not a known setting ("),
    ],
)
def test_a_search_space_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, space: object, message: str
) -> None:
    path = write_search(tmp_path / "tiny.yaml", COIN, space=space)
    assert refusal(capsys, "--config", path, "--output-dir", tmp_path / "out").startswith(message)
    assert not (tmp_path / "out").exists()


def test_the_password_of_a_database_is_not_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path
) -> None:
    url = "nosql://tuner:opensesame@db:5432/optuna"
    line = refusal(capsys, "--config", config_path, "--output-dir", tmp_path / "out", "--storage", url)
    assert line.startswith("--storage must be the URL of a database that can be opened, got nosql://tuner:***@db:5432/")
    assert "sesame" not in line


def test_an_output_directory_that_holds_a_search(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path
) -> None:
    record = tmp_path / "out" / "dqn_search.json"
    record.parent.mkdir()
    record.write_text("all of it")
    line = refusal(capsys, "--config", config_path, "--output-dir", record.parent)
    assert line.startswith(f"output directory must be new or empty, got {record.parent}, which holds a search of dqn.")
    assert f"--resume {record.parent}" in line
    assert [path.read_text() for path in record.parent.iterdir()] == ["all of it"]
    line = refusal(capsys, "--resume", record.parent)
    assert line.startswith("search must have a readable dqn_search.json, got JSONDecodeError: ")


def test_places_that_hold_another_search(capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    open_study(open_storage(url), "ppo")
    (tmp_path / "shared" / "trials" / "trial_0000").mkdir(parents=True)
    command = ("--config", config_path, "--output-dir", tmp_path / "out")
    line = refusal(capsys, *command, "--storage", url)
    assert line.startswith(f"--storage must hold no study named ppo for a new search, got {url}.")
    line = refusal(capsys, *command, "--storage-path", tmp_path / "shared")
    assert line.startswith(f"--storage-path must hold no runs of another search, got {tmp_path}/shared/trials.")
    assert not (tmp_path / "out").exists()


def test_resuming_what_is_no_search(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        line = refusal(capsys, "--resume", path)
        assert line.startswith(f"--resume must name the folder of a search, got {path}, which holds no *_search.json.")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--max-steps", "10"], "--max-steps"),
        (["--seed", "0"], "--seed"),
        (["--set", "training.gamma=0.5", "--algo", "ppo"], "--algo, --set"),
        (["--scheduler", "none", "--output-dir", "elsewhere"], "--output-dir, --scheduler"),
        (["--storage-path", "s3://bucket"], "--storage-path"),
    ],
)
def test_resuming_with_other_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], named: str
) -> None:
    line = refusal(capsys, "--resume", tmp_path, *flags)
    assert line.startswith(f"--resume must keep the search's own settings, got {named}. ")


def test_an_algorithm_that_nobody_knows_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.tune(["--algo", "a2c"])
    assert raised.value.code == 2
    assert "argument --algo: invalid choice: 'a2c'" in capsys.readouterr().err
