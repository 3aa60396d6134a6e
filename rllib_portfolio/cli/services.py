"""Logging of trials to Weights & Biases and MLflow with the callbacks of Ray."""

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
"""Methods of Ray's `LoggerCallback` that call a service during a search."""


def service_callbacks(arguments: argparse.Namespace, group: str) -> list[Any]:
    """Return connected Ray Tune callbacks for `--wandb PROJECT` and `--mlflow URI`.

    Args:
        arguments: Parsed arguments with these flags.
        group: Name of the W&B group or the MLflow experiment.

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
    """Delete the callbacks before Python unloads modules, because W&B's callback calls Ray when it is deleted."""
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
    """Connect a callback to its service; Ray Tune would connect it later and end in a traceback on failure."""
    try:
        callback.setup()
    except Exception as error:  # each service has its own types of errors
        raise ConfigError(f"--{package} must lead to a service that answers, got {one_line(error)}.") from None
    _spare_search(f"--{package}", callback)
    return callback


def _spare_search(flag: str, callback: Any) -> None:
    """Turn errors of a connected callback into one warning, so that a lost service does not end the search."""
    from rllib_portfolio.runs.tracking import Sparing

    def spared(hook: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **settings: Any) -> None:
            with sparing:
                hook(*arguments, **settings)

        return call

    sparing = Sparing(flag)
    for name in _HOOKS:
        setattr(callback, name, spared(getattr(callback, name)))
