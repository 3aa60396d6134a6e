"""`tune.py`: start a hyperparameter search, or continue one."""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import is_on_cluster, quieten_libraries, ray_session, say, stay_on_loopback, tell
from rllib_portfolio.cli.data_paths import with_lasting_paths
from rllib_portfolio.cli.flags import add_flags, flag, require_alone, require_path, whole_number
from rllib_portfolio.cli.interruption import stop_signals
from rllib_portfolio.cli.output_folder import OutputFolder, opened
from rllib_portfolio.cli.progress import RunsDisplay, print_outcome
from rllib_portfolio.cli.services import service_callbacks
from rllib_portfolio.cli.settings import chosen_config, require_device, require_room
from rllib_portfolio.config.consent import named_functions, require_consent, trust
from rllib_portfolio.config.files import SEARCH, read_yaml
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError

if TYPE_CHECKING:
    from rllib_portfolio.experiments.runner import Place
    from rllib_portfolio.experiments.search.record import SearchRecord
    from rllib_portfolio.experiments.search.session import SearchSession

_DESCRIPTION = """\
Search for hyperparameters with Ray Tune and Optuna.

Each trial is a training run with settings from the search space (`search:` in tune_configs/<algo>.yaml). Its objective
is the Sharpe ratio of its policy on the validation window after costs; the test window is never used. The scheduler
stops trials with low scores early. At the end the best trials are trained again on fresh seeds, which the search did
not use. The settings with the best median score are written to best_config.yaml, which train.py --config accepts.

After Ctrl-C, SIGTERM, a lost connection, a crash or the loss of a machine, --resume continues every trial from its last
checkpoint.
"""

_EPILOG = """\
examples:
  python tune.py --algo ppo --num-samples 50
  python tune.py --algo dqn --num-samples 30 --max-steps 100000 --output-dir models/dqn_search
  python tune.py --resume                                  continue the search in models/hyperparameter_search
  python tune.py --resume --num-samples 80                 continue it up to 80 trials in total
  python tune.py --algo ppo --cpus-per-trial 0.5           four trials at a time on two cores
  python tune.py --algo ppo --time-budget 2h --search random --scheduler none
  python tune.py --algo ppo --address auto --storage-path /shared/search --storage postgresql://tuner@db/optuna
  python train.py --config models/hyperparameter_search/best_config.yaml
  tensorboard --logdir models/hyperparameter_search        curves of every trial, and the HPARAMS tab
  optuna-dashboard sqlite:///models/hyperparameter_search/ppo_study.db

exit code: 0 success, 1 no trial finished or machine failure, 2 invalid input, 129, 130 or 143 stopped by a signal
"""

OUTPUT = Path("models/hyperparameter_search")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    what = parser.add_argument_group("the search")
    add_flags(what, "--algo")
    add_flags(
        what, "--config",
        help="YAML configuration of the trials, with the search space (default: tune_configs/<algo>.yaml)",
    )  # fmt: skip
    add_flags(what, "--set", help="override one setting of all trials; may be repeated")
    for name, text in (
        ("--num-samples", "total number of trials (default: 50)"),
        ("--max-steps", "environment steps per trial (default: 50000)"),
        ("--report-interval", "environment steps between two evaluations (default: a tenth of --max-steps)"),
        ("--grace-steps", "environment steps before a trial can be stopped early (default: two report intervals)"),
        ("--retrain-top", "number of best trials to train again (default: 3)"),
        ("--retrain-seeds", "fresh seeds for each of these trials (default: 3)"),
    ):
        what.add_argument(name, type=whole_number, metavar="N", help=text)
    what.add_argument(
        "--search", choices=["optuna", "random"], help="search algorithm (default: optuna, the TPE sampler)"
    )
    what.add_argument(
        "--scheduler", choices=["median", "asha", "none"], help="scheduler that stops trials early (default: median)"
    )
    add_flags(what, "--seed", help="seed of the sampler and of every trial (default: 0)")
    add_flags(what, "--data-path", "--index-path")
    places = parser.add_argument_group("output and storage")
    add_flags(places, "--output-dir", help=f"where to write (default: {OUTPUT})")
    add_flags(places, "--resume", nargs="?", const=str(OUTPUT), help=f"continue the search in DIR (default: {OUTPUT})")
    add_flags(places, "--trust-custom")
    places.add_argument(
        "--storage",
        metavar="URL",
        help="database of the Optuna study (default: SQLite in <output-dir>/<algo>_study.db)",
    )
    add_flags(
        places, "--storage-path",
        help="where to write the trials' runs: a shared folder or a URI (s3://, gs://) (default: the output directory)",
    )  # fmt: skip
    _add_machines(parser.add_argument_group("machines and logging"))


