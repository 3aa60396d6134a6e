"""The command line: arguments, progress, signals, exit codes. The only module that prints.

Exit codes: 0 done, 2 a setting, file or argument that cannot be used (one line says which), 130 and 143 stopped by
Ctrl-C and SIGTERM after writing a checkpoint.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rllib_portfolio.config import RUN_CONFIGS, RunConfig
from rllib_portfolio.config_file import load_run_config, parse_assignment, read_yaml
from rllib_portfolio.errors import ConfigError, DataError

CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "tune_configs"

_TRAIN_DESCRIPTION = """\
Train a portfolio-allocation policy with RLlib, and compare it with what anyone can hold.

While it runs: one progress bar here, TensorBoard events and progress.csv in the output directory, checkpoints under
checkpoints/. At the end the policy that was best on the validation window walks the validation and test windows beside
1/N, buy-and-hold, all cash, the index and a Merton portfolio, after the same costs.
"""

_TRAIN_EPILOG = """\
examples:
  python train.py --algo ppo                                     the bundled 20 S&P 500 stocks, 1990-2022
  python train.py --algo ppo --data-path prices.csv --index-path index.csv
  python train.py --algo ppo --set environment.cost_bps=25 --set training.gamma=0.95 --seed 1
  python train.py --algo ppo --num-env-runners 2 --output-dir runs/two-runners
  python train.py --algo dqn --buffer-capacity 50000 --set environment.action_levels=10
  python train.py --resume runs/ppo/20260131-120000              continue after Ctrl-C, SIGTERM or a crash
  tensorboard --logdir runs

