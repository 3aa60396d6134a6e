"""`tune.py`: a search for settings, or the continuation of one."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import (
    guarded,
    is_on_cluster,
    note_lost_folder,
    quieten_libraries,
    ray_session,
    say,
    stay_on_loopback,
    tell,
    warn_of_pickles,
)
from rllib_portfolio.cli.data_paths import with_lasting_paths
from rllib_portfolio.cli.interruption import stop_signals
from rllib_portfolio.cli.machine_faults import way_back
from rllib_portfolio.cli.progress import RunsDisplay, print_outcome
from rllib_portfolio.cli.services import service_callbacks
from rllib_portfolio.cli.settings import (
    add_trust,
    add_wait_for_resources,
    chosen_algorithm,
    default_config,
    own_config,
    require_device,
    require_path,
    require_room,
    trust_flags,
    whole_number,
)
from rllib_portfolio.config import DEFAULT_ALGORITHM, RUN_CONFIGS
from rllib_portfolio.config.consent import named_functions, require_consent, trust
from rllib_portfolio.config.files import SEARCH, parse_assignment, read_yaml
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.runs.folder_lock import only_writer

if TYPE_CHECKING:
    from rllib_portfolio.experiments.runner import Place
    from rllib_portfolio.experiments.search.record import SearchRecord
    from rllib_portfolio.experiments.search.session import SearchSession

_DESCRIPTION = """\
Search for settings with Ray Tune and Optuna.

Trials are training runs that differ in the settings of the search space (`search:` in tune_configs/<algo>.yaml). Each
is judged by the Sharpe ratio of its policy on the validation window, after costs; the test window is never touched. The
scheduler stops what falls behind. At the end the best settings are trained again on fresh seeds, and the winner is the
one with the best median: best_config.yaml, which train.py --config takes as it is.

Nothing is lost by Ctrl-C, SIGTERM, a lost connection, a crash or a lost machine: --resume continues every trial from
its last checkpoint.
"""

_EPILOG = """\
examples:
  python tune.py --algo ppo --num-samples 50
  python tune.py --algo dqn --num-samples 30 --max-steps 100000 --output-dir models/dqn_search
  python tune.py --resume                                  continue the search in models/hyperparameter_search
  python tune.py --resume --num-samples 80                 the same, with more trials than it was begun with
  python tune.py --algo ppo --cpus-per-trial 0.5           four trials at a time on two cores
  python tune.py --algo ppo --time-budget 2h --search random --scheduler none
  python tune.py --algo ppo --address auto --storage-path /shared/search --storage postgresql://tuner@db/optuna
  python train.py --config models/hyperparameter_search/best_config.yaml
  tensorboard --logdir models/hyperparameter_search        curves of every trial, and the HPARAMS tab
  optuna-dashboard sqlite:///models/hyperparameter_search/ppo_study.db

