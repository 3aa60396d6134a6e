"""`train.py`: one training run from a configuration, or the continuation of one."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import (
    guarded,
    note_lost_folder,
    quieten_libraries,
    ray_session,
    say,
    stay_on_loopback,
    tell,
    warn_of_implausible,
    warn_of_pickles,
)
from rllib_portfolio.cli.data_paths import with_lasting_paths
from rllib_portfolio.cli.interruption import stop_signals
from rllib_portfolio.cli.machine_faults import way_back
from rllib_portfolio.cli.progress import TrainingDisplay
from rllib_portfolio.cli.settings import (
    add_trust,
    add_wait_for_resources,
    chosen_algorithm,
    default_config,
    new_name,
    own_config,
    require_device,
    require_path,
    require_room,
    trust_flags,
    whole_number,
)
from rllib_portfolio.config import DEFAULT_ALGORITHM, RUN_CONFIGS, RunConfig
from rllib_portfolio.config.consent import require_consent, trust
from rllib_portfolio.config.files import parse_assignment
from rllib_portfolio.config.registry import algorithms_with
from rllib_portfolio.errors import ConfigError

if TYPE_CHECKING:
    from rllib_portfolio.runs.storage import RunStorage

_DESCRIPTION = """\
Train a portfolio-allocation policy with RLlib, and compare it with what anyone can hold.

While it runs: one progress bar here, TensorBoard events and progress.csv in the output directory, checkpoints under
checkpoints/. At the end the policy that was best on the validation window walks the validation and test windows beside
1/N, buy-and-hold, all cash, the index and a Merton portfolio, after the same costs.
"""

_EPILOG = """\
examples:
  python train.py --algo ppo                                     the bundled 20 S&P 500 stocks, 1990-2022
  python train.py --algo ppo --data-path prices.csv --index-path index.csv
  python train.py --algo ppo --set environment.cost_bps=25 --set training.gamma=0.95 --seed 1
  python train.py --algo ppo --num-env-runners 2 --output-dir runs/two-runners
  python train.py --algo dqn --buffer-capacity 50000 --set environment.action_levels=10
  python train.py --resume runs/ppo/20260131-120000              continue after Ctrl-C, SIGTERM, SIGHUP or a crash
  tensorboard --logdir runs

Every setting that --set accepts stands in tune_configs/<algo>.yaml, with its meaning.
"""


def train(arguments: Sequence[str] | None = None) -> int:
    """`train.py`."""
    parser = argparse.ArgumentParser(prog="train.py", formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)
    return guarded(lambda: execute(parser.parse_args(arguments)))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--algo", choices=list(RUN_CONFIGS), help=f"algorithm (default: that of --config, or {DEFAULT_ALGORITHM})"
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML file (default: tune_configs/<algo>.yaml)")
    run.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="override one setting; may be repeated"
    )
    run.add_argument("--seed", type=int, help="seed of networks, environments and sampling (default: 0)")
    run.add_argument(
        "--total-timesteps", type=whole_number, metavar="N", help="environment steps (default: the file's)"
    )
    run.add_argument("--learning-rate", type=float, metavar="LR", help="learning rate of the optimiser")
    run.add_argument("--output-dir", metavar="DIR", help="where to write (default: runs/<algo>/<timestamp>)")
    run.add_argument(
        "--resume", metavar="DIR", help="continue the run in DIR, a folder or URI, from its last checkpoint"
    )
    add_trust(run)
    run.add_argument("--quiet", action="store_true", help="no progress display; the closing table is still printed")
    own = algorithms_with("training.buffer_capacity", "training.batch_size")
    replay = parser.add_argument_group(f"{', '.join(own).upper()} alone")
    replay.add_argument("--buffer-capacity", type=whole_number, metavar="N", help="observations in the replay buffer")
    replay.add_argument(
        "--batch-size", type=whole_number, metavar="N", help="transitions (days) drawn for a gradient step"
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data-path", metavar="FILE", help="CSV or Parquet table of prices (default: 20 S&P 500 stocks)")
    data.add_argument("--index-path", metavar="FILE", help="CSV or Parquet table of the index level, for own data")
    machines = parser.add_argument_group("machines")
    machines.add_argument(
        "--num-env-runners", type=int, metavar="N", help="processes that sample; 0 samples in this one (default: 0)"
    )
    machines.add_argument("--num-envs-per-env-runner", type=int, metavar="N", help="environments in each of them")
    machines.add_argument(
        "--num-cpus-per-env-runner", type=float, metavar="X", help="what each asks of the cluster (default: 1)"
    )
    machines.add_argument("--num-learners", type=int, metavar="N", help="processes that learn; 0 learns here")
    machines.add_argument(
        "--num-gpus-per-learner", type=float, metavar="X", help="likewise (default: 1 with --device cuda, else 0)"
    )
    machines.add_argument(
        "--device", choices=["cpu", "cuda", "auto"], help="where the learner computes (default: auto)"
    )
    machines.add_argument("--address", metavar="ADDRESS", help="Ray cluster to use, or `auto` (default: this machine)")
    machines.add_argument(
        "--storage-path", metavar="PATH",
        help="keep the run in PATH/<algo>/<timestamp>: a folder that outlives this machine, or s3://, gs://",
    )  # fmt: skip
    add_wait_for_resources(machines)


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
    "num_cpus_per_env_runner": "resources.num_cpus_per_env_runner",
    "num_learners": "resources.num_learners",
    "num_gpus_per_learner": "resources.num_gpus_per_learner",
    "device": "resources.device",
}
_FIXED_ON_RESUME = (
    "config", "set", "seed", "learning_rate", "buffer_capacity", "batch_size", "data_path", "index_path",
    "output_dir", "storage_path",
)  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Train; the exit code."""
    trust(arguments.trust_custom)
    stay_on_loopback(arguments.address)
    require_path(arguments, "output_dir", "Give --storage-path, which takes URIs.")
    overrides = dict(parse_assignment(text) for text in arguments.set)
    overrides |= {
        setting: getattr(arguments, flag)
        for flag, setting in _FLAG_SETTINGS.items()
        if getattr(arguments, flag) is not None
    }
    config = None
    if arguments.resume is not None:
        _require_resumable(arguments)
    else:
        algo = _algorithm(arguments)
        config_path = arguments.config or default_config(algo)
        config = with_lasting_paths(own_config(config_path, {"algo": algo, **overrides}))
    # Everything above is checked before the heavy imports: a typo must not cost seconds.
    quieten_libraries()
    storage, name = _place(arguments, config)
    with storage.only_writer(name, is_new=config is not None), storage.fetched(name) as run_dir:
        return _train(arguments, config, overrides, Kept(storage, name, run_dir))


