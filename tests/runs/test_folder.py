"""The folder of a run: where it was begun, as its record tells, and the settings that it goes on with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio import cli
from rllib_portfolio.atomic import sealed, whole_file, write_json
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.runs import folder as run_folder
from rllib_portfolio.runs.folder import (
    CONFIG,
    RECORD,
    is_from_elsewhere,
    open_run_folder,
    record_settings,
)
from tests.tiny_runs import COIN, TOTAL_STEPS, TinyRun, edit_settings, start_run, tiny_config

WARNING = "was not begun by this user on this machine"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return start_run(tmp_path / "run", tiny_config(COIN)).run_dir


def begin_elsewhere(run_dir: Path) -> None:
    record = json.loads((run_dir / RECORD).read_text())
    write_json(run_dir / RECORD, sealed({**record, "origin": "0123456789abcdef"}))


def test_a_run_of_ones_own_is_told_from_one_of_another_machine_or_user(run_dir: Path) -> None:
    assert not is_from_elsewhere(run_dir)
    begin_elsewhere(run_dir)
    assert is_from_elsewhere(run_dir)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (None, "No such file or directory"),
        ("{", "JSONDecodeError: "),
        ("[]", "ValueError: list instead of a mapping"),
        ('{"origin": "me", "sha256": "0"}', "ValueError: its sha256 is of other values"),
        ("[" * 100_000, "RecursionError: "),
    ],
)
def test_a_run_without_a_whole_record_is_not_opened(run_dir: Path, text: str | None, got: str) -> None:
    (run_dir / RECORD).unlink()
    if text is not None:
        (run_dir / RECORD).write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"run must have a readable run.json, got {got}")) as raised:
        open_run_folder(run_dir, {})
    assert str(raised.value).endswith("Restore it: it holds what the run's settings are checked against.")


@pytest.mark.parametrize("is_ours", [True, False])
def test_resuming_what_another_began_warns_that_it_may_run_code(
    run_dir: Path, capsys: pytest.CaptureFixture[str], is_ours: bool
) -> None:
    if not is_ours:
        begin_elsewhere(run_dir)
    # an address that is none ends the command after the warning, and before Ray
    assert cli.train(["--resume", str(run_dir), "--quiet", "--address", "no-port"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: --address must lead to a running Ray cluster, got 'no-port'")
    assert (WARNING in said.out) is not is_ours
    assert ("can execute any code" in said.out) is not is_ours


# ---------------------------------------------------------------- settings that a run goes on with


def test_a_run_goes_on_with_other_settings_and_says_so(run_dir: Path) -> None:
    before = json.loads((run_dir / RECORD).read_text())
    config, _ = open_run_folder(run_dir, {"schedule.total_timesteps": 900})
    assert open_run_folder(run_dir, {})[0].schedule.total_timesteps == TOTAL_STEPS  # opening writes nothing
    record_settings(run_dir, config)
    assert open_run_folder(run_dir, {})[0] == config
    after = json.loads((run_dir / RECORD).read_text())
    changed = {"config": config.model_dump(mode="json"), "former_config": before["config"]}
    assert after == sealed(before | changed)
    assert after["config"]["schedule"]["total_timesteps"] == 900
    assert not is_from_elsewhere(run_dir)


def test_a_run_that_was_killed_between_its_record_and_its_configuration_goes_on(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run_dir: Path, config: object) -> None:
        raise KeyboardInterrupt

    config, _ = open_run_folder(run_dir, {"schedule.total_timesteps": 900})
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "_write_config", killed)
        with pytest.raises(KeyboardInterrupt):
            record_settings(run_dir, config)
    assert open_run_folder(run_dir, {})[0].schedule.total_timesteps == TOTAL_STEPS
    record_settings(run_dir, config)
    assert open_run_folder(run_dir, {})[0] == config


def test_a_configuration_that_was_cut_short_anywhere_is_refused(run_dir: Path) -> None:
    text = (run_dir / CONFIG).read_text()
    assert text.endswith("mixed_precision: null\n")
    for length in range(0, len(text) - len(" null\n"), 7):  # a value that is missing reads as null
        (run_dir / CONFIG).write_text(text[:length])
        with pytest.raises(ConfigError):
            open_run_folder(run_dir, {})


def test_a_setting_that_was_changed_is_named(run_dir: Path) -> None:
    text = (run_dir / CONFIG).read_text()
    (run_dir / CONFIG).write_text(text.replace("gamma: 0.99", "gamma: 0.98"))
    with pytest.raises(ConfigError) as raised:
        open_run_folder(run_dir, {})
    assert str(raised.value) == (
        f"settings training.gamma must be that of the run's run.json, 0.99, got 0.98 ({run_dir / CONFIG}). Restore "
        f"that file; for other settings start a new run with --config {run_dir / CONFIG}."
    )


def test_a_checkpoint_that_was_trained_with_other_settings_is_noticed(finished_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(finished_run.run_dir, tmp_path / "run")
    shutil.move(tmp_path / "run" / "checkpoints", tmp_path / "kept")

    def cheaper(values: dict[str, Any]) -> None:
        values["environment"]["cost_bps"] = 1.0

    edit_settings(tmp_path / "run", cheaper)
    shutil.move(tmp_path / "kept", tmp_path / "run" / "checkpoints")
    message = r"settings environment.cost_bps must be that of step_000000640, 10.0, got 1.0"
    with pytest.raises(ConfigError, match=message):
        open_run_folder(tmp_path / "run", {})


def test_a_link_that_waits_for_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    (tmp_path / "run.json.unfinished").symlink_to(tmp_path / "thesis.txt")
    with whole_file(tmp_path / "run.json") as file:
        file.write_text("{}")
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    assert not (tmp_path / "run.json").is_symlink()
    assert (tmp_path / "run.json").read_text() == "{}"


def test_another_algorithm_than_the_run_s(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["--resume", str(run_dir), "--quiet", "--algo", "dqn"]) == 2
    assert capsys.readouterr().err == (
        f"error: --algo must be that of {run_dir / CONFIG}, ppo, got dqn. Leave it out.\n"
    )
