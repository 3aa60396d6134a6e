"""The folder of a run: where it was begun, as its record tells, and the settings that it goes on with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio import cli, load_policy
from rllib_portfolio.atomic import sealed, whole_file, write_json
from rllib_portfolio.errors import ConfigError, MachineError
from rllib_portfolio.policies.checkpoint import MANIFEST, _digests, checkpoints
from rllib_portfolio.runs import folder as run_folder
from rllib_portfolio.runs.folder import (
    CONFIG,
    MARKET,
    RECORD,
    _write_config,
    create_run_folder,
    is_from_elsewhere,
    open_run_folder,
    record_settings,
)
from rllib_portfolio.runs.loop import resume_point
from tests.full_disk import full_disk
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


def test_a_run_that_goes_on_as_it_was_is_not_written(run_dir: Path) -> None:
    (run_dir / CONFIG).write_text(f"# by hand\n{(run_dir / CONFIG).read_text()}")
    before = (run_dir / CONFIG).read_text()
    record_settings(run_dir, open_run_folder(run_dir, {})[0])
    assert (run_dir / CONFIG).read_text() == before


def test_settings_that_could_not_be_written_leave_the_old_ones(run_dir: Path) -> None:
    before = (run_dir / CONFIG).read_text(), (run_dir / RECORD).read_text()
    config, _ = open_run_folder(run_dir, {"schedule.total_timesteps": 900})
    message = rf"run must be a folder that can be written, got {run_dir} \(File too large\)"
    with full_disk(), pytest.raises(MachineError, match=message):
        record_settings(run_dir, config)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        _write_config(run_dir, config)
    assert ((run_dir / CONFIG).read_text(), (run_dir / RECORD).read_text()) == before


def test_a_run_whose_folder_could_not_be_written_has_not_begun(tmp_path: Path, run_dir: Path) -> None:
    config, market = open_run_folder(run_dir, {})
    with full_disk(), pytest.raises(MachineError, match="output directory must be writable"):
        create_run_folder(tmp_path / "new", config, market, run_dir / MARKET)
    assert not (tmp_path / "new").exists()


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
    for length in range(0, len(text.rstrip()), 7):
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


@pytest.mark.ray
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


@pytest.mark.ray
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"config": []}, "must be that of step_"),
        ({"best_checkpoint": 5}, "checkpoint must hold the state of a run, got "),
        ({"steps": "x"}, "checkpoint must hold the state of a run, got "),
    ],
)
def test_a_checkpoint_that_somebody_rewrote_is_refused_in_one_line(
    finished_run: TinyRun, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    run_dir = shutil.copytree(finished_run.run_dir, tmp_path / "run")
    newest = checkpoints(run_dir)[-1]
    progress = json.loads((newest / "progress.json").read_text())
    (newest / "progress.json").write_text(json.dumps(progress | values))
    write_json(newest / MANIFEST, _digests(newest))
    with pytest.raises(ConfigError, match=message):
        resume_point(open_run_folder(run_dir, {})[0], run_dir)


@pytest.mark.ray
def test_a_run_of_a_former_version_is_opened_without_any_digest(finished_run: TinyRun, tmp_path: Path) -> None:
    run_dir = shutil.copytree(finished_run.run_dir, tmp_path / "run")
    for checkpoint in checkpoints(run_dir):
        progress, policy = checkpoint / "progress.json", checkpoint / "policy" / "policy.json"
        for path, new in ((progress, {"config"}), (policy, {"sha256", "weights_sha256"})):
            values = json.loads(path.read_text())
            assert new <= values.keys()
            path.write_text(json.dumps({name: value for name, value in values.items() if name not in new}))
        write_json(checkpoint / MANIFEST, _digests(checkpoint))
    record = json.loads((run_dir / RECORD).read_text())
    del record["sha256"]
    write_json(run_dir / RECORD, record)
    assert open_run_folder(run_dir, {})[0] == finished_run.config
    load_policy(run_dir)


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
