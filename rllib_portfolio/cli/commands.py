"""The commands by their names, each called as a sub-command of `rllib-portfolio` or as a script of a checkout."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rllib_portfolio.cli.console import guarded
from rllib_portfolio.command_names import PROGRAM, as_invoked
from rllib_portfolio.config.consent import trust


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the command line.

    Attributes:
        module: Module in this package with `configure(parser)`, which adds a description and flags, and
            `execute(arguments)`, which returns the exit code.
        script: How the command is called in a checkout.
        summary: What it does, for a list of commands.
    """

    module: str
    script: str
    summary: str


COMMANDS = {
    "train": Command("train", "python train.py", "train a policy, and compare it with what anyone can hold"),
    "tune": Command("tune", "python tune.py", "search for settings"),
    "backtest": Command("backtest", "python backtest.py", "judge trained policies beside every baseline"),
    "walk-forward": Command(
        "walk_forward",
        "python backtest.py walk-forward",
        "train again on each of several windows, judge on later days",
    ),
    "audit": Command("audit", "python backtest.py audit", "prove that nothing leaks, or show the first counterexample"),
    "data": Command("market", "python -m rllib_portfolio.market", "check a price file, or write it with its regimes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rllib-portfolio`: a command by its name."""
    words = _words(arguments)
    if words and words[0] in COMMANDS:
        return _run(words[0], words[1:])
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s COMMAND [options]",
        description="Train, tune and back-test portfolio-allocation policies with Ray RLlib.",
        epilog=f"`{PROGRAM} COMMAND --help` explains a command and its options.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary, add_help=False)

    def end() -> int:
        parser.parse_args(words)  # prints the help or what is wrong, and exits
        return 2

    return guarded(end)


def train(arguments: Sequence[str] | None = None) -> int:
    """Run `train.py`."""
    return _run("train", _words(arguments))


def tune(arguments: Sequence[str] | None = None) -> int:
    """Run `tune.py`."""
    return _run("tune", _words(arguments))


def backtest(arguments: Sequence[str] | None = None) -> int:
    """Run `backtest.py`, which has two commands with names of their own: what begins otherwise is a run folder."""
    words = _words(arguments)
    if words and words[0] in ("walk-forward", "audit"):
        return _run(words[0], words[1:])
    return _run("backtest", words)


def data(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m rllib_portfolio.market`."""
    return _run("data", _words(arguments))


class _Parser(argparse.ArgumentParser):
    """A parser whose help names commands as they can be called here."""

    def format_help(self) -> str:
        return as_invoked(super().format_help())


def _words(arguments: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if arguments is None else arguments)


def _run(name: str, words: list[str]) -> int:
    """Parse the words that follow a command's name, execute it, and return its exit code."""
    script = COMMANDS[name].script
    module: Any = importlib.import_module(f"rllib_portfolio.cli.{COMMANDS[name].module}")
    parser = _Parser(
        prog=as_invoked(re.sub(r"^python (?!-m)", "", script)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.configure(parser)

    def execute() -> int:
        parsed = parser.parse_args(words)
        parsed.command_line = " ".join([as_invoked(script), *map(shlex.quote, words)])
        trust(getattr(parsed, "trust_custom", ()))
        exit_code: int = module.execute(parsed)
        return exit_code

    return guarded(execute)
