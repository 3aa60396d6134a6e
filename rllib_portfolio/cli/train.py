"""`train.py`: start a training run from a configuration, or continue one."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rllib_portfolio.cli.console import quieten_libraries, ray_session, say, stay_on_loopback, warn_of_implausible
from rllib_portfolio.cli.data_paths import with_lasting_paths
from rllib_portfolio.cli.flags import add_flags, given_settings, require_alone, require_path, whole_number
from rllib_portfolio.cli.interruption import stop_signals
from rllib_portfolio.cli.output_folder import OutputFolder, chosen_place, opened
from rllib_portfolio.cli.progress import TrainingDisplay
from rllib_portfolio.cli.settings import chosen_algorithm, chosen_config, require_device, require_room
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.consent import require_consent
from rllib_portfolio.config.registry import algorithms_with

_DESCRIPTION = """\
Train a portfolio-allocation policy with RLlib, and compare it with the baselines.

During training the command shows a progress bar. It writes TensorBoard events, progress.csv and checkpoints/ to the
output directory. At the end the policy that was best on the validation window is compared with 1/N, buy-and-hold, all
cash, the index and a Merton portfolio on the validation and the test window, after the same costs.
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

tune_configs/<algo>.yaml explains every setting that --set accepts.

exit code: 0 success, 1 machine failure, 2 invalid input, 129, 130 or 143 stopped by a signal
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    run = parser.add_argument_group("the run")
    add_flags(run, "--algo", "--config", "--set", "--seed", "--total-timesteps")
    run.add_argument("--learning-rate", type=float, metavar="LR", help="initial learning rate")
    add_flags(run, "--output-dir", help="where to write (default: runs/<algo>/<timestamp>)")
    add_flags(run, "--resume", help="continue the run in DIR, a folder or a URI, from its last checkpoint")
    add_flags(run, "--trust-custom", "--quiet")
    own = algorithms_with("training.buffer_capacity", "training.batch_size")
    replay = parser.add_argument_group(f"{', '.join(own).upper()} only")
    replay.add_argument(
        "--buffer-capacity", type=whole_number, metavar="N", help="capacity of the replay buffer in observations"
    )
    replay.add_argument("--batch-size", type=whole_number, metavar="N", help="transitions (days) per gradient step")
    add_flags(parser.add_argument_group("data"), "--data-path", "--index-path")
    machines = parser.add_argument_group("machines")
    machines.add_argument(
        "--num-env-runners",
        type=int,
        metavar="N",
        help="env runners, i.e. processes that simulate episodes; 0: this process does it (default: 0)",
    )
    machines.add_argument("--num-envs-per-env-runner", type=int, metavar="N", help="environments per env runner")
    machines.add_argument(
        "--num-cpus-per-env-runner", type=float, metavar="X", help="CPUs reserved per env runner (default: 1)"
    )
    machines.add_argument(
        "--num-learners",
        type=int,
        metavar="N",
        help="learner processes, which update the network; 0: this process does it (default: 0)",
    )
    machines.add_argument(
        "--num-gpus-per-learner", type=float, metavar="X",
        help="GPUs reserved per learner (default: 1 with --device cuda, otherwise 0)",
    )  # fmt: skip
    machines.add_argument("--device", choices=["cpu", "cuda", "auto"], help="device of the learner (default: auto)")
    add_flags(
        machines, "--storage-path",
        help="write to PATH/<algo>/<timestamp>; PATH is a shared folder or a URI (s3://, gs://)",
    )  # fmt: skip
    add_flags(machines, "--address", "--wait-for-resources")


