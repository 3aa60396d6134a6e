"""The folder of a run: where it was begun, as its record tells, and the settings that it goes on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_portfolio import cli
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.run_folder import (
    CONFIG,
    MARKET,
    RECORD,
    _write_config,
    create_run_folder,
    is_from_elsewhere,
    open_run_folder,
    record_settings,
)
from tests.full_disk import full_disk
from tests.tiny_runs import COIN, TOTAL_STEPS, start_run, tiny_config

WARNING = "was not begun by this user on this machine"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return start_run(tmp_path / "run", tiny_config(COIN)).run_dir


def begin_elsewhere(run_dir: Path) -> None:
    record = json.loads((run_dir / RECORD).read_text())
    (run_dir / RECORD).write_text(json.dumps({**record, "origin": "0123456789abcdef"}))


def test_a_run_of_ones_own_is_told_from_one_of_another_machine_or_user(run_dir: Path) -> None:
    assert not is_from_elsewhere(run_dir)
    begin_elsewhere(run_dir)
    assert is_from_elsewhere(run_dir)


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_a_run_without_a_record_counts_as_anothers(run_dir: Path, text: str | None) -> None:
    (run_dir / RECORD).unlink()
    if text is not None:
        (run_dir / RECORD).write_text(text)
    assert is_from_elsewhere(run_dir)


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
    assert after == before | {"config": config.model_dump(mode="json")}
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
    with full_disk(), pytest.raises(ConfigError, match=message):
        record_settings(run_dir, config)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        _write_config(run_dir, config)
    assert ((run_dir / CONFIG).read_text(), (run_dir / RECORD).read_text()) == before


def test_a_run_whose_folder_could_not_be_written_has_not_begun(tmp_path: Path, run_dir: Path) -> None:
    config, market = open_run_folder(run_dir, {})
    with full_disk(), pytest.raises(ConfigError, match="output directory must be writable"):
        create_run_folder(tmp_path / "new", config, market, run_dir / MARKET)
    assert not (tmp_path / "new" / RECORD).exists()
    assert not (tmp_path / "new" / CONFIG).exists()


def test_a_run_without_a_record_stays_anothers_when_it_goes_on(run_dir: Path) -> None:
    (run_dir / RECORD).unlink()
    record_settings(run_dir, open_run_folder(run_dir, {"resources.num_env_runners": 1})[0])
    assert json.loads((run_dir / RECORD).read_text())["config"]["resources"]["num_env_runners"] == 1
    assert is_from_elsewhere(run_dir)


def test_another_algorithm_than_the_run_s(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["--resume", str(run_dir), "--quiet", "--algo", "dqn"]) == 2
    assert capsys.readouterr().err == (
        f"error: --algo must be that of {run_dir / CONFIG}, ppo, got dqn. Leave it out.\n"
    )
