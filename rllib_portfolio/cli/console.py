"""Shared functions of the commands: errors, the Ray session, library logging."""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rllib_portfolio.cli.interruption import children_apart, lost_output, outlast_readers
from rllib_portfolio.cli.machine_faults import described, leave_to_main_thread
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.consent import restricted_to
from rllib_portfolio.errors import ConfigError, DataError, MachineError, one_line
from rllib_portfolio.shown_text import displayable_lines, quoted

if TYPE_CHECKING:
    import pandas as pd

    from rllib_portfolio.market import MarketData

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in a job of `ray job submit`."""


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit code, even if its output cannot be written.

    A user error is printed as one line with exit code 2, a fault of the machine as one line with exit code 1.
    The command imports a function that a file names only if `consent.trust` has admitted it.
    """
    outlast_readers()
    leave_to_main_thread()
    with restricted_to(()):
        exit_code = _answered(command)
    if (lost := lost_output()) is not None:
        tell(f"error: {lost}", sys.stderr)
        return exit_code or 1
    return exit_code


def _answered(command: Callable[[], int]) -> int:
    try:
        return command()
    except (ConfigError, DataError) as error:
        tell(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            got = f"{quoted(error.filename)} ({error.strerror})"
            tell(f"error: a path must have names that the file system takes, got {got}. Shorten it.", sys.stderr)
            return 2
        if (text := described(error)) is None:
            raise
        tell(f"error: {text}", sys.stderr)
        return 1


def is_on_cluster(address: str | None) -> bool:
    """Return whether the command uses a Ray cluster, named by `--address` or by the Ray job that it runs in."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def stay_on_loopback(address: str | None) -> None:
    """Make Ray listen on the loopback address only, unless the command uses a cluster.

    Ray runs any code that reaches its ports. It listens on the loopback address only on systems for which it offers no
    clusters (Windows, macOS). The environment variable that is set here selects this behaviour; Ray reads it when it is
    imported.

    Args:
        address: Value of `--address`; a cluster must listen on the network.
    """
    if not is_on_cluster(address) and "ray" not in sys.modules:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def quieten_libraries() -> None:
    """Switch off the banners, hints and warnings of Ray and Gymnasium, which do not concern users of the commands."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    importlib.import_module("ray.rllib")  # it sets the levels of its loggers when it is imported
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("ray.tune.execution.tune_controller", "ray.rllib.utils.actor_manager"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the progress display reports failures
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")


@contextmanager
def ray_session(config: RunConfig, address: str | None) -> Iterator[None]:
    """Open a Ray session for the duration of this context.

    Args:
        config: The configuration, with the numbers of threads and processes.
        address: Address of a cluster; None for the one in RAY_ADDRESS, as in a Ray job, or without it for this machine.

    Raises:
        ConfigError: If no cluster answers at the address, or it refuses the token.
        MachineError: If Ray does not start on this machine.
    """
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
        _keep_token_private()
    try:
        with children_apart():
            ray.init(**options)
    except (ConnectionError, ValueError, ray.exceptions.AuthenticationError) as error:
        given = address or os.environ.get("RAY_ADDRESS")
        raise ConfigError(
            f"--address must lead to a running Ray cluster, got {given!r} ({' '.join(str(error).split())}). "
            "Start one, or leave it out. Where the cluster asks for a token, as those of cluster/ do, set "
            "RAY_AUTH_MODE=token and give the token of its head in RAY_AUTH_TOKEN or ~/.ray/auth_token."
        ) from None
    except Exception as error:  # Ray raises no specific error if its processes do not start in time
        if is_on_cluster(address):
            raise
        raise MachineError(
            f"Ray must start on this machine, got {one_line(error)} Try again when the machine is less busy."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _keep_token_private() -> None:
    """Create the file of Ray's token with mode 600; Ray keeps the mode of an existing file."""
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    token = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # Ray reports a home folder that cannot be written
        token.parent.mkdir(exist_ok=True)
        token.touch(mode=0o600)
        token.chmod(0o600)


def _quiet_processes() -> dict[str, Any]:
    """Return a runtime environment that silences warnings, unless the surrounding Ray job sets PYTHONWARNINGS itself.

    Ray refuses a variable that both the job and the session set.
    """
    of_job = json.loads(os.environ.get(JOB, "{}")).get("runtime_env") or {}
    return {} if "PYTHONWARNINGS" in of_job.get("env_vars", {}) else {"env_vars": {"PYTHONWARNINGS": "ignore"}}


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print a text with control characters as visible escapes.

    Args:
        text: The text, of one or more lines.
        stream: Where to print it; None for standard output.
    """
    print(displayable_lines(text), file=stream, flush=stream is not None)


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print a line to standard error, unless --quiet is given.

    Args:
        arguments: Parsed arguments with the flag --quiet.
        text: The line.
    """
    if not arguments.quiet:
        tell(text, sys.stderr)


def warn(text: str) -> None:
    """Print a line to standard output in bold red, with and without --quiet."""
    from rllib_portfolio.reporting.plain_console import PlainConsole

    PlainConsole().print(text, style="bold red", soft_wrap=True, highlight=False)


def warn_of_implausible(table: pd.DataFrame, market: MarketData, num_days: int) -> bool:
    """Warn if the results of a back-test are implausibly high, and return whether they are.

    Args:
        table: One row per strategy, with `annual_return` and `sharpe_ratio`.
        market: Market of the back-test.
        num_days: Rows of the back-test.
    """
    from rllib_portfolio.market.plausibility import implausible_result

    warning = implausible_result(table, market, num_days)
    if warning is not None:
        warn(warning)
    return warning is not None
