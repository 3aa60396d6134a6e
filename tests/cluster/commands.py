"""Commands out of files, checked by the parsers that would read them: Ray's own, and those of the project's scripts."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

import click

SCRIPTS = {"train.py": "train", "tune.py": "tune", "backtest.py": "backtest"}
"""Script to its module in `rllib_portfolio.cli`."""

_RAY = r"(?<![-\w./])ray (?:job )?[a-z][-a-z]+ [^&|;>]*|(?<![-\w./])ray (?:stop|status)"
_SCRIPT = r"(?:python )?(?:/app/)?(?:train|tune|backtest)\.py [^&|;>]*"


def joined_lines(shell: str) -> list[str]:
    """Lines without comments, messages and what continues on the next one."""
    lines = re.sub(r"\\\n\s*", " ", shell).splitlines()
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in lines]
    return [line for line in lines if not re.match(r"\s*(say|die|echo|printf)\b|.*\|\| (die|echo)\b", line)]


def ray_commands(lines: Sequence[str]) -> list[list[str]]:
    """The words of each `ray ...`, without what follows ` -- `."""
    found = [match for line in lines for match in re.findall(_RAY, line)]
    return [shlex.split(command.split(" -- ")[0]) for command in found]


def script_commands(lines: Sequence[str]) -> list[list[str]]:
    """The words of each command of the project's, from the script's name on."""
    found = [match for line in lines for match in re.findall(_SCRIPT, line)]
    return [shlex.split(re.sub(r"^(python )?(/app/)?", "", command)) for command in found]


def check_ray(words: Sequence[str]) -> None:
    """Raise `click.UsageError` for a command or an option that Ray's command line does not have."""
    from ray.scripts.scripts import cli

    command: Any = cli
    rest = list(words[1:])
    while isinstance(command, click.Group):
        name = rest.pop(0)
        if name not in command.commands:
            raise click.UsageError(f"no such command: {' '.join(words)}")
        command = command.commands[name]
    if words[1] == "symmetric-run":  # takes its own two options and those of `ray start`
        rest = _without(rest, {"--address", "--min-nodes"})
        command = cli.commands["start"]
    command.make_parser(click.Context(command)).parse_args(args=rest)


def check_script(words: Sequence[str]) -> None:
    """Raise `click.UsageError` for arguments that the script's own parser refuses."""
    module = f"rllib_portfolio.cli.{SCRIPTS[words[0]]}"
    rest = list(words[1:])
    if words[0] == "backtest.py" and rest[0] in ("walk-forward", "audit"):
        module = f"rllib_portfolio.cli.{rest.pop(0).replace('-', '_')}"
    parser = argparse.ArgumentParser(prog=words[0], exit_on_error=False)
    importlib.import_module(module).configure(parser)
    try:
        parser.parse_args(rest)
    except (argparse.ArgumentError, SystemExit) as error:
        raise click.UsageError(f"{' '.join(words)}: {error}") from None


def _without(words: Sequence[str], flags: set[str]) -> list[str]:
    """The words but for some flags and their values."""
    left: list[str] = []
    position = 0
    while position < len(words):
        if words[position] in flags:
            position += 2
        else:
            left.append(words[position])
            position += 1
    return left
