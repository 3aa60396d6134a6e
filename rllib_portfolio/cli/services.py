"""Services that the trials of a search are logged to, where they are asked for: Ray's own callbacks."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
from collections.abc import Callable
from typing import Any

from rllib_portfolio.errors import ConfigError, one_line

_HOOKS = (
    *("log_trial_start", "log_trial_result", "log_trial_restore", "log_trial_save", "log_trial_end"),
    "on_experiment_end",
)
"""Methods of Ray's `LoggerCallback` that reach a service while a search runs."""


def service_callbacks(arguments: argparse.Namespace, group: str) -> list[Any]:
    """Ray Tune callbacks for `--wandb PROJECT` and `--mlflow URI`, connected.

    Raises:
        ConfigError: If a package is missing, or its service cannot be reached.
    """
    found = []
    if arguments.wandb is not None:
        callback = _class("wandb", "WandbLoggerCallback")(project=arguments.wandb, group=group)
        found.append(_connected("wandb", callback))
    if arguments.mlflow is not None:
        callback = _class("mlflow", "MLflowLoggerCallback")(tracking_uri=arguments.mlflow, experiment_name=group)
        found.append(_connected("mlflow", callback))
    atexit.register(_release, found)
    return found


def _release(callbacks: list[Any]) -> None:
    """Let go while modules are still there: W&B's callback asks Ray something when it is deleted."""
    callbacks.clear()
    gc.collect()


def _class(package: str, name: str) -> Any:
    try:
        importlib.import_module(package)
        return getattr(importlib.import_module(f"ray.air.integrations.{package}"), name)
    except ImportError as error:
        raise ConfigError(
            f"--{package} must come with its package, got {error}. Install it: pip install rllib-portfolio[{package}]."
        ) from None


def _connected(package: str, callback: Any) -> Any:
    """Connect now: Tune would do it in the middle of the start, and end in a traceback."""
    try:
        callback.setup()
    except Exception as error:  # each service has its own
        raise ConfigError(f"--{package} must lead to a service that answers, got {one_line(error)}.") from None
    _spare_search(f"--{package}", callback)
    return callback


def _spare_search(flag: str, callback: Any) -> None:
    """Make what fails in a connected callback a warning: a service that goes away ends no search."""
    from rllib_portfolio.runs.tracking import Sparing

    def spared(hook: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **settings: Any) -> None:
            with sparing:
                hook(*arguments, **settings)

        return call

    sparing = Sparing(flag)
    for name in _HOOKS:
        setattr(callback, name, spared(getattr(callback, name)))
