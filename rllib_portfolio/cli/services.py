"""Services that the trials of a search are logged to, where they are asked for: Ray's own callbacks."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
from typing import Any

from rllib_portfolio.errors import ConfigError, one_line


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
    return callback
