"""`train.py` as people and schedulers call it: what it prints, how it exits, what a signal leaves behind."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pyarrow.fs import FSSpecHandler, PyFileSystem

from rllib_portfolio import cli
from rllib_portfolio.cli.console import _keep_token_private, _quiet_processes, is_on_cluster
from rllib_portfolio.cli.flags import whole_number
from rllib_portfolio.cli.settings import default_config
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.runs import loop
from rllib_portfolio.runs.folder import record_settings
from rllib_portfolio.runs.storage import RunStorage
from tests.runs.test_storage import Disk, claim_of_another
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import COIN, STEPS_PER_ITERATION, TOTAL_STEPS, TinyRun, tiny_config

NOISE = ("WARNING", "Warning", "warn(", "Deprecat", "Traceback", "ERROR", "(pid=", "gputil", "new API stack")


def train_command(*arguments: object) -> list[str]:
    return [sys.executable, "train.py", *map(str, arguments)]


@pytest.fixture
def shell(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Options of a process in the checkout, without the settings that these tests make for Ray."""
    ours = ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "PYTHONWARNINGS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return {"cwd": pytestconfig.rootpath, "env": environment, "text": True}


@pytest.fixture
def config_path(tmp_path: Path, price_settings: dict[str, Any]) -> Path:
    return write_config(tmp_path / "tiny.yaml", price_settings)


def write_config(path: Path, *settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(tiny_config(*settings).model_dump(mode="json")))
    return path


