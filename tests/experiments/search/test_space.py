"""Tests of search spaces: the committed ones, and the errors for those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from rllib_portfolio.cli.settings import default_config
from rllib_portfolio.config import RUN_CONFIGS, RunConfig
from rllib_portfolio.config.files import SEARCH, load_run_config, read_yaml, with_overrides
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.search.space import SearchSpace

DQN_FLOATS = {
    "training.gamma": FloatDistribution(0.95, 0.999),
    "training.per_alpha": FloatDistribution(0.4, 0.8),
}
SPACES: dict[str, dict[str, BaseDistribution]] = {
    "ppo": {
        "training.learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
        "training.gamma": FloatDistribution(0.95, 0.999),
        "training.gae_lambda": FloatDistribution(0.0, 0.99),
        "training.clip": FloatDistribution(0.1, 0.4),
        "training.value_coefficient": FloatDistribution(0.3, 0.7),
        "training.entropy_coefficient": FloatDistribution(0.0, 0.1),
        "training.weight_decay": FloatDistribution(1.0, 300.0, log=True),
        "network.hidden_sizes": CategoricalDistribution(["[128, 128]", "[256, 256]", "[512, 256]", "[256, 256, 128]"]),
    },
    "dqn": {
        "training.learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
        **DQN_FLOATS,
        "training.buffer_capacity": CategoricalDistribution([50_000, 100_000, 200_000]),
        "training.batch_size": CategoricalDistribution([8, 16, 32, 64]),
        "training.target_update_interval": IntDistribution(500, 2000),
        "network.hidden_sizes": CategoricalDistribution(["[128, 64]", "[256, 128]", "[256, 256]", "[512, 256]"]),
    },
    "apg": {
        "training.learning_rate": FloatDistribution(1e-4, 3e-3, log=True),
        "training.horizon_days": CategoricalDistribution([63, 126, 252]),
        "training.weight_decay": FloatDistribution(1.0, 100.0, log=True),
        "training.feature_dropout": FloatDistribution(0.0, 0.5),
        "network.hidden_sizes": CategoricalDistribution(["[64, 64]", "[128, 128]", "[256, 256]"]),
    },
}


def parsed(values: object, algo: str = "ppo") -> SearchSpace:
    return SearchSpace.parse(values, load_run_config(None, {"algo": algo}), "space.yaml")


def refusal(values: object, algo: str = "ppo") -> str:
    with pytest.raises(ConfigError) as raised:
        parsed(values, algo)
    assert "space.yaml" in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- the committed files


def committed(algo: str) -> tuple[RunConfig, SearchSpace]:
    path = default_config(algo)
    config = load_run_config(path, {})
    return config, SearchSpace.parse(read_yaml(path)[SEARCH], config, str(path))


@pytest.mark.parametrize("algo", sorted(RUN_CONFIGS))
def test_the_committed_search_space_is_the_one_that_was_asked_for(algo: str) -> None:
    _, space = committed(algo)
    assert space.distributions() == SPACES[algo]


@pytest.mark.parametrize("path", sorted(default_config("ppo").parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_committed_search_may_find_the_settings_that_stand_beside_its_space(path: Path) -> None:
    config = load_run_config(path, {})
    for name, distribution in SearchSpace.parse(read_yaml(path)[SEARCH], config, str(path)).distributions().items():
        group, _, field = name.partition(".")
        value = config.discount if name == "training.gamma" else getattr(getattr(config, group), field)
        if isinstance(value, tuple):
            value = str(list(value))
        assert distribution._contains(distribution.to_internal_repr(value)), name


@pytest.mark.parametrize("algo", sorted(RUN_CONFIGS))
def test_sampled_settings_make_a_configuration_with_lists_as_lists(algo: str) -> None:
    config, space = committed(algo)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        params = study.ask(fixed_distributions=space.distributions()).params
        overrides = space.overrides(params)
        trial_config = with_overrides(config, overrides, "trial")
        seen.add(trial_config.network.hidden_sizes)
        assert list(trial_config.network.hidden_sizes) == overrides["network.hidden_sizes"]
        assert trial_config.training.learning_rate == params["training.learning_rate"]
    assert {str(list(sizes)) for sizes in seen} == set(SPACES[algo]["network.hidden_sizes"].choices)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- dimensions


def test_a_range_is_of_whole_numbers_if_both_ends_are() -> None:
    space = parsed(
        {"training.num_epochs": {"low": 1, "high": 9}, "training.minibatch_size": {"low": 8, "high": 64, "log": True}}
    )
    assert space.distributions() == {
        "training.num_epochs": IntDistribution(1, 9),
        "training.minibatch_size": IntDistribution(8, 64, log=True),
    }
    assert parsed({"training.clip": {"low": 0.1, "high": 1}}).distributions() == {
        "training.clip": FloatDistribution(0.1, 1)
    }


def test_choices_of_any_kind_come_back_as_they_were() -> None:
    choices = {
        "training.learning_rate_end": [None, 0.0, 1e-5],
        "training.use_kl_loss": [False, True],
        "environment.reward": ["log_return", "mean_variance"],
        "network.hidden_sizes": [[16, 16], [16, 16, 16]],
    }
    space = parsed({name: {"choices": values} for name, values in choices.items()})
    study = optuna.create_study()
    for place in range(2):
        study.enqueue_trial({name: space.distributions()[name].choices[place] for name in choices})  # type: ignore[attr-defined]
        params = study.ask(fixed_distributions=space.distributions()).params
        assert space.overrides(params) == {name: values[place] for name, values in choices.items()}


# ---------------------------------------------------------------- what is no dimension


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("market.cash_rate", "all trials must be judged on the same prices, dates and features"),
        ("market.validation", "all trials must be judged on the same prices, dates and features"),
        ("market.assets", "all trials must be judged on the same prices, dates and features"),
        ("market", "all trials must be judged on the same prices, dates and features"),
        ("environment.cost_bps", "costs and limits of trading belong to the market, not to the agent"),
        ("environment.execution_lag", "costs and limits of trading belong to the market, not to the agent"),
        ("environment.max_turnover", "costs and limits of trading belong to the market, not to the agent"),
        ("environment.action_mode", "costs and limits of trading belong to the market, not to the agent"),
        ("schedule.total_timesteps", "all trials must have the same length and evaluations"),
        ("resources.num_env_runners", "resources do not change the policy of a trial"),
        ("seed", "the best seed would be luck"),
        ("algo", "each algorithm has a search of its own"),
    ],
)
@pytest.mark.parametrize("algo", sorted(RUN_CONFIGS))
def test_what_policies_are_judged_by_is_refused_with_the_reason(algo: str, name: str, reason: str) -> None:
    text = refusal({name: {"choices": [1, 2]}}, algo)
    assert text.startswith(f"search must not contain {name}: {reason}")


@pytest.mark.parametrize("section", ["environment", "training", "network"])
def test_a_whole_section_is_refused_since_it_would_bring_costs_along(section: str) -> None:
    text = refusal({section: {"choices": [{"cost_bps": 0.0}, {"cost_bps": 10.0}]}})
    assert text.startswith(f"search must not contain {section}: it must name one setting of a section")


@pytest.mark.parametrize(
    ("name", "dimension", "message"),
    [
        ("training.gama", {"low": 0.9, "high": 0.99}, "training.gama is not a known setting"),
        ("training.batch_size", {"low": 8, "high": 64}, "training.batch_size is not a known setting"),  # DQN's
        ("training.gamma", {"low": 0.9, "high": 1.5}, "training.gamma: input should be less than or equal to 1"),
        (
            "training.clip",
            {"low": 0.0, "high": 0.4},
            "training.clip: input should be greater than or equal to 0.000000000001",
        ),
        ("training.num_epochs", {"low": 1.5, "high": 4}, "training.num_epochs: input should be a valid integer"),
        ("training.num_epochs", {"low": 1.0, "high": 4.0}, "training.num_epochs: input should be a valid integer"),
        ("network.hidden_sizes", {"choices": [[16, 16], [16]]}, "network.hidden_sizes: tuple should have at least 2"),
        ("environment.reward", {"choices": ["log_return", 3]}, "environment.reward: input should be a valid string"),
        ("training.gamma", {"low": 0.99, "high": 0.9}, "low must be below high, got 0.99 and 0.9"),
        ("training.gamma", {"low": 0.9, "high": 0.9}, "low must be below high, got 0.9 and 0.9"),
        ("training.entropy_coefficient", {"low": 0, "high": 0.1, "log": True}, "low must be positive on a log scale"),
        ("training.clip", {"low": -0.1, "high": 0.1, "log": True}, "low must be positive on a log scale, got -0.1"),
        ("training.gamma", {"choices": [0.9]}, "choices: tuple should have at least 2 items"),
        ("training.gamma", {"low": 0.9}, "high: field required"),
        ("training.gamma", {"low": 0.9, "high": 0.99, "step": 0.01}, "step is not a known setting"),
        ("training.gamma", [0.9, 0.99], "search.training.gamma must be {low, high} or {choices}, got [0.9, 0.99]"),
    ],
)
def test_a_dimension_that_the_model_does_not_agree_with(name: str, dimension: Any, message: str) -> None:
    assert message in refusal({name: dimension})


@pytest.mark.parametrize("values", [None, {}, ["training.gamma"]])
def test_a_file_without_a_search_section(values: object) -> None:
    assert refusal(values).startswith("search must map settings to {low, high} or {choices}, got ")
