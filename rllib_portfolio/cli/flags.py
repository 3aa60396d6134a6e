"""Flags that several commands have, each defined once, and the settings that flags give."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rllib_portfolio.config import DEFAULT_ALGORITHM, RUN_CONFIGS
from rllib_portfolio.config.consent import is_function_name
from rllib_portfolio.config.files import parse_assignment
from rllib_portfolio.errors import ConfigError

_MOST_DIGITS = 18
"""Most digits after the first one in a number that fits 64 bits."""


def whole_number(text: str) -> int:
    """Return a whole number from the command line, written as 50000, 50_000 or 5e4.

    Raises:
        ArgumentTypeError: If it is not a whole number; `argparse` turns this into one line and exit code 2.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or value.adjusted() > _MOST_DIGITS or value != value.to_integral_value():
        raise argparse.ArgumentTypeError(f"must be a whole number such as 50000 or 5e4, got {text!r}. Correct it.")
    return int(value)


def _function_or_module(text: str) -> str:
    if not is_function_name(text if ":" in text else f"{text}:all"):
        raise argparse.ArgumentTypeError(f"must be module:function or module, got {text!r}. Correct it.")
    return text


_FLAGS: dict[str, dict[str, Any]] = {
    "--algo": {"choices": list(RUN_CONFIGS), "help": f"algorithm (default: that of --config, or {DEFAULT_ALGORITHM})"},
    "--config": {"type": Path, "metavar": "FILE", "help": "YAML file (default: tune_configs/<algo>.yaml)"},
    "--set": {"action": "append", "default": [], "metavar": "A.B=V", "help": "override one setting; may be repeated"},
    "--seed": {"type": int, "help": "seed of networks, environments and sampling (default: 0)"},
    "--total-timesteps": {
        "type": whole_number, "metavar": "N", "help": "environment steps of a run (default: the file's)"
    },
    "--data-path": {"metavar": "FILE", "help": "CSV or Parquet table of prices (default: 20 S&P 500 stocks)"},
    "--index-path": {"metavar": "FILE", "help": "CSV or Parquet table of the index level, for own data"},
    "--output-dir": {"metavar": "DIR", "help": "where to write"},
    "--resume": {"metavar": "DIR", "help": "continue in DIR, a folder or URI, from the last checkpoint"},
    "--storage-path": {"metavar": "PATH"},
    "--trust-custom": {
        "action": "append", "default": [], "type": _function_or_module, "metavar": "NAME",
        "help": "import this module:function, or any of a module, where saved settings name it; may be repeated",
    },
    "--tuning": {"type": Path, "metavar": "DIR", "help": "output of tune.py: its trials deflate the Sharpe ratio"},
    "--address": {"metavar": "ADDRESS", "help": "Ray cluster to use, or `auto` (default: this machine)"},
    "--wait-for-resources": {
        "action": "store_true",
        "help": "wait for the machines that a cluster lacks: an autoscaler brings them, or they join by hand",
    },
    "--output": {"metavar": "FILE"},
    "--quiet": {"action": "store_true", "help": "no progress display; the closing table is still printed"},
}  # fmt: skip

_SETTINGS = {
    "seed": "seed",
    "total_timesteps": "schedule.total_timesteps",
    "learning_rate": "training.learning_rate",
    "buffer_capacity": "training.buffer_capacity",
    "batch_size": "training.batch_size",
    "data_path": "market.data",
    "index_path": "market.index_path",
    "num_env_runners": "resources.num_env_runners",
    "num_envs_per_env_runner": "resources.num_envs_per_env_runner",
    "num_cpus_per_env_runner": "resources.num_cpus_per_env_runner",
    "num_learners": "resources.num_learners",
    "num_gpus_per_learner": "resources.num_gpus_per_learner",
    "device": "resources.device",
}
"""Flags that give a setting of a run, in whichever command has them."""


def add_flags(parser: Any, *names: str, **changes: Any) -> None:
    """Add shared flags to a parser or to a group of its arguments.

    Args:
        parser: The parser or the group.
        names: The flags, such as `--seed`.
        changes: Options of `add_argument` that differ for this command.
    """
    for name in names:
        parser.add_argument(name, **_FLAGS[name] | changes)


def flag(name: str) -> str:
    """Return the flag of an argument: `--data-path` for `data_path`."""
    return f"--{name.replace('_', '-')}"


def flag_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings of a run that flags were given for, by the flags' arguments."""
    return {name: setting for name, setting in _SETTINGS.items() if getattr(arguments, name, None) is not None}


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that --set and the flags give; a flag wins."""
    values = dict(parse_assignment(text) for text in arguments.set)
    return values | {setting: getattr(arguments, name) for name, setting in flag_settings(arguments).items()}


def require_path(arguments: argparse.Namespace, name: str, remedy: str) -> None:
    """Raise if a flag that takes a path was given a URI: it would name a folder `s3:` of this machine."""
    given = getattr(arguments, name)
    if given is not None and "://" in given:
        raise ConfigError(f"{flag(name)} must be a path, got the URI {given}. {remedy}")


def require_alone(arguments: argparse.Namespace, fixed: Iterable[str], owner: str, remedy: str) -> None:
    """Raise if --resume comes with a flag that would change what was begun.

    Args:
        arguments: The parsed arguments.
        fixed: Arguments that must not be given.
        owner: Whose settings are kept, such as "the run's".
        remedy: What to do, a sentence.
    """
    values = {name: getattr(arguments, name) for name in fixed}
    given = [flag(name) for name, value in values.items() if not (value is None or value is False or value == [])]
    if given:
        raise ConfigError(f"--resume must keep {owner} own settings, got {', '.join(given)}. {remedy}")
