"""A run whose files were damaged in any way is refused in one line, or read as it was: never read as something else."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_portfolio import cli, load_policy
from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.atomic import SEAL, sealed, write_json
from rllib_portfolio.cli import evaluation
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import plan_walk_forward
from rllib_portfolio.experiments.walk_forward.record import RECORD, read_plan, start_analysis
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import MANIFEST, _digests, best_checkpoint
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.runs import loop
from rllib_portfolio.runs.folder import FINISHED
from rllib_portfolio.runs.resumable import _reached, finished_training
from tests.tiny_runs import TOTAL_STEPS, TinyRun

ROUNDS, MORE_ROUNDS, FEW_ROUNDS = 3, 16, 1
"""Mutations of a file; of one that says what a run is; of one that is for people alone."""
VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**400, 1e308, float("nan"), "", "text", [], {}, [[1]], {"step": 1})


class Opened(BaseException):
    """Ends a command when it has read the run, with what it read."""


def same(value: object) -> str:
    """Text that is equal for equal results."""
    if isinstance(value, PortfolioPolicy):
        observations = np.linspace(-1.0, 1.0, 2 * len(value.spec.observation_names), dtype=np.float32).reshape(2, -1)
        return f"{asdict(value.spec)} {value(observations).tolist()}"
    if isinstance(value, MarketData):
        arrays = (value.returns, value.cash_returns, value.volatility, value.asset_features, value.market_features)
        index = None if value.index_returns is None else value.index_returns.tobytes()
        return f"{[a.tobytes() for a in arrays]} {index!r} {value.dates} {value.assets} {value.windows} {value.fitted}"
    return repr(value)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end where they have read the run: no Ray, no training, no walk."""

    class Algorithm:
        def restore_from_path(self, path: str) -> None:
            self.path = Path(path).parent.name

    def opened(run: Any, *rest: object) -> None:
        run.tracker.close()
        raise Opened(run.config, same(run.market), run.state, run.algorithm.path)

    def on_evaluation(arguments: Any, market: MarketData, window: str, terms: Any, subjects: Any, subsets: Any) -> None:
        raise Opened(subjects[0].runs[0].config, same(market), terms, same(subjects[0].runs[0].policy))

    train = importlib.import_module("rllib_portfolio.cli.train")
    monkeypatch.setattr(train, "ray_session", lambda *given: nullcontext())
    monkeypatch.setattr(train, "require_room", lambda *given: None)
    monkeypatch.setattr(ALGORITHMS["ppo"], "build", lambda *given: Algorithm())
    monkeypatch.setattr(loop, "Gauges", lambda *given: None)
    monkeypatch.setattr(loop._Run, "loop", opened)
    monkeypatch.setattr(evaluation, "Evaluation", on_evaluation)


def command(run: Callable[[list[str]], int], *words: str) -> str | None:
    """Return what a command read; None if it ended with exit code 2 after one line for the user."""
    try:
        exit_code = run([*words, "--quiet"])
    except Opened as opened:
        return repr(opened.args)
    return None if exit_code == 2 else f"exit code {exit_code}"


def api(read: Callable[[Path], object], folder: Path) -> str | None:
    """Return what a function read; None if it raised one of the two errors that users see, in one line."""
    try:
        return same(read(folder))
    except (ConfigError, DataError):
        return None


Reader = Callable[[Path], str | None]
OF_A_RUN: dict[str, Reader] = {
    "load_policy": lambda run: api(load_policy, run),
    "backtest": lambda run: command(cli.backtest, str(run), "--output-dir", str(run.parent / "report")),
    "resume": lambda run: command(cli.train, "--resume", str(run), "--total-timesteps", str(2 * TOTAL_STEPS)),
}
OF_ONE_FILE: dict[str, dict[str, Reader]] = {
    "exported": {"load_policy of a folder": lambda run: api(load_policy, run / "exported")},
    FINISHED: {"finished": lambda run: api(finished_training, run)},
    RECORD: {"walk-forward": lambda run: api(read_plan, run)},
    "ppo_search.json": {"tune": lambda run: api(SearchRecord.read, run)},
}
"""Readers by the only file or folder that they read."""


@pytest.fixture
def whole(tmp_path: Path, finished_run: TinyRun) -> Path:
    """A finished run that has all files that any reader reads."""
    run_dir = tmp_path / "whole"
    shutil.copytree(finished_run.run_dir, run_dir)
    best = best_checkpoint(run_dir)
    assert best is not None
    shutil.copytree(best / "policy", run_dir / "exported")
    write_json(run_dir / FINISHED, sealed(asdict(_reached(run_dir))))
    space = SearchSpace.parse({"training.gamma": {"low": 0.9, "high": 0.99}}, finished_run.config, "test")
    SearchRecord(SearchSettings(max_steps=TOTAL_STEPS), finished_run.config, space).write(run_dir)
    plan = plan_walk_forward([finished_run.config], 2, FoldLengths(num_folds=2))
    start_analysis(plan, tmp_path / "plan")
    shutil.copy(tmp_path / "plan" / RECORD, run_dir)
    return run_dir


