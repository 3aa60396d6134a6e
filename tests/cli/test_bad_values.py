"""Every setting with values that nobody should write, through the start of training: run it, or say why not, in a line.

What a model accepts is trained with for one iteration, so that a bound which is too wide shows, too.
"""

from __future__ import annotations

import inspect
import json
import math
import shutil
import sys
import types
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Le, Lt
from pydantic import BaseModel

from rllib_portfolio import cli
from rllib_portfolio.algorithms import memory
from rllib_portfolio.algorithms.memory import estimated_bytes, require_memory
from rllib_portfolio.config import RUN_CONFIGS
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.market.loading import SIMULATORS
from tests.tiny_runs import COIN, STEPS_PER_ITERATION, TINY, TINY_DQN

BAD = (
    "text", "", math.nan, math.inf, -math.inf, -1, 0, 1e308, 10**30, None, [], [1e308], ["text", ""], {"a": 1}, True,
    [True],
)  # fmt: skip
FEW = ("text", math.nan, math.inf, -1, 0, 10**30, None, [])
"""One value of each kind, where each that is accepted is trained with."""
SECTIONS = ("environment", "network", "training", "schedule", "resources")
SMALL = {"ppo": TINY, "dqn": TINY_DQN}
MOST_BYTES = 2e9
"""Largest amount of memory that the runs of this test may request."""


