"""Where a run was begun, as its record tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_portfolio import cli
from rllib_portfolio.run_folder import RECORD, is_from_elsewhere
from tests.tiny_runs import COIN, start_run, tiny_config

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
