"""`tune.py` as people and schedulers call it: what it prints, how it exits, what kill -9 and signals leave behind."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from rllib_portfolio import cli
from rllib_portfolio.tuning.study import open_storage, open_study
from tests.tiny_runs import COIN, tiny_config

SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def write_search(path: Path, *settings: dict[str, Any], space: object = SPACE) -> Path:
    """A configuration with a search space."""
    values = tiny_config(*settings).model_dump(mode="json")
    path.write_text(yaml.safe_dump(values | ({} if space is None else {"search": space})))
    return path


# ---------------------------------------------------------------- what can be mended: one line, exit code 2


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that `tune.py` prints on stderr; it must exit with 2 and say nothing else."""
    assert cli.tune(["--quiet", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


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
        (["--max-steps", "0"], "max_steps: input should be greater than or equal to 1"),
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
        ({"environment.cost_bps": {"low": 0.0, "high": 10.0}}, "search must not contain environment.cost_bps: what"),
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
    assert line.startswith("search must have a readable record, got JSONDecodeError: ")


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