def fields_of(model: type[BaseModel], section: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Dotted name of each setting, and the ends of the intervals that it may lie in."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields_of(inner, f"{section}{name}.")
        else:
            yield f"{section}{name}", [*ends(field.metadata), *ends_of(inner)]


def ends(metadata: Any) -> list[Any]:
    """Largest and smallest values that constraints allow."""
    found = [rule.ge if isinstance(rule, Ge) else rule.le for rule in metadata if isinstance(rule, Ge | Le)]
    found += [rule.lt - 1 for rule in metadata if isinstance(rule, Lt) and rule.lt > 1]
    return found + [end for rule in metadata if hasattr(rule, "metadata") for end in ends(rule.metadata)]


def ends_of(annotation: Any) -> list[Any]:
    """The same of a type and what is in it; a sequence is of one element."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return ends(metadata) + ends_of(inner)
    if get_origin(annotation) in (Union, types.UnionType):
        return [end for part in get_args(annotation) for end in ends_of(part)]
    if get_origin(annotation) is tuple:
        return [[end] for part in get_args(annotation)[:1] for end in ends_of(part)]
    return []


@pytest.fixture
def one_iteration(monkeypatch: pytest.MonkeyPatch, ray_session: None) -> None:
    """`train.py` in this process: the Ray that is there, a machine of 2 GB, no closing comparison."""
    command = sys.modules["rllib_portfolio.cli.train"]
    monkeypatch.setattr(command, "ray_session", lambda config, address: nullcontext())
    monkeypatch.setattr(command, "_compare", lambda config, market, kept: 0)
    monkeypatch.setattr("rllib_portfolio.algorithms.memory.free_bytes", lambda: MOST_BYTES)


@pytest.mark.slow
def test_no_parameter_of_a_synthetic_market_ends_in_a_traceback(price_settings: dict[str, Any]) -> None:
    few = {"num_gmm_regimes": 0, "num_hmm_regimes": 0, "momentum_days": (), "moving_average_days": ()}
    few |= {"drawdown_days": None}
    bad = (*BAD, "sp500", [[0.5]], [[]], [0.5, 0.5], {}, 2.5)
    refused = 0
    for source, simulator in SIMULATORS.items():
        table = {"table": price_settings["market.data"]} if source == "bootstrap" else {}
        for name in ["source", *inspect.signature(simulator).parameters]:
            for value in bad:
                try:
                    load_market({"data": {"source": source, "num_days": 300, **table, name: value}, "features": few})
                except (ConfigError, DataError) as error:
                    refused += "\n" not in str(error)
    assert refused > 500


@pytest.mark.parametrize("value", [True, [True], [True, True, True]])
def test_true_is_taken_by_settings_that_are_true_or_false_alone(value: Any) -> None:
    for algo, model in RUN_CONFIGS.items():
        taken = set()
        for name, _ in fields_of(model):
            with suppress(ConfigError):
                load_run_config(None, {"algo": algo, name: value})
                taken.add(name)
        assert taken == (truths_of(model) if value is True else set())
    for name in SearchSettings.model_fields:
        with pytest.raises(ConfigError, match=rf"^{name}: "):
            validated(SearchSettings, {name: value}, "command line")


def truths_of(model: type[BaseModel], section: str = "") -> set[str]:
    """Dotted names of the settings that are true or false."""
    fields = {f"{section}{name}": field.annotation for name, field in model.model_fields.items()}
    inner = [truths_of(kind, f"{name}.") for name, kind in fields.items() if isinstance(kind, type(BaseModel))]
    return {name for name, kind in fields.items() if kind is bool or bool in get_args(kind)}.union(*inner)


@pytest.mark.parametrize("value", [True, [True], [[0.5, True], [True, 0.5]]])
def test_true_is_no_parameter_of_a_synthetic_market(price_settings: dict[str, Any], value: Any) -> None:
    for source, simulator in SIMULATORS.items():
        table = {"table": price_settings["market.data"]} if source == "bootstrap" else {}
        for name in inspect.signature(simulator).parameters:
            with pytest.raises(ConfigError):
                load_market({"data": {"source": source, "num_days": 300, **table, name: value}})


def test_true_is_no_end_and_no_choice_of_a_search() -> None:
    for dimension in ({"low": 0.1, "high": True}, {"low": False, "high": 0.5}, {"choices": [True, 0.1]}):
        with pytest.raises(ConfigError, match="a number must not be true or false"):
            SearchSpace.parse({"training.clip": dimension}, load_run_config(None, {}), "run.yaml")


@pytest.mark.parametrize("value", [*BAD, [1, 2]])
def test_no_setting_of_a_search_ends_in_a_traceback(value: Any) -> None:
    for name in SearchSettings.model_fields:
        with suppress(ConfigError):
            validated(SearchSettings, {name: value}, "command line")
    config = load_run_config(None, {})
    for setting in ("training.learning_rate", "training.num_epochs", "training.clip", "network.hidden_sizes"):
        for dimension in ({"low": value, "high": 1}, {"low": 0.001, "high": value}, {"choices": [value, 0.01]}, value):
            with suppress(ConfigError):
                SearchSpace.parse({setting: dimension}, config, "run.yaml").distributions()


def test_a_run_that_does_not_fit_into_memory_is_refused_with_the_figure(tiny_market: MarketData) -> None:
    # the replay buffer: 10^9 rows of a row number, 4 weights and 4 x 6 numbers, 4 bytes each, and 32 bytes of indices
    settings = {"algo": "dqn", "training.buffer_capacity": 10**9}
    config = load_run_config(None, settings)
    need = estimated_bytes(config, tiny_market)["training.buffer_capacity"]
    assert need == 1e9 * (4 * (1 + 4 + 6 * 4) + 32)
    filtered = load_run_config(None, {**settings, "market.observation_filter": "running"})
    whole = estimated_bytes(filtered, tiny_market)["training.buffer_capacity"]
    assert whole == 1e9 * (4 * (3 * 2 + 1 + 4 + 6 * 4) + 32)  # a running filter needs whole observations
    with pytest.raises(
        ConfigError, match=r"need about 148 GB, while this machine has 23 GB free now\. Lower training\.buf"
    ):
        require_memory(config, tiny_market, have=23e9)
    require_memory(config, tiny_market, have=200e9)


def test_the_memory_that_is_free_when_a_run_begins_is_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_market: MarketData
) -> None:
    # in two minutes other processes took all but 20 of 200 GB; Ray would tell what was free when it started
    free = iter([200e9, 20e9])
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=next(free)))
    monkeypatch.setattr(memory, "CONTROL_GROUPS", [(tmp_path, *group[1:]) for group in memory.CONTROL_GROUPS])
    settings = {"algo": "dqn", "training.buffer_capacity": 10**9}
    config = load_run_config(None, settings)
    require_memory(config, tiny_market)
    with pytest.raises(ConfigError, match=r"need about 148 GB, while this machine has 20 GB free now\."):
        require_memory(config, tiny_market)


@pytest.mark.parametrize(
    ("version", "limit", "free"),
    [(2, "8000000000", 6e9), (2, "max", 90e9), (1, "8000000000", 6e9), (1, "9" * 18, 90e9)],
)
def test_the_limit_of_a_container_counts_and_what_it_uses_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, limit: str, free: float
) -> None:
    # 5 GB are used, 3 of them by files that the kernel caches: of a limit of 8 GB, 8 - (5 - 3) = 6 are free
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    prefix = "" if version == 2 else "total_"
    for name, text in zip(names, (limit, "5000000000"), strict=True):
        (tmp_path / name).write_text(f"{text}\n")
    cached = f"{prefix}inactive_file 2000000000\n{prefix}active_file 1000000000\n"
    (tmp_path / "memory.stat").write_text(f"anon 7\n{cached}")
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=90e9))
    monkeypatch.setattr(memory, "CONTROL_GROUPS", [(tmp_path, *group[1:]) for group in memory.CONTROL_GROUPS])
    assert memory.free_bytes() == free


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.rollout_steps", 10**8),
        ("resources.num_envs_per_env_runner", 10**7),
        ("network.hidden_sizes", [8192] * 16),
    ],
)
def test_each_setting_that_asks_for_much_memory_is_named(setting: str, value: Any, tiny_market: MarketData) -> None:
    with pytest.raises(ConfigError, match=rf"Lower .*{setting}"):
        require_memory(load_run_config(None, {setting: value}), tiny_market, have=23e9)


def test_the_runs_of_the_documents_fit_into_a_small_machine(tiny_market: MarketData) -> None:
    for path in sorted(Path("tune_configs").glob("*.yaml")):
        require_memory(load_run_config(path, {}), tiny_market, have=1e9)


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, setting = name.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[setting] = deepcopy(value)
    return values


def fault(folder: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any]) -> str | None:
    """Return what `train.py` did wrong with the settings; None if it trained or refused them correctly."""
    run_dir, config = folder / "run", folder / "config.yaml"
    config.write_text(yaml.safe_dump(nested(settings)))
    capsys.readouterr()
    try:
        exit_code = cli.train(["--config", str(config), "--output-dir", str(run_dir), "--quiet"])
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    told = capsys.readouterr().err
    if exit_code == 0:
        (newest,) = (run_dir / "checkpoints").glob("step_*64")
        assert json.loads((newest / "progress.json").read_text())["steps"] == STEPS_PER_ITERATION
        shutil.rmtree(run_dir)
        return None
    if exit_code != 2 or told.count("\n") != 1 or not told.startswith("error: "):
        return f"exit code {exit_code}: {told[:300]}"
    left = sorted(path.name for path in folder.rglob("*") if path != config)
    shutil.rmtree(run_dir, ignore_errors=True)
    return f"left behind: {left}" if left else None


def cases(algo: str, section: str, market: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Settings that differ from the tiny run's in one bad or extreme value, and which."""
    schedule = {"schedule.total_timesteps": STEPS_PER_ITERATION, "schedule.evaluation_interval": STEPS_PER_ITERATION}
    small = {"algo": algo, **SMALL[algo], **market, **schedule}
    usual = load_run_config(None, small)
    found = []
    for name, extremes in fields_of(RUN_CONFIGS[algo]):
        if name.split(".")[0] != section:
            continue
        for value in (*FEW, *extremes):
            settings = {**small, name: value}
            with suppress(ConfigError):
                config = load_run_config(None, settings)
                if config == usual or config.schedule.total_timesteps != STEPS_PER_ITERATION:
                    continue  # it changes nothing, or trains for another time than one iteration
            found.append((f"{name}: {value!r}", settings))
    return found


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("algo", "section"),
    [
        *(("ppo", section) for section in ("seed", "market", *SECTIONS)),
        *(("dqn", section) for section in ("network", "training")),  # the others are PPO's
    ],
)
def test_no_value_of_a_setting_ends_in_a_traceback_or_leaves_anything_behind(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    one_iteration: None,
    price_settings: dict[str, Any],
    algo: str,
    section: str,
) -> None:
    found = cases(algo, section, price_settings if section == "market" else COIN)
    assert len(found) > 5
    assert {told: wrong for told, each in found if (wrong := fault(tmp_path, capsys, each)) is not None} == {}
