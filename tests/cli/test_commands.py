"""`rllib-portfolio`: one command line, which names its commands as they were called."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pytest

from rllib_portfolio import cli
from rllib_portfolio.cli.commands import COMMANDS
from rllib_portfolio.cli.output_folder import new_name, opened
from rllib_portfolio.command_names import PROGRAM, as_invoked

TEXT = "python train.py, tune.py, backtest.py RUN, python backtest.py walk-forward, python -m rllib_portfolio.market"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The program that was called: an installed one, on the search path."""
    called = f"/somewhere/bin/{PROGRAM}"
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(shutil, "which", lambda name: called)
    return called


def test_scripts_are_named_as_scripts() -> None:
    assert as_invoked(TEXT) == TEXT


def test_an_installed_command_is_named_as_it_was_called(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "P train, P tune, P backtest RUN, P walk-forward, P data"
    assert as_invoked(TEXT) == expected.replace("P", PROGRAM)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert as_invoked(TEXT) == expected.replace("P", installed)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_names_no_script(
    installed: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([name, "--help"])
    printed = capsys.readouterr().out
    assert raised.value.code == 0
    assert printed.startswith(f"usage: {PROGRAM} {name} ")
    assert ".py " not in printed
    assert "python " not in printed


@pytest.mark.parametrize("words", [[], ["trian"], ["--algo", "ppo"]])
def test_what_is_no_command_shows_the_usage(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: {PROGRAM} COMMAND [options]\n")


def test_the_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["--help"])
    printed = capsys.readouterr().out
    assert raised.value.code == 0
    assert all(f"    {name} " in printed or f"    {name}\n" in printed for name in COMMANDS)


def test_an_error_names_the_command_that_was_called(installed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "train.py"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: RUN_DIR must be a folder that {PROGRAM} train wrote, got train.py, ")


def test_an_installed_command_is_continued_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(argparse.Namespace(resume=None), "runs/a run", "python train.py") as output:
        trusted = [{"reward": "my_rewards:reward"}]
        command = f"{PROGRAM} train --resume '{tmp_path}/runs/a run' --trust-custom my_rewards:reward"
        assert output.resume_command(trusted) == command
        monkeypatch.setattr(sys, "argv", ["train.py"])
        command = "python train.py --resume 'runs/a run' --trust-custom my_rewards:reward"
        assert output.resume_command(trusted) == command


def test_two_folders_that_begin_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        name = new_name(tmp_path)
        (tmp_path / name).mkdir()
        names.add(name)
    assert len(names) == 3
