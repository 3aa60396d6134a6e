"""The configuration of a command, and checks that this machine and its cluster can run it."""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_portfolio.cli.console import is_on_cluster, say
from rllib_portfolio.cli.flags import flag, flag_settings, given_settings
from rllib_portfolio.command_names import as_invoked
from rllib_portfolio.config import DEFAULT_ALGORITHM, RunConfig
from rllib_portfolio.config.consent import named_functions, trust
from rllib_portfolio.config.files import algorithm_in, load_run_config
from rllib_portfolio.config.registry import algorithms_with
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
    """Return the algorithm of --algo, else that of the configuration file, else the default.

    Args:
        algo: Value of --algo; None if it is not given.
        config_path: Value of --config; None if it is not given.

    Raises:
        ConfigError: If --algo and the file name different algorithms, or the file cannot be read.
    """
    in_file = algorithm_in(config_path) if config_path is not None else None
    chosen = algo or in_file or DEFAULT_ALGORITHM
    if in_file is not None and in_file != chosen:
        raise ConfigError(f"--algo must be that of {config_path}, {in_file}, got {chosen}. Leave it out.")
    return chosen


def chosen_config(arguments: argparse.Namespace) -> tuple[RunConfig, Path]:
    """Return the configuration from --config, --algo, --set and other flags, and the path of its file.

    Raises:
        ConfigError: If a setting cannot be used, or the algorithm does not have the setting of a flag.
    """
    overrides = given_settings(arguments)
    algo = chosen_algorithm(arguments.algo, arguments.config)
    foreign = {name: of for name, of in flag_settings(arguments).items() if algo not in algorithms_with(of)}
    if foreign:
        others = " or ".join(algorithms_with(*foreign.values()))
        raise ConfigError(f"{', '.join(map(flag, foreign))} must come with --algo {others}, got {algo}. Leave it out.")
    path = arguments.config or default_config(algo)
    return own_config(path, {"algo": algo, **overrides}), path


def own_config(path: Path | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Load the configuration that the user chose for this command, and trust the functions that it names.

    Args:
        path: The YAML file; None for the defaults.
        overrides: Maps dotted settings to values that replace those of the file.

    Raises:
        ConfigError: If the file cannot be read, or a setting is unknown or out of bounds.
    """
    config = load_run_config(path, overrides)
    trust(named_functions(config.model_dump()))
    return config


def require_device(config: RunConfig, address: str | None = None) -> None:
    """Require a CUDA device on this machine if the configuration uses one here, and not on a learner of a cluster.

    Args:
        config: The configuration.
        address: Value of --address; None if it is not given.

    Raises:
        ConfigError: If torch finds no CUDA device.
    """
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


def require_room(arguments: argparse.Namespace, bundles: Sequence[Mapping[str, float]], what: str) -> None:
    """Require that the Ray cluster can hold the bundles; with --wait-for-resources, print what is missing.

    Args:
        arguments: Parsed arguments with the flag --wait-for-resources.
        bundles: CPUs and GPUs of each process, from `process_bundles`.
        what: Name of what needs the bundles, for the message.

    Raises:
        ConfigError: If the cluster is too small and --wait-for-resources is not given.
    """
    from rllib_portfolio.algorithms.run_settings import require_room as require

    waiting = require(bundles, what, may_wait=arguments.wait_for_resources)
    if waiting is not None:
        say(arguments, waiting)


def require_run_folders(run_dirs: Sequence[Path]) -> None:
    """Require that each folder holds a run and is given once; this check needs no slow import.

    Raises:
        ConfigError: If a folder holds no run, or is given twice.
    """
    for number, run_dir in enumerate(run_dirs):
        if not (run_dir / "config.yaml").is_file():
            what = "which is not the folder of a run" if run_dir.is_dir() else "which does not exist"
            owner = as_invoked("train.py")
            raise ConfigError(f"RUN_DIR must be a folder that {owner} wrote, got {run_dir}, {what}. Name another.")
        if run_dir.resolve() in [other.resolve() for other in run_dirs[:number]]:
            raise ConfigError(f"RUN_DIR must be given once each, got {run_dir} twice. Leave one out.")