def nodes(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in JSON values with each of its keys, but for digests of the whole."""
    for key in list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ():
        if key != SEAL:
            yield values, key
            yield from nodes(values[key])


def retyped(data: bytes, dice: random.Random) -> bytes:
    """JSON with a value of another type, or without an entry."""
    values = json.loads(data)
    container, key = dice.choice(list(nodes(values)))
    if dice.random() < 0.2:
        del container[key]
    else:
        container[key] = dice.choice(VALUES)
    return json.dumps(values).encode()


def flipped(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "cut short": lambda data, dice: data[: dice.randrange(len(data))],
    "flipped": flipped,
    "removed": lambda data, dice: None,
    "empty": lambda data, dice: b"",
    "nested deeply": lambda data, dice: b"[" * 100_000,
    "nested in a mapping": lambda data, dice: b'{"a": ' * 50_000 + b"1" + b"}" * 50_000,
    "other bytes": lambda data, dice: data[: (place := dice.randrange(len(data)))] + b"\xff\x00" * 9 + data[place:],
    "retyped": retyped,
}
OFTEN = ("cut short", "flipped", "retyped")


def damages(path: Path, rounds: int, dice: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Ways to damage a file: each of the kinds that it can have, and then the most fruitful ones."""
    data = path.read_bytes()
    kinds = [kind for kind in DAMAGES if kind != "retyped" or path.suffix == ".json"]
    often = [kind for kind in OFTEN if kind in kinds]
    for number in range(rounds):
        kind = kinds[number] if number < min(len(kinds), rounds // 2) else dice.choice(often)
        yield kind, DAMAGES[kind](data, dice)


def num_rounds(path: Path) -> int:
    if path.suffix in (".png", ".csv") or "tfevents" in path.name or path.name == "results.json":
        return ROUNDS if path.name == "progress.csv" else FEW_ROUNDS
    says_what_it_is = path.parent.name in ("whole", "exported") or path.name in ("manifest.json", "progress.json")
    return MORE_ROUNDS if says_what_it_is else ROUNDS


def copy_of(whole: Path, tmp_path: Path) -> Path:
    """A copy whose files are links: readers write new ones and do not change those that are there."""
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    return shutil.copytree(whole, tmp_path / "run", copy_function=os.link)


@pytest.mark.timeout(600)
def test_no_damage_is_a_traceback_or_read_as_something_else(
    whole: Path, tmp_path: Path, commands: None, caplog: pytest.LogCaptureFixture
) -> None:
    def copied() -> Path:
        return copy_of(whole, tmp_path)

    dice, num_mutations, num_refused = random.Random(22), 0, 0
    everything = {name: read for readers in (OF_A_RUN, *OF_ONE_FILE.values()) for name, read in readers.items()}
    expected = {name: read(copied()) for name, read in everything.items()}
    assert None not in expected.values()
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        for kind, data in damages(path, num_rounds(path), dice):
            work = copied()
            readers = OF_ONE_FILE.get(path.relative_to(whole).parts[0], OF_A_RUN)
            damaged = work / path.relative_to(whole)
            damaged.unlink()
            if data is not None:
                damaged.write_bytes(data)
            caplog.clear()
            what = f"{kind}: {path.relative_to(whole)}"
            try:
                found = {name: read(work) for name, read in readers.items()}
            except Exception as error:
                error.add_note(what)
                raise
            num_mutations += 1
            num_refused += None in found.values()
            for name, result in found.items():
                told = name == "resume" and "Warning: " in caplog.text
                begun_anew = name == "finished" and kind == "removed"  # the run then trains what is missing
                assert result in (None, expected[name]) or told or begun_anew, f"{what}: {name}"
    assert num_mutations >= 200
    assert num_refused >= num_mutations // 2


@pytest.mark.timeout(600)
def test_no_value_that_somebody_wrote_with_a_new_digest_is_a_traceback(
    whole: Path, tmp_path: Path, commands: None
) -> None:
    dice = random.Random(22)
    for path in sorted(whole.rglob("*.json")):
        if path.name in ("results.json", MANIFEST):
            continue
        for _ in range(max(FEW_ROUNDS, num_rounds(path) // 3)):
            work = copy_of(whole, tmp_path)
            rewritten = work / path.relative_to(whole)
            text = retyped(rewritten.read_bytes(), dice)
            values = json.loads(text)
            rewritten.unlink()
            rewritten.write_text(json.dumps(sealed(values) if SEAL in values else values))
            for checkpoint in {rewritten.parent, rewritten.parent.parent}:
                if (checkpoint / MANIFEST).is_file():
                    (checkpoint / MANIFEST).unlink()
                    write_json(checkpoint / MANIFEST, _digests(checkpoint))
            for name, read in OF_ONE_FILE.get(path.relative_to(whole).parts[0], OF_A_RUN).items():
                try:
                    read(work)
                except Exception as error:
                    error.add_note(f"{name}: {path.relative_to(whole)}: {text.decode()[:2000]}")
                    raise
