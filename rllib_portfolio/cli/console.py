"""What every command shares: one line for what can be mended, a Ray session, signals, quiet libraries, progress."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import platform
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_portfolio.config import RunConfig
from rllib_portfolio.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from rllib_portfolio.market import MarketData

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray inside of `ray job submit`."""


def guarded(command: Callable[[], int]) -> int:
    """Run a command; what the user can mend becomes one line and exit code 2."""
    try:
        return command()
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 128 + signal.SIGINT


def is_on_cluster(address: str | None) -> bool:
    """Whether Ray is a cluster's: the one that `--address` names, or that of the surrounding job."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def stay_on_loopback(address: str | None) -> None:
    """Let a Ray of this machine alone listen to this machine alone: Ray's job is to run what it is sent.

    Ray has that on systems for which it offers no clusters; its switch is read when it is imported.

    Args:
        address: What `--address` says; a cluster has to be on the network.
    """
    if not is_on_cluster(address) and "ray" not in sys.modules:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def quieten_libraries() -> None:
    """Ray's banners and hints are for people who build on Ray, not for people who train a policy."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    importlib.import_module("ray.rllib")  # sets its loggers' levels when it is imported
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)  # the display tells of failures
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")


@contextmanager
def ray_session(config: RunConfig, address: str | None) -> Iterator[None]:
    """A Ray session for the run: the cluster at `address`, that of the surrounding job, or one on this machine."""
    import ray
    import torch

    torch.set_num_threads(config.resources.torch_threads)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": _quiet_processes(),
    }
    if address is not None:
        options["address"] = address
    elif not is_on_cluster(None):
        processes = 1 + config.resources.num_env_runners + config.resources.num_learners
        options |= {"address": "local", "num_cpus": max(os.cpu_count() or 1, processes), "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as error:
        given = address or os.environ.get("RAY_ADDRESS")
        raise ConfigError(
            f"--address must lead to a running Ray cluster, got {given!r} ({' '.join(str(error).split())}). "
            "Start one, or leave it out."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _quiet_processes() -> dict[str, Any]:
    """Ray's processes do not warn, unless the surrounding job says what they do: Ray refuses what both of us set."""
    of_job = json.loads(os.environ.get(JOB, "{}")).get("runtime_env") or {}
    return {} if "PYTHONWARNINGS" in of_job.get("env_vars", {}) else {"env_vars": {"PYTHONWARNINGS": "ignore"}}


@contextmanager
def stop_signals(
    notice: str = "Stopping after this iteration, then writing a checkpoint ...",
) -> Iterator[list[int]]:
    """The signals received so far: the first one, answered with `notice`, ends things in order, the second at once."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        for name, handler in before.items():
            signal.signal(name, handler)
        print(f"\n{notice}", file=sys.stderr)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_BAR_FORMAT = "{percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} steps, {rate_fmt}, {remaining} left{postfix}"


class Display:
    """One progress bar on a terminal, a line for each evaluation elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, status: Any) -> None:
        """Move the bar to a `training.Status`; its message gets a line of its own."""
        if self._quiet:
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=status.total_steps,
                unit="step",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
                dynamic_ncols=True,
                bar_format=_BAR_FORMAT,
            )
        for line in (status.notice, status.message):
            if line is not None:
                tqdm.write(line, file=sys.stderr)
        self._bar.set_postfix_str(
            f"return {status.episode_return:+.3f}, validation Sharpe {status.validation_sharpe:.2f}", refresh=False
        )
        self._bar.update(status.steps - self._bar.n)


def say(arguments: argparse.Namespace, text: str) -> None:
    """A line on stderr, unless --quiet."""
    if not arguments.quiet:
        print(text, file=sys.stderr)


def note_lost_folder(folder: Path) -> None:
    """Say, --quiet or not, that results will be lost: a Ray job works in a copy that goes away when the job does."""
    if JOB in os.environ and folder.resolve().is_relative_to(Path.cwd()):
        print(
            f"Note: this job writes into its working directory, {Path.cwd()} on {platform.node()}, which is not kept. "
            "Give --storage-path or --output-dir, as absolute paths.",
            file=sys.stderr,
        )


def warn(text: str) -> None:
    """A line on stdout that nobody overlooks, --quiet or not."""
    from rich.console import Console

    Console().print(text, style="bold red", soft_wrap=True, highlight=False, markup=False)


def warn_of_implausible(table: pd.DataFrame, market: MarketData, num_days: int) -> bool:
    """Warn where a table of results over so many days holds figures above any plausible size; whether it does."""
    from rllib_portfolio.market.plausibility import implausible_result

    warning = implausible_result(table, market, num_days)
    if warning is not None:
        warn(warning)
    return warning is not None


@contextmanager
def progress_bar(arguments: argparse.Namespace, label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal that takes (done, in all); elsewhere its label alone; nothing when quiet."""
    from tqdm import tqdm

    is_shown = sys.stderr.isatty() and not arguments.quiet
    if not is_shown:
        say(arguments, f"{label} ...")
    bar = tqdm(desc=label, unit=unit, leave=False, disable=not is_shown, dynamic_ncols=True)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        bar.close()