Exit codes: 0 done, 1 no trial finished or the machine failed, 2 a setting that cannot be used, 129, 130, 143 stopped.
"""

OUTPUT = Path("models/hyperparameter_search")


def tune(arguments: Sequence[str] | None = None) -> int:
    """`tune.py`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="tune.py", formatter_class=argparse.RawDescriptionHelpFormatter)
    configure(parser)

    def command() -> int:
        parsed = parser.parse_args(words)
        parsed.command_line = shlex.join(["python", "tune.py", *words])
        return execute(parsed)

    return guarded(command)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    what = parser.add_argument_group("the search")
    what.add_argument(
        "--algo", choices=list(RUN_CONFIGS), help=f"algorithm (default: that of --config, or {DEFAULT_ALGORITHM})"
    )
    what.add_argument(
        "--config", type=Path, metavar="FILE",
        help="YAML file with what trials start from and the search space (default: tune_configs/<algo>.yaml)",
    )  # fmt: skip
    what.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="override one setting of all trials; repeatable"
    )
    what.add_argument("--num-samples", type=whole_number, metavar="N", help="trials in all (default: 50)")
    what.add_argument(
        "--max-steps", type=whole_number, metavar="N", help="environment steps of a trial (default: 50000)"
    )
    what.add_argument("--search", choices=["optuna", "random"], help="who proposes settings (default: optuna, its TPE)")
    what.add_argument(
        "--scheduler", choices=["median", "asha", "none"], help="who stops trials early (default: median)"
    )
    what.add_argument(
        "--report-interval",
        type=whole_number,
        metavar="N",
        help="steps between evaluations (default: a tenth of --max-steps)",
    )
    what.add_argument(
        "--grace-steps",
        type=whole_number,
        metavar="N",
        help="steps before which no trial is stopped (default: two intervals)",
    )
    what.add_argument("--seed", type=int, help="seed of the sampler and of every trial (default: 0)")
    what.add_argument("--retrain-top", type=int, metavar="N", help="best trials to train again (default: 3)")
    what.add_argument("--retrain-seeds", type=int, metavar="N", help="fresh seeds of each (default: 3)")
    what.add_argument("--data-path", metavar="FILE", help="CSV or Parquet table of prices (default: 20 S&P 500 stocks)")
    what.add_argument("--index-path", metavar="FILE", help="CSV or Parquet table of the index level, for own data")
    places = parser.add_argument_group("places")
    places.add_argument("--output-dir", metavar="DIR", help=f"where to write (default: {OUTPUT})")
    places.add_argument(
        "--resume", nargs="?", const=str(OUTPUT), metavar="DIR", help=f"continue the search in DIR ({OUTPUT})"
    )
    add_trust(places)
    places.add_argument(
        "--storage", metavar="URL", help="database of the Optuna study (default: <output>/<algo>_study.db, SQLite)"
    )
    places.add_argument(
        "--storage-path", metavar="PATH",
        help="where trials keep their runs: a folder that all machines share, or s3://, gs:// (default: the output)",
    )  # fmt: skip
    machines = parser.add_argument_group("machines and sessions")
    machines.add_argument("--address", metavar="ADDRESS", help="Ray cluster to use, or `auto` (default: this machine)")
    machines.add_argument("--max-concurrent", type=int, metavar="N", help="trials at a time (default: as many as fit)")
    machines.add_argument(
        "--cpus-per-trial", type=float, default=1.0, metavar="X", help="may be a fraction (default: 1)"
    )
    machines.add_argument("--gpus-per-trial", type=float, default=0.0, metavar="X", help="likewise (default: 0)")
    add_wait_for_resources(machines)
    machines.add_argument("--time-budget", metavar="TIME", help="stop searching after 90 (seconds), 30m or 2h")
    machines.add_argument("--wandb", metavar="PROJECT", help="log trials to Weights & Biases (needs its package)")
    machines.add_argument(
        "--mlflow", metavar="URI", help="log trials to an MLflow server or folder (needs its package)"
    )
    machines.add_argument(
        "--quiet", action="store_true", help="no progress display; the closing table is still printed"
    )


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
"""Flag to the setting of the search that it gives."""
_DATA = {"seed": "seed", "data_path": "market.data", "index_path": "market.index_path"}
_FIXED = ("algo", "config", "set", "data_path", "index_path", "output_dir", "storage_path", *_SETTINGS)
_MAY_GROW = "num_samples"


def execute(arguments: argparse.Namespace) -> int:
    """Search, train the best again, write; the exit code."""
    trust(arguments.trust_custom)
    stay_on_loopback(arguments.address)
    budget_s = _seconds(arguments.time_budget)
    _require_positive(arguments)
    for flag in ("output_dir", "resume"):
        require_path(arguments, flag, "Trials alone may be kept at a URI: give it as --storage-path.")
    record = None
    if arguments.resume is not None:
        _require_alone(arguments)
    else:
        record = _new(arguments)  # checked before the heavy imports: a typo must not cost seconds
    output = Path(arguments.resume or arguments.output_dir or OUTPUT).resolve()
    with only_writer(output, is_new=record is not None):
        return _execute(arguments, record, output, budget_s)