def _add_machines(machines: Any) -> None:
    add_flags(machines, "--address", "--wait-for-resources")
    machines.add_argument(
        "--max-concurrent", type=int, metavar="N", help="largest number of concurrent trials (default: as many as fit)"
    )
    machines.add_argument(
        "--cpus-per-trial", type=float, default=1.0, metavar="X",
        help="CPUs reserved per trial; fractions are allowed (default: 1)",
    )  # fmt: skip
    machines.add_argument(
        "--gpus-per-trial", type=float, default=0.0, metavar="X",
        help="GPUs reserved per trial; fractions are allowed (default: 0)",
    )  # fmt: skip
    machines.add_argument(
        "--time-budget", metavar="TIME", help="stop the search after this time, such as 90 (seconds), 30m or 2h"
    )
    machines.add_argument("--wandb", metavar="PROJECT", help="log trials to Weights & Biases (needs the package wandb)")
    machines.add_argument(
        "--mlflow", metavar="URI", help="log trials to an MLflow server or folder (needs the package mlflow)"
    )
    add_flags(machines, "--quiet")


_SETTINGS = {
    "num_samples": "num_samples",
    "max_steps": "max_steps",
    "search": "search",
    "scheduler": "scheduler",
    "report_interval": "report_interval",
    "grace_steps": "grace_steps",
    "seed": "seed",
    "retrain_top": "num_retrained",
    "retrain_seeds": "num_retrain_seeds",
}
"""Settings of the search by the name of the argument that overrides them."""
_FIXED = (
    *("algo", "config", "set", "data_path", "index_path", "output_dir", "storage_path"),
    *(name for name in _SETTINGS if name != "num_samples"),  # --resume may raise it
)


def execute(arguments: argparse.Namespace) -> int:
    """Start or continue a search, and return the exit code."""
    stay_on_loopback(arguments.address)
    arguments.time_budget_s = _seconds(arguments.time_budget)
    _require_positive(arguments)
    for name in ("output_dir", "resume"):
        require_path(arguments, name, "Only the runs of trials can be stored at a URI: give it as --storage-path.")
    record = None
    if arguments.resume is not None:
        require_alone(arguments, _FIXED, "the search's", "Leave it out, or start another search.")
    else:
        record = _new(arguments)  # checked before the slow imports, so that a typo is reported at once
    place = Path(arguments.resume or arguments.output_dir or OUTPUT).resolve()
    with opened(arguments, str(place), "python tune.py") as output:
        return _execute(arguments, record, output)


def _execute(arguments: argparse.Namespace, record: SearchRecord | None, output: OutputFolder) -> int:
    """Search in an open folder and return the exit code; without `record` the search of the folder continues."""
    quieten_libraries()
    from rllib_portfolio.experiments.search.record import require_new_folder

    if record is not None:
        require_new_folder(output.path)
    record = record or _resumed(arguments, output.path)
    if not is_on_cluster(arguments.address):
        require_device(record.config)
    callbacks = service_callbacks(arguments, f"{record.config.algo}_search")
    from rllib_portfolio.experiments.search.session import SearchSession

    session = SearchSession(record, output.path)
    with session.only_writer(is_new=arguments.resume is None):
        if arguments.resume is None:
            say(arguments, "Preparing the market ...")
            session.prepare()
        with output.way_back([record.file_name], _rewards(record)):
            return _search(arguments, session, output, callbacks)


def _rewards(record: SearchRecord) -> list[Any]:
    """Return the settings that may name reward functions."""
    return [record.config.environment.model_dump(), record.space.to_json()]


def _search(
    arguments: argparse.Namespace, session: SearchSession, output: OutputFolder, callbacks: Sequence[Any]
) -> int:
    """Run what is left of a search, write its results, and return the exit code."""
    from rllib_portfolio.experiments.progress import Watch
    from rllib_portfolio.experiments.runner import Place

    record, received = session.record, []
    place = Place(
        arguments.cpus_per_trial, arguments.gpus_per_trial, arguments.max_concurrent, arguments.wait_for_resources
    )
    if arguments.resume is not None and not session.num_left and not session.retraining.num_left:
        trials = f"{record.settings.num_samples} trials have ended"
        say(arguments, f"{output.place} is complete: its {trials}. To continue, pass a larger --num-samples.")
        session.retrain(place, Watch())  # nothing is trained; this reads the scores of earlier sessions
    else:
        require_consent(_rewards(record))
        if arguments.resume is not None:
            output.warn_if_foreign(record.file_name)
        received = _train(arguments, session, output, place, callbacks)
    if received:
        return output.stop("what was done is kept", _rewards(record), received)
    say(arguments, "Writing tables and plots ...")
    outcome = session.finish()
    print_outcome(outcome, output.path)
    if outcome.num_left:
        left = f"{outcome.num_left} of {record.settings.num_samples} trials are left"
        tell(f"{left}. Continue with: {output.resume_command(_rewards(record))}")
    return 0 if outcome.best is not None else 1