def home_with_token(tmp_path: Path, environment: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """Return the path where Ray will write its token, which is not there yet, and the environment variables."""
    without = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH_")}
    return tmp_path / ".ray" / "auth_token", without | {"HOME": str(tmp_path)}


def assert_quiet(stderr: str) -> None:
    assert [line for line in stderr.splitlines() if any(word in line for word in NOISE)] == []


# ---------------------------------------------------------------- whole runs


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_run_prints_its_progress_its_tables_and_its_verdict(
    tmp_path: Path, shell: dict[str, Any], config_path: Path
) -> None:
    run_dir = tmp_path / "run"
    prices = load_run_config(config_path, {}).market.data
    data = ("--data-path", os.path.relpath(str(prices), shell["cwd"]))
    reward = ("--set", "environment.reward=tests.env.user_rewards:over_cash")  # imported in the env runners' processes
    command = train_command("--config", config_path, *data, *reward, "--num-env-runners", 2, "--output-dir", run_dir)
    token, environment = home_with_token(tmp_path, shell["env"])
    done = subprocess.run(command, capture_output=True, timeout=240, check=False, **shell | {"env": environment})
    assert done.returncode == 0, done.stderr
    assert (len(token.read_text()), token.stat().st_mode & 0o777) == (64, 0o600)
    assert_quiet(done.stderr)
    assert f"Run folder: {run_dir}" in done.stderr
    assert "640 steps: validation Sharpe " in done.stderr
    for text in (
        "validation window, ",
        "test window, ",
        "PPO policy",
        "1/N",
        "buy-and-hold",
        "all cash",
        "On the test window (",
        "information ratio",
        f"Written: {run_dir}/results.json",
    ):
        assert text in done.stdout, text
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith(("On the", "Written"))) <= 100
    # two runners of 4 environments: 128 steps an iteration
    assert [int(row["steps"]) for row in rows_of(run_dir)] == [128, 256, 384, 512, 640]
    written = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert written["resources"]["num_env_runners"] == 2
    assert written["market"]["data"] == prices


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of a test; those that are left over are ended with their session."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def wait_for_rows(run_dir: Path, process: subprocess.Popen[str], timeout_s: float = 120.0, since: int = 0) -> None:
    deadline, table = time.monotonic() + timeout_s, run_dir / "progress.csv"
    while not (table.is_file() and table.stat().st_mtime_ns > since and len(rows_of(run_dir)) >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "training does not get going"
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_signal_leaves_a_checkpoint_and_says_how_to_continue(
    tmp_path: Path, shell: dict[str, Any], processes: list[subprocess.Popen[str]]
) -> None:
    endless = {"schedule.total_timesteps": 10**8, "schedule.evaluation_interval": 10**8}
    config_path, run_dir = write_config(tmp_path / "endless.yaml", COIN, endless), tmp_path / "run"
    command = train_command("--config", config_path, "--output-dir", run_dir)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **shell)
    processes.append(process)
    wait_for_rows(run_dir, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends Ctrl-C: to Ray's processes, too
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert_quiet(stderr)
    assert stdout.splitlines()[-1].endswith(f"Continue with: python train.py --resume {run_dir}")
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    steps = read_progress(newest)["steps"]
    assert steps == int(rows_of(run_dir)[-1]["steps"])
    total = steps + 2 * STEPS_PER_ITERATION
    command = train_command("--resume", run_dir, "--total-timesteps", f"{total}e0")
    done = subprocess.run(command, capture_output=True, timeout=240, check=False, **shell)
    assert done.returncode == 0, done.stderr
    assert_quiet(done.stderr)
    assert f"Resuming {run_dir} at {steps:,} of {total:,} steps" in done.stderr
    assert "On the test window (" in done.stdout
    expected = range(STEPS_PER_ITERATION, total + 1, STEPS_PER_ITERATION)
    assert [int(row["steps"]) for row in rows_of(run_dir)] == list(expected)
    written = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert written["schedule"]["total_timesteps"] == total


def assert_in_use(command: Callable[[list[str]], int], words: list[object], folder: Path, pid: int) -> None:
    """Assert that a command refuses a folder which the process of another one writes into."""
    with redirect_stderr(StringIO()) as printed:
        assert command([*map(str, words), "--quiet"]) == 2
    user = re.escape(f"error: {folder} is in use by process {pid} on {platform.node()} since ")
    assert re.fullmatch(rf"{user}[0-9: -]{{16}}\. Wait for it or stop it\.\n", printed.getvalue())


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_run_whose_store_is_lost_is_trained_to_its_end_and_stays_on_this_machine(
    ray_session: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    remote = PyFileSystem(FSSpecHandler(Disk(writes_left=0))), str(tmp_path / "bucket")
    monkeypatch.setattr(RunStorage, "_remote", lambda storage, name="": remote)
    monkeypatch.setattr(RunStorage, "KEPT_WITHIN_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys.modules["rllib_portfolio.cli.train"], "ray_session", lambda config, address: nullcontext())
    path = write_config(tmp_path / "coin.yaml", COIN, {"schedule.checkpoint_interval": STEPS_PER_ITERATION})
    assert cli.train(["--quiet", "--config", str(path), "--storage-path", "store://bucket"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: object store must take what a run wrote, got OSError: the connection was lost (")
    (copy,) = tmp_path.glob("rllib_portfolio-*/*-unkept-*")
    assert f" All of it stays in {copy} on " in line
    newest = newest_checkpoint(copy)
    assert newest is not None
    assert read_progress(newest)["steps"] == TOTAL_STEPS


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_run_whose_place_in_a_store_is_taken_over_ends_with_one_line(
    ray_session: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket, iterate = tmp_path / "bucket", loop._Run._iterate

    def taken_over(run: loop._Run) -> dict[str, float]:
        if run.state.steps == 2 * STEPS_PER_ITERATION:
            claim_of_another(bucket)
        return iterate(run)

    remote = PyFileSystem(FSSpecHandler(Disk())), str(bucket)
    monkeypatch.setattr(RunStorage, "_remote", lambda storage, name="": remote)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys.modules["rllib_portfolio.cli.train"], "ray_session", lambda config, address: nullcontext())
    monkeypatch.setattr(loop._Run, "_iterate", taken_over)
    path = write_config(tmp_path / "coin.yaml", COIN, {"schedule.checkpoint_interval": STEPS_PER_ITERATION})
    assert cli.train(["--quiet", "--config", str(path), "--storage-path", "store://bucket"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"error: store://bucket/ppo/\S+ is now written by process 7 on another since .*stops so as not", line
    )
    assert "--resume" not in line
    assert len(list(bucket.glob("checkpoints/*"))) < len(list(tmp_path.glob("*/*-unkept-*/checkpoints/*")))


def test_help_lists_every_flag_and_an_example(shell: dict[str, Any]) -> None:
    done = subprocess.run(train_command("--help"), capture_output=True, timeout=60, check=False, **shell)
    assert done.returncode == 0
    assert done.stderr == ""
    for text in ("--set A.B=V", "--resume DIR", "--device", "examples:", "python train.py --algo ppo"):
        assert text in done.stdout


# ---------------------------------------------------------------- what can be mended: one line, exit code 2


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that `train.py` prints on stderr; it must exit with 2 and say nothing else."""
    assert cli.train(["--quiet", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_an_unknown_setting(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, "--set", "training.gama=0.9", "--output-dir", tmp_path / "run")
    assert line.startswith("training.gama is not a known setting (")
    assert not (tmp_path / "run").exists()


def test_a_setting_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "--set", "training.gamma").startswith("--set must read section.setting=value")


@pytest.mark.parametrize(
    ("flag", "value", "setting"),
    [
        ("--learning-rate", "-1", "training.learning_rate"),
        ("--total-timesteps", "0", "schedule.total_timesteps"),
        ("--num-env-runners", "-1", "resources.num_env_runners"),
        ("--seed", "-1", "seed"),
    ],
)
def test_a_flag_out_of_bounds(capsys: pytest.CaptureFixture[str], flag: str, value: str, setting: str) -> None:
    assert refusal(capsys, f"{flag}={value}").startswith(f"{setting}: input should be greater than")


@pytest.mark.parametrize("flag", ["--buffer-capacity", "--batch-size"])
def test_a_flag_of_dqn_for_ppo(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert refusal(capsys, flag, 64) == f"{flag} must come with --algo dqn, got ppo. Leave it out."


def test_a_flag_of_dqn_out_of_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "--algo", "dqn", "--buffer-capacity", 10)
    assert line.startswith("training.buffer_capacity must exceed learning_starts, the batch and one fragment, 1000,")


def test_another_algorithm_than_the_file_s(capsys: pytest.CaptureFixture[str]) -> None:
    path = default_config("dqn")
    assert refusal(capsys, "--config", path, "--algo", "ppo").startswith(f"--algo must be that of {path}, dqn, got ppo")


def test_broken_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("training: {gamma: 0.9\nseed: [")
    assert refusal(capsys, "--config", path).startswith(f"config must be a YAML file, got {path} (")


@pytest.mark.parametrize("flags", [[], ["--algo", "ppo"]])
@pytest.mark.parametrize("algo", ["[ppo, dqn]", "{ppo: 1}", "sac"])
def test_a_file_of_no_algorithm(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], algo: str
) -> None:
    path = tmp_path / "algo.yaml"
    path.write_text(f"algo: {algo}\n")
    line = refusal(capsys, "--config", path, *flags)
    assert line == f"algo must be one of ppo, dqn, apg, got {yaml.safe_load(algo)!r} ({path}). Correct the name."


def test_a_missing_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, "--config", tmp_path / "none.yaml")
    assert line.startswith(f"config must be a readable file, got {tmp_path}/none.yaml (No such file or directory)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, "--device", "cuda", "--output-dir", tmp_path / "run")
    assert line.startswith("--device must be one that this machine has, got cuda")
    assert line.endswith("Use --device cpu.")
    line = refusal(capsys, "--num-gpus-per-learner", 1, "--output-dir", tmp_path / "run")
    assert line == (
        "--num-gpus-per-learner must be 0 on a machine without CUDA devices, got 1.0, and torch finds none. Leave it "
        "out."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, 0o600),
        ({"RAY_AUTH_MODE": "token"}, 0o600),
        ({"RAY_AUTH_MODE": "disabled"}, None),
        ({"RAY_AUTH_TOKEN_PATH": "elsewhere"}, None),
        ({"RAY_AUTH_TOKEN": "secret"}, None),
    ],
)
def test_the_file_that_ray_writes_its_token_to_is_its_user_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], expected: int | None
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **setting}.items():
        monkeypatch.setenv(name, value)
    token = tmp_path / ".ray" / "auth_token"
    _keep_token_private()
    assert (token.stat().st_mode & 0o777 if token.exists() else None) == expected
    if expected is not None:
        token.write_text("of an earlier run")
        token.chmod(0o644)
        _keep_token_private()
        assert (token.read_text(), token.stat().st_mode & 0o777) == ("of an earlier run", 0o600)


@pytest.mark.parametrize("of_job", [None, {}, {"env_vars": {"A": "1"}}, {"env_vars": {"PYTHONWARNINGS": "default"}}])
def test_a_job_may_say_what_its_processes_warn_of(
    monkeypatch: pytest.MonkeyPatch, of_job: dict[str, Any] | None
) -> None:
    from ray.runtime_env.runtime_env import _merge_runtime_env

    assert _quiet_processes() == {"env_vars": {"PYTHONWARNINGS": "ignore"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": of_job, "metadata": {}}))
    merged = _merge_runtime_env(of_job, _quiet_processes())  # as ray.init does; None is a conflict
    assert merged is not None
    assert merged["env_vars"] == {"PYTHONWARNINGS": "ignore"} | (of_job or {}).get("env_vars", {})


def test_what_lies_on_a_cluster_is_told_by_the_address_or_by_the_surrounding_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # address, RAY_ADDRESS: whether that is a cluster
    cases = {("auto", None): True, ("10.0.0.1:6379", "local"): True, (None, "10.0.0.1:6379"): True}
    cases |= {(None, None): False, (None, "local"): False, (None, ""): False, ("local", "10.0.0.1:6379"): False}
    for (address, surrounding), expected in cases.items():
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        if surrounding is not None:
            monkeypatch.setenv("RAY_ADDRESS", surrounding)
        assert is_on_cluster(address) is expected, (address, surrounding)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_job_may_learn_on_a_device_that_another_machine_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "no-port")  # an address that is none ends the command before Ray
    command = ("--config", config_path, "--device", "cuda", "--output-dir", tmp_path / "run")
    line = refusal(capsys, *command, "--num-learners", 1)
    assert line.startswith("--address must lead to a running Ray cluster, got 'no-port'")
    # without a learner of its own, the run learns in this process
    assert refusal(capsys, *command).startswith("--device must be one that this machine has, got cuda")


def test_a_missing_table_of_prices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, "--data-path", tmp_path / "prices.csv", "--output-dir", tmp_path / "run")
    assert f"{tmp_path}/prices.csv" in line
    assert not (tmp_path / "run").exists()


def test_an_output_directory_that_holds_something(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    line = refusal(capsys, "--output-dir", tmp_path)
    assert line.startswith(f"output directory must be new or empty, got {tmp_path}.")
    assert f"--resume {tmp_path}" in line
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_an_output_directory_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path
) -> None:
    (tmp_path / "file").touch()
    line = refusal(capsys, "--config", config_path, "--output-dir", tmp_path / "file" / "run")
    assert line.startswith(f"output directory must be writable, got {tmp_path}/file/run (Not a directory)")


def test_an_output_directory_in_an_object_store(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, "--output-dir", "s3://bucket/run")
    assert line == ("--output-dir must be a path, got the URI s3://bucket/run. Give --storage-path, which takes URIs.")
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_told_that_its_folder_will_be_lost_even_if_quiet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    # an address that is none ends the command after the note, and before Ray
    assert cli.train(["--config", str(config_path), "--quiet", "--address", "no-port"]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note.startswith(f"Note: this job writes into its working directory, {tmp_path} on ")
    assert error.startswith("error: --address must lead to a running Ray cluster")


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token(tmp_path: Path, shell: dict[str, Any], config_path: Path) -> None:
    shell["env"] |= {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    shell["env"].pop("RAY_AUTH_TOKEN", None)
    command = train_command("--quiet", "--config", config_path, "--address", "127.0.0.1:1", "--output-dir")
    done = subprocess.run([*command, str(tmp_path / "run")], capture_output=True, timeout=120, check=False, **shell)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --address must lead to a running Ray cluster, got '127.0.0.1:1' (")
    assert line.endswith(
        "set RAY_AUTH_MODE=token and give the token of its head in RAY_AUTH_TOKEN or ~/.ray/auth_token."
    )
    assert not (tmp_path / "run").exists()


def test_resuming_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        line = refusal(capsys, "--resume", path)
        assert line == f"run must be a folder with config.yaml and market.npz, got {path}. Name a run's folder."


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--set", "training.gamma=0.5"], "--set"),
        (["--seed", "0"], "--seed"),
        (["--seed", "1", "--learning-rate", "0"], "--seed, --learning-rate"),
        (["--output-dir", "elsewhere"], "--output-dir"),
        (["--config", "other.yaml"], "--config"),
        (["--data-path", "prices.csv"], "--data-path"),
    ],
)
def test_resuming_with_other_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], named: str
) -> None:
    line = refusal(capsys, "--resume", tmp_path, *flags)
    assert line.startswith(f"--resume must keep the run's own settings, got {named}. ")


@pytest.mark.ray
def test_resuming_from_a_damaged_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished_run: TinyRun
) -> None:
    shutil.copytree(finished_run.run_dir, tmp_path / "run")
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None
    state = next((newest / "rllib").rglob("*.pkl"))
    state.write_bytes(state.read_bytes()[:-1])
    line = refusal(capsys, "--resume", tmp_path / "run", "--total-timesteps", 2 * TOTAL_STEPS)
    assert line.startswith(f"checkpoint must be whole, got a changed file {state.relative_to(newest)} ({newest}).")
    assert line.endswith("Remove it; the run resumes from the one before.")


@pytest.mark.ray
def test_a_run_that_is_complete_says_so_and_compares_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished_run: TinyRun
) -> None:
    shutil.copytree(finished_run.run_dir, tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    for flags in ([], ["--total-timesteps", "64e1"]):
        assert cli.train(["--resume", str(tmp_path / "run"), *flags]) == 0
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert line == f"{tmp_path}/run is complete at 640 steps. To continue, pass a larger --total-timesteps."
        assert "On the test window (" in printed.out
    assert (tmp_path / "run" / "config.yaml").read_text() == before


@pytest.mark.ray
def test_a_run_that_was_stopped_early_is_complete_before_its_last_step(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run_in_cash: TinyRun
) -> None:
    shutil.copytree(run_in_cash.run_dir, tmp_path / "run")
    patient = {"schedule.early_stopping_evaluations": 1, "schedule.total_timesteps": 2 * TOTAL_STEPS}
    record_settings(tmp_path / "run", load_run_config(tmp_path / "run" / "config.yaml", patient))
    assert cli.train(["--resume", str(tmp_path / "run")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/run is complete at 640 of 1,280 steps: early stopping ended it. ")


@pytest.mark.parametrize(("text", "number"), [("50000", 50_000), ("2e4", 20_000), ("2.5e1", 25), ("1_000", 1_000)])
def test_a_count_may_be_written_with_an_exponent(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["2.5e-1", "0.5", "nan", "inf", "many", "1e400", ""])
@pytest.mark.parametrize("command", [cli.train, cli.tune])
def test_a_count_that_is_no_whole_number(
    capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int], text: str
) -> None:
    flag = "--total-timesteps" if command is cli.train else "--max-steps"
    with pytest.raises(SystemExit) as raised:
        command([f"{flag}={text}"])
    assert raised.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(
        f"error: argument {flag}: must be a whole number such as 50000 or 5e4, got {text!r}. Correct it."
    )


def test_an_unknown_flag_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.train(["--learning-rat", "1e-3", "--no-such-flag"])
    assert raised.value.code == 2
    assert "unrecognized arguments: --no-such-flag" in capsys.readouterr().err


@pytest.mark.slow
def test_a_ray_of_this_machine_alone_is_reached_from_nowhere_else() -> None:
    script = """
from rllib_portfolio.cli.console import quieten_libraries, ray_session, stay_on_loopback
from rllib_portfolio.config import PPORunConfig
stay_on_loopback(None)
quieten_libraries()
with ray_session(PPORunConfig(), None):
    import ray
    print({node["NodeManagerAddress"] for node in ray.nodes()})  # what all of its processes listen on
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ENABLE")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "{'127.0.0.1'}", done.stderr