def _execute(arguments: argparse.Namespace, record: SearchRecord | None, output: Path, budget_s: float | None) -> int:
    """Search in a folder that no other process writes into, from the record of a new search or from the folder's."""
    quieten_libraries()
    from rllib_portfolio.experiments.search.record import require_new_folder

    if record is not None:
        require_new_folder(output)
    record = record or _resumed(arguments, output)
    if not is_on_cluster(arguments.address):
        require_device(record.config)
    callbacks = service_callbacks(arguments, f"{record.config.algo}_search")
    from rllib_portfolio.experiments.search.session import SearchSession

    session = SearchSession(record, output)
    with session.only_writer(is_new=arguments.resume is None):
        if arguments.resume is None:
            say(arguments, "Preparing the market ...")
            session.prepare()
        with way_back(lambda: _way_back(session)):
            return _search(arguments, session, budget_s, callbacks)


def _way_back(session: SearchSession) -> str | None:
    """Return how a search goes on; None if it has not begun."""
    if not (session.output / session.record.file_name).is_file():
        return None
    return f"What was done is kept. Continue with: {_resume_command(session)}"


def _resume_command(session: SearchSession) -> str:
    """Return what continues a search."""
    place = shlex.quote(str(_relative(session.output)))
    return f"python tune.py --resume {place}{trust_flags(_rewards(session))}"


def _rewards(session: SearchSession) -> list[Any]:
    """Return the settings that may name functions."""
    return [session.record.config.environment.model_dump(), session.record.space.to_json()]


def _search(
    arguments: argparse.Namespace, session: SearchSession, budget_s: float | None, callbacks: Sequence[Any]
) -> int:
    """Train what is left of a search, write its results, and return the exit code."""
    from rllib_portfolio.experiments.progress import Watch
    from rllib_portfolio.experiments.runner import Place

    record, output = session.record, session.output
    place = Place(
        arguments.cpus_per_trial, arguments.gpus_per_trial, arguments.max_concurrent, arguments.wait_for_resources
    )
    if arguments.resume is not None and not session.num_left and not session.retraining.num_left:
        trials = f"{record.settings.num_samples} trials have ended"
        say(arguments, f"{output} is complete: its {trials}. To continue, pass a larger --num-samples.")
        session.retrain(place, Watch())  # reads the scores of earlier sessions
        received = []
    else:
        require_consent(_rewards(session))
        if arguments.resume is not None:
            warn_of_pickles(str(output), output, record.file_name)
        received = _train(arguments, session, place, budget_s, callbacks)
    if received:
        tell(f"Stopped; what was done is kept. Continue with: {_resume_command(session)}")
        return 128 + received[0]
    say(arguments, "Writing tables and plots ...")
    outcome = session.finish()
    print_outcome(outcome, output)
    if outcome.num_left:
        left = f"{outcome.num_left} of {record.settings.num_samples} trials are left"
        tell(f"{left}. Continue with: {_resume_command(session)}")
    return 0 if outcome.best is not None else 1