_FIXED_ON_RESUME = (
    "config", "set", "seed", "learning_rate", "buffer_capacity", "batch_size", "data_path", "index_path",
    "output_dir", "storage_path",
)  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Start or continue a run, and return the exit code."""
    stay_on_loopback(arguments.address)
    require_path(arguments, "output_dir", "Give --storage-path, which takes URIs.")
    config, overrides = None, given_settings(arguments)
    if arguments.resume is not None:
        require_alone(arguments, _FIXED_ON_RESUME, "the run's", "Leave it out, or start a new run.")
    else:
        config = with_lasting_paths(chosen_config(arguments)[0])
    # The arguments are checked before the slow imports, so that a typo is reported at once.
    quieten_libraries()
    place = chosen_place(arguments, "" if config is None else config.algo)
    with opened(arguments, place, "python train.py") as output:
        return _train(arguments, config, overrides, output)


def _train(
    arguments: argparse.Namespace, config: RunConfig | None, overrides: dict[str, Any], output: OutputFolder
) -> int:
    """Train in the folder of a new or a resumed run, and return the exit code."""
    from rllib_portfolio.market import load_market
    from rllib_portfolio.market.plausibility import require_accepted_moves
    from rllib_portfolio.runs import loop
    from rllib_portfolio.runs.folder import CONFIG, RECORD, open_run_folder, require_fresh

    if config is None:
        config, market = open_run_folder(output.path, overrides)
        chosen_algorithm(arguments.algo, output.path / CONFIG)
        steps, is_complete = loop.resume_point(config, output.path)
        if is_complete:
            say(arguments, _completion(output.place, steps, config))
            return _compare(config, market, output)
        require_consent(config.environment.model_dump())
        require_device(config, arguments.address)
        output.warn_if_foreign(RECORD)
        begun = f"Resuming {output.place} at {steps:,} of {config.schedule.total_timesteps:,} steps"
    else:
        require_fresh(output.path)
        require_device(config, arguments.address)
        say(arguments, "Preparing the market ...")
        market = load_market(config.market)
        require_accepted_moves(market, config.market)
        begun = f"Run folder: {output.place}"
    for note in market.notes:
        say(arguments, f"Note: {note}")
    output.begin(arguments, begun, curves=output.place)
    return _train_in_folder(arguments, config, market, output)


def _completion(place: str, steps: int, config: RunConfig) -> str:
    """Return the message about a complete run."""
    total = config.schedule.total_timesteps
    if steps >= total:
        return f"{place} is complete at {steps:,} steps. To continue, pass a larger --total-timesteps."
    return (
        f"{place} is complete at {steps:,} of {total:,} steps: early stopping ended it. To train longer, start a new "
        f"run with schedule.early_stopping_evaluations above {config.schedule.early_stopping_evaluations}, or null."
    )


def _compare(config: RunConfig, market: Any, output: OutputFolder) -> int:
    """Compare the best policy of a finished run with the baselines, and return the exit code."""
    from rllib_portfolio.runs.summary import compare_best_policy

    with _way_back(config, output):
        comparison = compare_best_policy(output.path, config, market)
    output.keep()
    comparison.print(output.place if output.storage.is_remote else None)
    for window, table in comparison.tables.items():
        start, stop = market.windows[window]
        if warn_of_implausible(table, market, stop - start):
            break
    return 0


def _train_in_folder(arguments: argparse.Namespace, config: RunConfig, market: Any, output: OutputFolder) -> int:
    from rllib_portfolio.algorithms.memory import require_memory
    from rllib_portfolio.algorithms.run_settings import process_bundles
    from rllib_portfolio.runs import loop
    from rllib_portfolio.runs.folder import create_run_folder, record_settings, removed_if_refused

    for note in loop.start_notes(config, market):
        say(arguments, f"Note: {note}")
    display = TrainingDisplay(arguments.quiet)
    with _way_back(config, output), ray_session(config, arguments.address), stop_signals() as received, display:
        _, *others = process_bundles(config.resources)  # the first bundle is this process
        require_memory(config, market)
        require_room(arguments, others, "the run's processes")
        is_new = arguments.resume is None
        if is_new:
            create_run_folder(output.path, config, market)
        else:
            record_settings(output.path, config)
            output.storage.keep_so_far(output.name)

        def show(status: loop.Status) -> None:
            display.show(status)
            if status.is_saved:
                output.storage.keep_so_far(output.name)

        with removed_if_refused(output.path) if is_new else nullcontext():
            finished = loop.run(
                config, market, output.path, resume=not is_new, on_progress=show, should_stop=lambda: bool(received)
            )
    if finished:
        return _compare(config, market, output)
    output.keep()
    return output.stop("a checkpoint is written", _settings(config), received)


def _way_back(config: RunConfig, output: OutputFolder) -> AbstractContextManager[None]:
    """Return a context that adds the last checkpoint and the command to continue to each error of a begun run."""
    from rllib_portfolio.policies.checkpoint import newest_checkpoint
    from rllib_portfolio.runs.folder import CONFIG, MARKET

    def saved() -> str:
        newest = newest_checkpoint(output.path)
        return f"Saved last: {'nothing' if newest is None else f'checkpoint {newest.name}'}"

    return output.way_back((CONFIG, MARKET), _settings(config), saved)


def _settings(config: RunConfig) -> list[object]:
    """Return the settings whose functions a resumed run imports."""
    return [config.environment.model_dump()]
