"""The commands by their names, each called as a sub-command of `rllib-portfolio` or as a script of a checkout."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from rllib_portfolio.cli.console import guarded
from rllib_portfolio.command_names import PROGRAM, as_invoked
from rllib_portfolio.config.consent import trust


class Command(NamedTuple):
    """A command: its module here, with `configure(parser)` and `execute(arguments)`, its script, and what it does."""

    module: str
    script: str
    summary: str


COMMANDS = {
    "train": Command("train", "python train.py", "train a policy, and compare it with what anyone can hold"),
    "tune": Command("tune", "python tune.py", "search for settings"),
    "backtest": Command("backtest", "python backtest.py", "judge trained policies beside every baseline"),
    "walk-forward": Command(
        "walk_forward", "python backtest.py walk-forward", "train again on each of several windows, judge on later days"
    ),
    "audit": Command("audit", "python backtest.py audit", "prove that nothing leaks, or show the first counterexample"),
    "data": Command("market", "python -m rllib_portfolio.market", "check a price file, or write it with its regimes"),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose help names commands as they can be called here."""

    def format_help(self) -> str:
        return as_invoked(super().format_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rllib-portfolio`: a command by its name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
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


def backtest(arguments: Sequence[str] | None = None) -> int:
    """Run `backtest.py`, which has two commands with names of their own: what begins otherwise is a run folder."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("walk-forward", "audit"):
        return _run(words[0], words[1:])
    return _run("backtest", words)


def _run(name: str, arguments: Sequence[str] | None = None) -> int:
    """Parse the words that follow a command's name, those of this process by default, and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
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


train, tune, data = (partial(_run, name) for name in ("train", "tune", "data"))
"""Run `train.py`, `tune.py` and `python -m rllib_portfolio.market`."""