def _train(
    arguments: argparse.Namespace,
    session: SearchSession,
    place: Place,
    budget_s: float | None,
    callbacks: Sequence[Any],
) -> list[int]:
    """Run the missing trials, then the best ones again; return the signals that were received."""
    from rllib_portfolio.experiments.progress import Watch
    from rllib_portfolio.runs.loop import start_notes

    record, output = session.record, session.output
    deadline = None if budget_s is None else time.monotonic() + budget_s
    notice = "Stopping the trials; each keeps its last checkpoint ..."
    with ray_session(record.config, arguments.address), stop_signals(notice) as received:
        require_room(arguments, place.bundles(record.config.resources), "a trial")
        if arguments.resume is None:
            session.start()
        for note in (*session.market.notes, *start_notes(record.config, session.market)):
            say(arguments, f"Note: {note}")
        curves = "" if "://" in session.trials_root else f"   (tensorboard --logdir {session.trials_root})"
        begun = "Search folder:" if arguments.resume is None else "Resuming"
        say(arguments, f"{begun} {output}{curves}")
        note_lost_folder(output)
        if session.num_left:
            with RunsDisplay(arguments.quiet, "trial", is_contest=True) as display:
                session.search(place, Watch(display.show, _stopper(received, deadline), callbacks))
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


def _stopper(received: list[int], deadline: float | None) -> Callable[[], bool]:
    return lambda: bool(received) or (deadline is not None and time.monotonic() > deadline)


def _new(arguments: argparse.Namespace) -> SearchRecord:
    """What is asked for, checked against the models."""
    algo = chosen_algorithm(arguments.algo, arguments.config)
    path = arguments.config or default_config(algo)
    overrides = dict(parse_assignment(text) for text in arguments.set)
    overrides |= _given(arguments, _DATA)
    config = with_lasting_paths(own_config(path, {"algo": algo, **overrides}))

    from rllib_portfolio.experiments.search.record import SearchRecord
    from rllib_portfolio.experiments.search.settings import SearchSettings
    from rllib_portfolio.experiments.search.space import SearchSpace

    settings = validated(SearchSettings, {"seed": config.seed, **_given(arguments, _SETTINGS)}, "command line")
    space = SearchSpace.parse(read_yaml(path).get(SEARCH), config, str(path))
    trust(named_functions(space.to_json()))
    settings.trial_config(config, {}, f"{path} and command line")
    storage_path = arguments.storage_path
    if storage_path is not None and "://" not in storage_path:
        storage_path = str(Path(storage_path).resolve())
    return SearchRecord(settings, config, space, arguments.storage, storage_path, _command_line(arguments))


def _resumed(arguments: argparse.Namespace, output: Path) -> SearchRecord:
    """The search in a folder, with more trials if they are asked for."""
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
        values = record.settings.model_dump() | {_MAY_GROW: arguments.num_samples}
        record = replace(record, settings=validated(SearchSettings, values, "command line"))
    return replace(record, storage=arguments.storage or record.storage)


def _given(arguments: argparse.Namespace, names: dict[str, str]) -> dict[str, Any]:
    return {name: value for flag, name in names.items() if (value := getattr(arguments, flag)) is not None}


def _require_alone(arguments: argparse.Namespace) -> None:
    given = [
        f"--{flag.replace('_', '-')}"
        for flag in dict.fromkeys(_FIXED)
        if flag != _MAY_GROW and getattr(arguments, flag) not in (None, [])
    ]
    if given:
        raise ConfigError(
            f"--resume must keep the search's own settings, got {', '.join(given)}. Leave it out, or start another "
            "search."
        )


def _require_positive(arguments: argparse.Namespace) -> None:
    for flag, least in (("max_concurrent", 1), ("cpus_per_trial", 0.01), ("gpus_per_trial", 0.0)):
        value = getattr(arguments, flag)
        if value is not None and not value >= least:
            raise ConfigError(f"--{flag.replace('_', '-')} must be at least {least}, got {value}. Raise it.")


def _seconds(text: str | None) -> float | None:
    """`90`, `30m` or `2h` in seconds."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) == 0.0:
        raise ConfigError(f"--time-budget must be a time such as 90, 30m or 2h, got {text!r}. Correct it.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _command_line(arguments: argparse.Namespace) -> str:
    """The command, without the password of a database."""
    from rllib_portfolio.experiments.search.study import without_password

    text: str = arguments.command_line
    return text if arguments.storage is None else text.replace(arguments.storage, without_password(arguments.storage))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