Every setting that --set accepts stands in tune_configs/<algo>.yaml, with its meaning.
"""


def train(arguments: Sequence[str] | None = None) -> int:
    """`train.py`."""
    return _guarded(lambda: _train(_train_parser().parse_args(arguments)))


def _guarded(command: Callable[[], int]) -> int:
    """Run a command; what the user can mend becomes one line and exit code 2."""
    try:
        return command()
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=_TRAIN_DESCRIPTION,
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--algo", choices=list(RUN_CONFIGS), help="algorithm (default: that of --config, or ppo)")
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML file (default: tune_configs/<algo>.yaml)")
    run.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="override one setting; may be repeated"
    )
    run.add_argument("--seed", type=int, help="seed of networks, environments and sampling (default: 0)")
    run.add_argument("--total-timesteps", type=int, metavar="N", help="environment steps (default: 500000)")
    run.add_argument("--learning-rate", type=float, metavar="LR", help="learning rate of the optimiser")
    run.add_argument("--output-dir", type=Path, metavar="DIR", help="where to write (default: runs/<algo>/<timestamp>)")
    run.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in DIR from its last checkpoint")
    run.add_argument("--quiet", action="store_true", help="no progress display; the closing table is still printed")
    dqn = parser.add_argument_group("DQN alone")
    dqn.add_argument("--buffer-capacity", type=int, metavar="N", help="observations in the replay buffer")
    dqn.add_argument("--batch-size", type=int, metavar="N", help="transitions in a gradient step")
    data = parser.add_argument_group("data")
    data.add_argument("--data-path", metavar="FILE", help="CSV or Parquet table of prices (default: 20 S&P 500 stocks)")
    data.add_argument("--index-path", metavar="FILE", help="CSV or Parquet table of the index level, for own data")
    machines = parser.add_argument_group("machines")
    machines.add_argument(
        "--num-env-runners", type=int, metavar="N", help="processes that sample; 0 samples in this one (default: 0)"
    )
    machines.add_argument("--num-envs-per-env-runner", type=int, metavar="N", help="environments in each of them")
    machines.add_argument("--num-learners", type=int, metavar="N", help="processes that learn; 0 learns here")
    machines.add_argument(
        "--device", choices=["cpu", "cuda", "auto"], help="where the learner computes (default: auto)"
    )
    machines.add_argument("--address", metavar="ADDRESS", help="Ray cluster to use, or `auto` (default: this machine)")
    return parser


_FLAG_SETTINGS = {
    "seed": "seed",
    "total_timesteps": "schedule.total_timesteps",
    "learning_rate": "training.learning_rate",
    "buffer_capacity": "training.buffer_capacity",
    "batch_size": "training.batch_size",
    "data_path": "market.data",
    "index_path": "market.index_path",
    "num_env_runners": "resources.num_env_runners",
    "num_envs_per_env_runner": "resources.num_envs_per_env_runner",
    "num_learners": "resources.num_learners",
    "device": "resources.device",
}
_DQN_FLAGS = ("buffer_capacity", "batch_size")
_FIXED_ON_RESUME = ("config", "set", "seed", "learning_rate", *_DQN_FLAGS, "data_path", "index_path", "output_dir")


def _train(arguments: argparse.Namespace) -> int:
    overrides = dict(parse_assignment(text) for text in arguments.set)
    overrides |= {
        setting: getattr(arguments, flag)
        for flag, setting in _FLAG_SETTINGS.items()
        if getattr(arguments, flag) is not None
    }
    if arguments.resume is not None:
        _require_resumable(arguments)
        run_dir = arguments.resume
    else:
        algo = _algorithm(arguments)
        config_path = arguments.config or _default_config(algo)
        config = load_run_config(config_path, {"algo": algo, **overrides})
        run_dir = arguments.output_dir or Path("runs") / config.algo / datetime.now().strftime("%Y%m%d-%H%M%S")
    # Everything above is checked before the heavy imports: a typo must not cost seconds.
    _quieten_libraries()
    from rllib_portfolio.market import load_market
    from rllib_portfolio.run_folder import create_run_folder, open_run_folder, require_fresh

    if arguments.resume is not None:
        config, market = open_run_folder(run_dir, overrides)
        _require_device(config)
    else:
        require_fresh(run_dir)
        _require_device(config)
        _say(arguments, "Preparing the market ...")
        market = load_market(config.market)
        create_run_folder(run_dir, config, market)
    for note in market.notes:
        _say(arguments, f"Note: {note}")
    return _train_in_folder(arguments, config, market, run_dir)


def _train_in_folder(arguments: argparse.Namespace, config: RunConfig, market: Any, run_dir: Path) -> int:
    from rllib_portfolio import training
    from rllib_portfolio.results import compare_best_policy

    _say(arguments, f"Run folder: {run_dir}   (tensorboard --logdir {run_dir})")
    with _ray(config, arguments.address), _stop_signals() as received, _Display(arguments.quiet) as display:
        finished = training.run(
            config,
            market,
            run_dir,
            resume=arguments.resume is not None,
            on_progress=display.show,
            should_stop=lambda: bool(received),
        )
    if not finished:
        print(f"Stopped; a checkpoint is written. Continue with: python train.py --resume {run_dir}")
        return 128 + received[0]
    results = compare_best_policy(run_dir, config, market)
    results.print()
    return 0


def _default_config(algo: str) -> Path | None:
    """The committed configuration of an algorithm; without a source tree the same defaults stand in the models."""
    path = CONFIG_FOLDER / f"{algo}.yaml"
    return path if path.is_file() else None


def _require_resumable(arguments: argparse.Namespace) -> None:
    given = [name for name in _FIXED_ON_RESUME if getattr(arguments, name) not in (None, [])]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"--resume must keep the run's own settings, got {flags}. Leave it out, or start a new run.")


def _algorithm(arguments: argparse.Namespace) -> str:
    """What --algo says, or the file; the two must agree, and flags of one algorithm must come with it."""
    in_file = read_yaml(arguments.config).get("algo") if arguments.config is not None else None
    algo: str = arguments.algo or in_file or "ppo"
    if in_file is not None and in_file != algo:
        raise ConfigError(f"--algo must be that of {arguments.config}, {in_file}, got {algo}. Leave it out.")
    given = [f"--{name.replace('_', '-')}" for name in _DQN_FLAGS if getattr(arguments, name) is not None]
    if given and algo != "dqn":
        raise ConfigError(f"{', '.join(given)} must come with --algo dqn, got {algo}. Leave it out.")
    return algo


def _require_device(config: RunConfig) -> None:
    if config.resources.device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "--device must be one that this machine has, got cuda, and torch finds no CUDA device. Use --device cpu."
        )


def _quieten_libraries() -> None:
    """Ray's banners and hints are for people who build on Ray, not for people who train a policy."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    importlib.import_module("ray.rllib")  # sets its loggers' levels when it is imported
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium")


@contextmanager
def _ray(config: RunConfig, address: str | None) -> Iterator[None]:
    """A Ray session for the run: the cluster at `address`, that of the surrounding job, or one on this machine."""
    import ray
    import torch

    torch.set_num_threads(config.resources.torch_threads)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": {"PYTHONWARNINGS": "ignore"}},
    }
    if address is not None:
        options["address"] = address
    elif "RAY_ADDRESS" not in os.environ:
        processes = 1 + config.resources.num_env_runners + config.resources.num_learners
        options |= {"address": "local", "num_cpus": max(os.cpu_count() or 1, processes), "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"--address must lead to a running Ray cluster, got {address!r} ({' '.join(str(error).split())}). "
            "Start one, or leave it out."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The signals received so far: the first one stops the run after its iteration, the second one at once."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        for name, handler in before.items():
            signal.signal(name, handler)
        print("\nStopping after this iteration, then writing a checkpoint ...", file=sys.stderr)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_BAR_FORMAT = "{percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} steps, {rate_fmt}, {remaining} left{postfix}"


class _Display:
    """One progress bar on a terminal, a line for each evaluation elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, status: Any) -> None:
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
        if status.message is not None:
            tqdm.write(status.message, file=sys.stderr)
        self._bar.set_postfix_str(
            f"return {status.episode_return:+.3f}, validation Sharpe {status.validation_sharpe:.2f}", refresh=False
        )
        self._bar.update(status.steps - self._bar.n)


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        print(text, file=sys.stderr)
