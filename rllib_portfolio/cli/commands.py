"""The table of commands. Each is a sub-command of `rllib-portfolio` and a script of a checkout."""

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
    """A command of the command line.

    Attributes:
        module: Module of this package that has `configure(parser)` and `execute(arguments)`.
        script: How the command is called in a checkout.
        summary: One line for the list of commands.
    """

    module: str
    script: str
    summary: str


COMMANDS = {
    "train": Command("train", "python train.py", "train a policy and compare it with the baselines"),
    "tune": Command("tune", "python tune.py", "search for hyperparameters"),
    "backtest": Command("backtest", "python backtest.py", "compare trained policies with every baseline"),
    "walk-forward": Command(
        "walk_forward", "python backtest.py walk-forward", "train on successive windows and evaluate on later days"
    ),
    "audit": Command("audit", "python backtest.py audit", "check an environment and a policy for look-ahead bias"),
    "data": Command("market", "python -m rllib_portfolio.market", "check a price file, or add market regimes to it"),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose help names each command as the user calls it: as a script, or as a sub-command of the program."""

    def format_help(self) -> str:
        return as_invoked(super().format_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `rllib-portfolio` that the first argument names, and return its exit code."""
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
    """Run `backtest.py`, or its commands `walk-forward` and `audit` if the first argument names one of them."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("walk-forward", "audit"):
        return _run(words[0], words[1:])
    return _run("backtest", words)


def _run(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `arguments` defaults to the arguments of this process."""
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