def _train(
    arguments: argparse.Namespace, session: SearchSession, output: OutputFolder, place: Place, callbacks: Sequence[Any]
) -> list[int]:
    """Run the missing trials, train the best ones again, and return the received signals."""
    from rllib_portfolio.experiments.progress import Watch
    from rllib_portfolio.runs.loop import start_notes

    record, is_new = session.record, arguments.resume is None
    deadline = time.monotonic() + arguments.time_budget_s
    notice = "Stopping the trials; each keeps its last checkpoint ..."
    with ray_session(record.config, arguments.address), stop_signals(notice) as received:
        require_room(arguments, place.bundles(record.config.resources), "a trial")
        if is_new:
            session.start()
        for note in (*session.market.notes, *start_notes(record.config, session.market)):
            say(arguments, f"Note: {note}")
        begun = f"{'Search folder:' if is_new else 'Resuming'} {output.place}"
        output.begin(arguments, begun, curves=session.trials_root)
        if session.num_left:
            with RunsDisplay(arguments.quiet, "trial", is_contest=True) as display:
                watch = Watch(display.show, lambda: bool(received) or time.monotonic() > deadline, callbacks)
                session.search(place, watch)
        else:
            say(arguments, f"The {record.settings.num_samples} trials of the search have already ended.")
        if not received and record.settings.num_retrained:
            _train_again(arguments, session, place, received)
    return received


def _train_again(arguments: argparse.Namespace, session: SearchSession, place: Place, received: list[int]) -> None:
    """Train the best trials again on fresh seeds, unless this is done."""
    from rllib_portfolio.experiments.progress import Watch

    seeds = f"on {session.record.settings.num_retrain_seeds} fresh seeds"
    if session.retraining.num_left:
        say(arguments, f"Training the best trials again, {seeds}:")
    elif session.retraining.known:
        say(arguments, f"The best trials have already been trained again, {seeds}.")
    with RunsDisplay(arguments.quiet) as display:
        session.retrain(place, Watch(display.show, lambda: bool(received)))


def _new(arguments: argparse.Namespace) -> SearchRecord:
    """Return the record of a new search from the arguments, after a check of all settings."""
    config, path = chosen_config(arguments)
    config = with_lasting_paths(config)

    from rllib_portfolio.experiments.search.record import SearchRecord
    from rllib_portfolio.experiments.search.settings import SearchSettings
    from rllib_portfolio.experiments.search.space import SearchSpace
    from rllib_portfolio.experiments.search.study import without_password

    given = {to: value for name, to in _SETTINGS.items() if (value := getattr(arguments, name)) is not None}
    settings = validated(SearchSettings, {"seed": config.seed, **given}, "command line")
    space = SearchSpace.parse(read_yaml(path).get(SEARCH), config, str(path))
    trust(named_functions(space.to_json()))
    settings.trial_config(config, {}, f"{path} and command line")
    storage_path, command = arguments.storage_path, arguments.command_line
    if storage_path is not None and "://" not in storage_path:
        storage_path = str(Path(storage_path).resolve())
    if arguments.storage is not None:
        command = command.replace(arguments.storage, without_password(arguments.storage))
    return SearchRecord(settings, config, space, arguments.storage, storage_path, command)


def _resumed(arguments: argparse.Namespace, output: Path) -> SearchRecord:
    """Return the record of the search in a folder, with --num-samples and --storage if they are given."""
    from dataclasses import replace

    from rllib_portfolio.experiments.search.record import SearchRecord
    from rllib_portfolio.experiments.search.settings import SearchSettings
    from rllib_portfolio.experiments.search.study import without_password

    record = SearchRecord.read(output)
    if arguments.storage is not None and record.storage != without_password(arguments.storage):
        raise ConfigError(
            f"--storage must be that of the search, {record.storage or 'its SQLite file'}, got "
            f"{without_password(arguments.storage)}. Leave it as it was."
        )
    if arguments.num_samples is not None:
        values = record.settings.model_dump() | {"num_samples": arguments.num_samples}
        record = replace(record, settings=validated(SearchSettings, values, "command line"))
    return replace(record, storage=arguments.storage or record.storage)


def _require_positive(arguments: argparse.Namespace) -> None:
    for name, least in (("max_concurrent", 1), ("cpus_per_trial", 0.01), ("gpus_per_trial", 0.0)):
        value = getattr(arguments, name)
        if value is not None and not value >= least:
            raise ConfigError(f"{flag(name)} must be at least {least}, got {value}. Raise it.")


def _seconds(text: str | None) -> float:
    """Return a duration such as `90`, `30m` or `2h` in seconds; infinity for None."""
    if text is None:
        return math.inf
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) == 0.0:
        raise ConfigError(f"--time-budget must be a time such as 90, 30m or 2h, got {text!r}. Correct it.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
