"""Every file in tune_configs/ is complete, says what the code says, and builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from rllib_portfolio.config import RUN_CONFIGS
from rllib_portfolio.config.files import SEARCH, load_run_config, read_yaml
from rllib_portfolio.market import MarketData

FOLDER = Path(__file__).parents[1] / "tune_configs"
FILES = sorted(FOLDER.glob("*.yaml"))


def missing_settings(model: BaseModel, values: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the model's fields that `values` does not have."""
    missing = []
    for name in type(model).model_fields:
        field = getattr(model, name)
        if name not in values:
            missing.append(prefix + name)
        elif isinstance(field, BaseModel):
            missing += missing_settings(field, values[name], f"{prefix}{name}.")
    return missing


def test_there_is_a_file_for_every_algorithm() -> None:
    assert {path.stem for path in FILES} >= set(RUN_CONFIGS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_names_every_setting_of_every_section(path: Path) -> None:
    config = load_run_config(path, {})
    assert missing_settings(config, yaml.safe_load(path.read_text())) == []


CHOSEN_FOR_STOCKS = {
    "ppo": {
        "environment.rebalance_days",
        "environment.reward",
        "network.initial_cash_logit",
        "training.learning_rate",
        "training.weight_decay",
        "schedule.total_timesteps",
        "schedule.checkpoint_interval",
        "schedule.evaluation_interval",
        "schedule.early_stopping_evaluations",
    },
    "dqn": set(),
    "apg": {
        "environment.rebalance_days",
        "environment.reward",
        "network.initial_cash_logit",
        "training.learning_rate",
        "training.horizon_days",
        "training.weight_decay",
        "schedule.total_timesteps",
        "schedule.checkpoint_interval",
        "schedule.evaluation_interval",
        "schedule.early_stopping_evaluations",
    },
}
"""Settings that were chosen on stocks before 2000; the models have those of the markets with a known optimum."""


def differing_settings(one: BaseModel, other: BaseModel, prefix: str = "") -> set[str]:
    """Dotted names of the settings that two models of the same class do not agree on."""
    differing = set()
    for name in type(one).model_fields:
        value, another = getattr(one, name), getattr(other, name)
        if isinstance(value, BaseModel):
            differing |= differing_settings(value, another, f"{prefix}{name}.")
        elif value != another:
            differing.add(prefix + name)
    return differing


@pytest.mark.parametrize("algo", RUN_CONFIGS)
def test_the_file_of_an_algorithm_says_the_defaults_of_the_models_but_what_was_chosen_for_stocks(algo: str) -> None:
    config = load_run_config(FOLDER / f"{algo}.yaml", {})
    assert config.algo == algo
    assert differing_settings(config, RUN_CONFIGS[algo]()) == CHOSEN_FOR_STOCKS[algo]


def test_both_files_for_the_bundled_universe_month_by_month_go_into_one_table() -> None:
    from rllib_portfolio.experiments.walk_forward.plan import _require_comparable

    _require_comparable([load_run_config(FOLDER / f"{name}.yaml", {}) for name in ("ppo_per_asset", "dqn_monthly")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_builds_an_rllib_configuration_and_is_not_changed_by_it(
    path: Path, tiny_market: MarketData, tmp_path: Path
) -> None:
    from rllib_portfolio.algorithms.registry import ALGORITHMS

    config = load_run_config(path, {})
    before = config.model_dump_json()
    tiny_market.save(tmp_path / "market.npz")
    built = ALGORITHMS[config.algo].algorithm_config(config, tmp_path / "market.npz")
    built.validate()
    assert config.model_dump_json() == before
    assert built.lr is not None
    assert built.env_config["cost_bps"] == config.environment.cost_bps


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_search_space_of_a_file_is_of_settings_that_it_has(path: Path) -> None:
    from rllib_portfolio.experiments.search.space import SearchSpace

    space = SearchSpace.parse(read_yaml(path)[SEARCH], load_run_config(path, {}), str(path))
    assert len(space.dimensions) >= 3