@dataclass(frozen=True, slots=True)
class Kept:
    """A run's folder, and where it is kept if that is elsewhere."""

    storage: RunStorage
    name: str
    folder: Path

    @property
    def place(self) -> str:
        """What `--resume` is to be given."""
        return self.storage.place(self.name) if self.storage.is_remote else str(self.folder)

    def resume_command(self, config: RunConfig) -> str:
        """Return what continues the run."""
        trusted = trust_flags([config.environment.model_dump()])
        return f"python train.py --resume {shlex.quote(self.place)}{trusted}"

    def keep(self) -> None:
        """Bring what is new to where it is kept."""
        self.storage.keep(self.name)

    def way_back(self, config: RunConfig) -> str | None:
        """Return what was saved last and how the run goes on; None if it has not begun."""
        from rllib_portfolio.policies.checkpoint import newest_checkpoint
        from rllib_portfolio.runs.folder import has_begun

        if not has_begun(self.folder):
            return None
        newest = newest_checkpoint(self.folder)
        saved = "nothing" if newest is None else f"checkpoint {newest.name}"
        return f"Saved last: {saved}. Continue with: {self.resume_command(config)}"


def _train(arguments: argparse.Namespace, config: RunConfig | None, overrides: dict[str, Any], kept: Kept) -> int:
    """Open or make the run's folder, and train in it."""
    from rllib_portfolio.market import load_market
    from rllib_portfolio.market.plausibility import require_accepted_moves
    from rllib_portfolio.runs import loop
    from rllib_portfolio.runs.folder import CONFIG, RECORD, open_run_folder, require_fresh

    if config is None:
        config, market = open_run_folder(kept.folder, overrides)
        chosen_algorithm(arguments.algo, kept.folder / CONFIG)
        steps, is_complete = loop.resume_point(config, kept.folder)
        if is_complete:
            say(arguments, _completion(kept.place, steps, config))
            return _compare(config, market, kept)
        require_consent(config.environment.model_dump())
        require_device(config, arguments.address)
        warn_of_pickles(kept.place, kept.folder, RECORD)
        begun = f"Resuming {kept.place} at {steps:,} of {config.schedule.total_timesteps:,} steps"
    else:
        require_fresh(kept.folder)
        require_device(config, arguments.address)
        say(arguments, "Preparing the market ...")
        market = load_market(config.market)
        require_accepted_moves(market, config.market)
        begun = f"Run folder: {kept.place}"
    for note in market.notes:
        say(arguments, f"Note: {note}")
    if kept.storage.is_remote:
        say(arguments, begun)
    else:
        say(arguments, f"{begun}   (tensorboard --logdir {kept.place})")
        note_lost_folder(kept.folder)
    return _train_in_folder(arguments, config, market, kept)


