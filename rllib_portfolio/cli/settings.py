"""Which configuration a command runs: the algorithm's own file, or one that was named."""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rllib_portfolio.cli.console import is_on_cluster, say
from rllib_portfolio.config import DEFAULT_ALGORITHM, RunConfig
from rllib_portfolio.config.consent import is_function_name, named_functions, trust
from rllib_portfolio.config.files import algorithm_in, load_run_config
from rllib_portfolio.errors import ConfigError

CONFIG_FOLDERS = (
    Path(__file__).resolve().parent.parent.parent / "tune_configs",  # of the source tree
    Path(sysconfig.get_path("data")) / "share" / "rllib_portfolio" / "tune_configs",  # of an installed wheel
)


def default_config(algo: str) -> Path:
    """Return the path of the committed configuration of an algorithm.

    Raises:
        ConfigError: If neither the source tree nor the installed package has it.
    """
    for folder in CONFIG_FOLDERS:
        if (path := folder / f"{algo}.yaml").is_file():
            return path
    raise ConfigError(
        f"{algo}.yaml must be in one of {', '.join(map(str, CONFIG_FOLDERS))}, got none. Name a file with --config."
    )


def chosen_algorithm(algo: str | None, config_path: Path | None) -> str:
    """Return what --algo says, or the file, or the default; the first two must agree."""
    in_file = algorithm_in(config_path) if config_path is not None else None
    chosen = algo or in_file or DEFAULT_ALGORITHM
    if in_file is not None and in_file != chosen:
        raise ConfigError(f"--algo must be that of {config_path}, {in_file}, got {chosen}. Leave it out.")
    return chosen


def own_config(path: Path | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that the user names for this command, and trust the functions that it names."""
    config = load_run_config(path, overrides)
    trust(named_functions(config.model_dump()))
    return config


def add_trust(parser: Any) -> None:
    """Add the flag that consents to functions which saved settings name; its values go to `consent.trust`."""
    parser.add_argument(
        "--trust-custom", action="append", default=[], type=_function_or_module, metavar="NAME",
        help="import this module:function, or any of a module, where saved settings name it; may be repeated",
    )  # fmt: skip


def _function_or_module(text: str) -> str:
    if not is_function_name(text if ":" in text else f"{text}:all"):
        raise argparse.ArgumentTypeError(f"must be module:function or module, got {text!r}. Correct it.")
    return text


def trust_flags(settings: Iterable[object]) -> str:
    """Return what must follow a command that resumes with these settings, if they name the user's own functions."""
    return "".join(f" --trust-custom {name}" for name in dict.fromkeys(named_functions(list(settings))))


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


_MOST_DIGITS = 18
"""Most digits after the first one in a number that fits 64 bits."""


def new_name(parent: str | Path) -> str:
    """Return the name of what begins now in a folder: its time, with microseconds if another began in this second."""
    now = datetime.now()
    name = f"{now:%Y%m%d-%H%M%S}"
    return f"{name}-{now:%f}" if (Path(parent) / name).exists() else name


def require_path(arguments: argparse.Namespace, flag: str, remedy: str) -> None:
    """Raise if a flag that takes a path was given a URI: it would name a folder `s3:` of this machine."""
    given = getattr(arguments, flag)
    if given is not None and "://" in given:
        raise ConfigError(f"--{flag.replace('_', '-')} must be a path, got the URI {given}. {remedy}")


def require_device(config: RunConfig, address: str | None = None) -> None:
    """Raise if the configuration wants a CUDA device that this machine has not; a cluster's learners have their own."""
    resources = config.resources
    is_cuda = resources.device == "cuda"
    if not (is_cuda or resources.gpus_per_learner) or (is_on_cluster(address) and resources.num_learners):
        return
    import torch

    if not torch.cuda.is_available():
        if is_cuda:
            raise ConfigError(
                "--device must be one that this machine has, got cuda, and torch finds no CUDA device. Use --device "
                "cpu."
            )
        raise ConfigError(
            "--num-gpus-per-learner must be 0 on a machine without CUDA devices, got "
            f"{resources.gpus_per_learner}, and torch finds none. Leave it out."
        )


def add_wait_for_resources(parser: Any) -> None:
    """Add the flag that `require_room` reads."""
    parser.add_argument(
        "--wait-for-resources",
        action="store_true",
        help="wait for the machines that a cluster lacks: an autoscaler brings them, or they join by hand",
    )


def require_room(arguments: argparse.Namespace, bundles: Sequence[Mapping[str, float]], what: str) -> None:
    """Raise if the Ray cluster is too small for the bundles; with --wait-for-resources, say what is waited for.

    Args:
        arguments: Of a parser with `add_wait_for_resources`.
        bundles: Of `process_bundles`.
        what: Who asks.
    """
    from rllib_portfolio.algorithms.run_settings import require_room as require

    waiting = require(bundles, what, may_wait=arguments.wait_for_resources)
    if waiting is not None:
        say(arguments, waiting)


def require_run_folders(run_dirs: Sequence[Path]) -> None:
    """Raise if a folder holds no run, or is given twice: asked before anything heavy is imported."""
    for number, run_dir in enumerate(run_dirs):
        if not (run_dir / "config.yaml").is_file():
            what = "which is none of a run" if run_dir.is_dir() else "which does not exist"
            raise ConfigError(f"RUN_DIR must be a folder that train.py wrote, got {run_dir}, {what}. Name another.")
        if run_dir.resolve() in [other.resolve() for other in run_dirs[:number]]:
            raise ConfigError(f"RUN_DIR must be given once each, got {run_dir} twice. Leave one out.")
