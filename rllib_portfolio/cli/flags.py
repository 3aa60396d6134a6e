"""Flags that several commands share, and the settings that flags override."""

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
        ArgumentTypeError: If it is not a whole number. `argparse` reports this in one line with exit code 2.
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
    "--algo": {
        "choices": list(RUN_CONFIGS),
        "help": f"algorithm (default: that of --config, otherwise {DEFAULT_ALGORITHM})",
    },
    "--config": {"type": Path, "metavar": "FILE", "help": "YAML configuration (default: tune_configs/<algo>.yaml)"},
    "--set": {"action": "append", "default": [], "metavar": "A.B=V", "help": "set setting A.B to V; may be repeated"},
    "--seed": {"type": int, "help": "seed of networks, environments and sampling (default: 0)"},
    "--total-timesteps": {
        "type": whole_number, "metavar": "N", "help": "environment steps of a run (default: as in the configuration)"
    },
    "--data-path": {"metavar": "FILE", "help": "table of prices or folder of tables (default: 20 S&P 500 stocks)"},
    "--index-path": {"metavar": "FILE", "help": "table of the index level, for your own data"},
    "--output-dir": {"metavar": "DIR", "help": "where to write"},
    "--resume": {"metavar": "DIR", "help": "continue in DIR, a folder or a URI, from the last checkpoint"},
    "--storage-path": {"metavar": "PATH"},
    "--trust-custom": {
        "action": "append", "default": [], "type": _function_or_module, "metavar": "NAME",
        "help": "allow saved settings to import NAME, a module:function or all of a module; may be repeated",
    },
    "--tuning": {"type": Path, "metavar": "DIR", "help": "output of tune.py, for the deflated Sharpe ratio"},
    "--address": {"metavar": "ADDRESS", "help": "address of a Ray cluster, or `auto` (default: this machine)"},
    "--wait-for-resources": {
        "action": "store_true",
        "help": "if the cluster is too small, wait until an autoscaler or a person adds machines",
    },
    "--output": {"metavar": "FILE"},
    "--quiet": {"action": "store_true", "help": "print only the final table, without progress"},
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
"""Arguments that override a setting of a run: the name of the argument and the setting."""


def add_flags(parser: Any, *names: str, **changes: Any) -> None:
    """Add shared flags to a parser or to a group of its arguments.

    Args:
        parser: The parser or the group.
        *names: The flags, such as `--seed`.
        **changes: Options of `add_argument` that differ for this command.
    """
    for name in names:
        parser.add_argument(name, **_FLAGS[name] | changes)


def flag(name: str) -> str:
    """Return the flag that sets an argument, such as `--data-path` for `data_path`."""
    return f"--{name.replace('_', '-')}"


def flag_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings that the given flags override, keyed by the name of the argument."""
    return {name: setting for name, setting in _SETTINGS.items() if getattr(arguments, name, None) is not None}


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of settings from --set and from flags; a flag takes precedence."""
    values = dict(parse_assignment(text) for text in arguments.set)
    return values | {setting: getattr(arguments, name) for name, setting in flag_settings(arguments).items()}


def require_path(arguments: argparse.Namespace, name: str, remedy: str) -> None:
    """Require that a flag was given a path and not a URI, which would create a local folder such as `s3:`.

    Args:
        arguments: The parsed arguments.
        name: Name of the argument.
        remedy: A sentence that tells the user what to do.

    Raises:
        ConfigError: If the value is a URI.
    """
    given = getattr(arguments, name)
    if given is not None and "://" in given:
        raise ConfigError(f"{flag(name)} must be a path, got the URI {given}. {remedy}")


def require_alone(arguments: argparse.Namespace, fixed: Iterable[str], owner: str, remedy: str) -> None:
    """Require that --resume comes without flags that would change the work.

    Args:
        arguments: The parsed arguments.
        fixed: Names of arguments that must not be given.
        owner: Owner of the settings, such as "the run's".
        remedy: A sentence that tells the user what to do.

    Raises:
        ConfigError: If one of these flags is given.
    """
    values = {name: getattr(arguments, name) for name in fixed}
    given = [flag(name) for name, value in values.items() if not (value is None or value is False or value == [])]
    if given:
        raise ConfigError(f"--resume must keep {owner} own settings, got {', '.join(given)}. {remedy}")