def _completion(place: str, steps: int, config: RunConfig) -> str:
    """Return the line for a run that is complete."""
    total = config.schedule.total_timesteps
    if steps >= total:
        return f"{place} is complete at {steps:,} steps. To continue, pass a larger --total-timesteps."
    return (
        f"{place} is complete at {steps:,} of {total:,} steps: early stopping ended it. To train longer, start a new "
        f"run with schedule.early_stopping_evaluations above {config.schedule.early_stopping_evaluations}, or null."
    )


def _compare(config: RunConfig, market: Any, kept: Kept) -> int:
    """Compare the best policy of a finished run with the baselines, and return the exit code."""
    from rllib_portfolio.runs.summary import compare_best_policy

    with way_back(lambda: kept.way_back(config)):
        comparison = compare_best_policy(kept.folder, config, market)
    kept.keep()
    comparison.print(kept.place if kept.storage.is_remote else None)
    for window, table in comparison.tables.items():
        start, stop = market.windows[window]
        if warn_of_implausible(table, market, stop - start):
            break
    return 0


def _train_in_folder(arguments: argparse.Namespace, config: RunConfig, market: Any, kept: Kept) -> int:
    from rllib_portfolio.algorithms.memory import require_memory
    from rllib_portfolio.algorithms.run_settings import process_bundles
    from rllib_portfolio.runs import loop
    from rllib_portfolio.runs.folder import create_run_folder, record_settings, removed_if_refused

    for note in loop.start_notes(config, market):
        say(arguments, f"Note: {note}")
    display = TrainingDisplay(arguments.quiet)
    with (
        way_back(lambda: kept.way_back(config)),
        ray_session(config, arguments.address),
        stop_signals() as received,
        display,
    ):
        _, *others = process_bundles(config.resources)  # the run's own process is this one
        require_memory(config, market)
        require_room(arguments, others, "the run's processes")
        if arguments.resume is None:
            create_run_folder(kept.folder, config, market)
        else:
            record_settings(kept.folder, config)
            kept.storage.keep_so_far(kept.name)

        def show(status: loop.Status) -> None:
            display.show(status)
            if status.is_saved:
                kept.storage.keep_so_far(kept.name)

        is_new = arguments.resume is None
        with removed_if_refused(kept.folder) if is_new else nullcontext():
            finished = loop.run(
                config,
                market,
                kept.folder,
                resume=not is_new,
                on_progress=show,
                should_stop=lambda: bool(received),
            )
    if finished:
        return _compare(config, market, kept)
    kept.keep()
    tell(f"Stopped; a checkpoint is written. Continue with: {kept.resume_command(config)}")
    return 128 + received[0]


def _place(arguments: argparse.Namespace, config: RunConfig | None) -> tuple[RunStorage, str]:
    """Where the run is kept, and its name there."""
    from rllib_portfolio.runs.storage import RunStorage

    if arguments.resume is not None and "://" in arguments.resume:
        return RunStorage.of_run(arguments.resume)
    if arguments.resume is not None or arguments.output_dir is not None:
        folder = Path(arguments.resume or arguments.output_dir)
        return RunStorage(str(folder.parent)), folder.name
    assert config is not None
    root = arguments.storage_path or "runs"
    return RunStorage(root), f"{config.algo}/{new_name(Path(root, config.algo))}"


def _require_resumable(arguments: argparse.Namespace) -> None:
    given = [name for name in _FIXED_ON_RESUME if getattr(arguments, name) not in (None, [])]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"--resume must keep the run's own settings, got {flags}. Leave it out, or start a new run.")


def _algorithm(arguments: argparse.Namespace) -> str:
    """Return the algorithm; raise if a flag is of a setting that it does not have."""
    algo = chosen_algorithm(arguments.algo, arguments.config)
    given = [flag for flag in _FLAG_SETTINGS if getattr(arguments, flag) is not None]
    foreign = [flag for flag in given if algo not in algorithms_with(_FLAG_SETTINGS[flag])]
    if foreign:
        flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in foreign)
        others = " or ".join(algorithms_with(*(_FLAG_SETTINGS[flag] for flag in foreign)))
        raise ConfigError(f"{flags} must come with --algo {others}, got {algo}. Leave it out.")
    return algo
