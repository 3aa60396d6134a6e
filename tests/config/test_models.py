"""Tests of the values that a configuration accepts and refuses, and of its error messages."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio.config import DQNRunConfig, PPORunConfig, RunConfig
from rllib_portfolio.config.files import load_run_config, parse_assignment
from rllib_portfolio.config.user_values import import_function
from rllib_portfolio.errors import ConfigError


def with_set(*assignments: str, path: Path | None = None) -> RunConfig:
    return load_run_config(path, dict(parse_assignment(text) for text in assignments))


def refusal(*assignments: str, path: Path | None = None) -> str:
    """The text of the error that the settings cause; it must be one line."""
    with pytest.raises(ConfigError) as raised:
        with_set(*assignments, path=path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def yaml_file(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "assignment",
    [
        "training.gamma=1.01",
        "training.gae_lambda=-0.01",
        "training.learning_rate=0",
        "training.entropy_coefficient=-1e-3",
        "network.hidden_sizes=[256]",
        "network.architecture=deep",
        "network.initial_cash_logit=11",
        "network.hidden_sizes=[256, 0]",
        "environment.cost_bps=-1",
        "environment.execution_lag=2",
        "environment.min_cash=1.1",
        "market.fill_days=-1",
        "market.observation_filter=future",
        "market.features.momentum_days=[21]",
        "market.features.volatility_days=[1]",
        "market.features.rsi_days=0",
        "market.features.num_hmm_regimes=9",
        "market.periods_per_year=0",
        "market.features.cross_section=both",
        "schedule.selection_metric=wealth",
        "resources.num_env_runners=-1",
        "resources.device=tpu",
        "seed=-1",
        "algo=alphago",
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_dotted_name(assignment: str) -> None:
    setting, _, value = assignment.partition("=")
    text = refusal(assignment)
    assert text.startswith(f"{setting}"), text
    assert "got " in text
    assert value.strip("[]").split(", ")[-1] in text or float(value) == pytest.approx(-1e-3)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "text", "null", "[1, 2]"])
def test_a_number_must_be_a_finite_number(value: str) -> None:
    assert refusal(f"training.gamma={value}").startswith("training.gamma: input should be ")


def test_true_stays_true_where_it_belongs() -> None:
    assert with_set("training.normalize_rewards=false").training.normalize_rewards is False
    assert with_set("environment.random_start=true").environment.random_start is True
    assert with_set("market.data={source: kelly, x: [true]}").market.data == {"source": "kelly", "x": [True]}


TWO_RUNNERS = ("resources.num_env_runners=2", "resources.num_envs_per_env_runner=4", "training.rollout_steps=64")
RATE = "market.cash_rate: an annual rate must be a fraction (divide per cent by 100), got "
NO_BOOLEAN = "a number must not be true or false, got [10, True, 20] (command line)"


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["environment.cost_bps=[10, true, 20]"], f"environment.cost_bps: {NO_BOOLEAN}"),
        (["network.hidden_sizes=[10, true, 20]"], f"network.hidden_sizes: {NO_BOOLEAN}"),
        (["market.features.rsi_days=[10, true, 20]"], f"market.features.rsi_days: {NO_BOOLEAN}"),
        (["market.cash_rate=2"], RATE),
        (["market.cash_rate=-1"], RATE),
        (["market.cash_rate=1.01"], RATE),
        (
            ["environment.cost_bps=[1, -1]"],
            "environment.cost_bps.1: input should be greater than or equal to 0, got -1",
        ),
        (["network.hidden_sizes=[16]"], "at least 2 items where architecture is flat"),
        (
            [*TWO_RUNNERS, "training.minibatch_size=513"],
            "training.minibatch_size must be at most the batch of 512 steps",
        ),
        (["algo=dqn", "training.clip=0.1"], "training.clip is not a known setting"),
        (["training.n_step=3"], "training.n_step is not a known setting"),
        (["algo=sac"], "algo must be one of ppo, dqn, apg, got 'sac' (command line). Correct the name."),
        (["environment.action_mode=discrete"], "environment.action_mode"),
        (["algo=dqn", "environment.action_mode=continuous"], "environment.action_mode"),
        (
            ["algo=dqn", "training.buffer_capacity=1000"],
            "training.buffer_capacity must exceed learning_starts, the batch and one fragment, 1000,",
        ),
        (["algo=dqn", "training.n_step=5"], "training.n_step must be at most training.rollout_steps, 4, got 5."),
        (
            ["resources.device=cpu", "resources.num_gpus_per_learner=1"],
            "num_gpus_per_learner must be null or 0 with device cpu, got 1.0",
        ),
        (
            ["algo=dqn", "training.batch_size=16", "resources.num_learners=3"],
            "training.batch_size must be a multiple of resources.num_learners, 3, got 16.",
        ),
        (
            ["algo=dqn", "environment.partial_trading=true"],
            "environment.partial_trading: input should be False, got True",
        ),
        (
            ["environment.partial_trading=true", "market.observation_filter=running"],
            "training.market_baseline must be false with environment.partial_trading and",
        ),
        # a step takes 0.01 * 100 = 1 off the weights: nothing would be left
        (
            ["training.learning_rate=0.01", "training.weight_decay=100"],
            "learning_rate * training.weight_decay must be below 1, got 1: each step",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(assignments: list[str], message: str) -> None:
    text = refusal(*assignments)
    assert message in text
    assert "constrained" not in text  # no names of types, only the user's
    assert "tuple[" not in text


def test_settings_that_just_fit_are_taken() -> None:
    assert with_set("network.architecture=per_asset", "network.hidden_sizes=[16]").network.hidden_sizes == (16,)
    assert with_set(*TWO_RUNNERS, "training.minibatch_size=512").resources.num_envs == 8
    assert with_set("resources.num_gpus_per_learner=1").resources.gpus_per_learner == 1.0
    assert with_set("resources.device=cuda").resources.gpus_per_learner == 1.0
    assert with_set("resources.device=cpu", "resources.num_gpus_per_learner=0").resources.gpus_per_learner == 0.0
    assert with_set("algo=dqn", "training.batch_size=16", "resources.num_learners=2").resources.num_learners == 2
    with_set("training.learning_rate=0.01", "training.weight_decay=99")


# ---------------------------------------------------------------- unknown keys and dotted names


@pytest.mark.parametrize(
    ("assignment", "unknown"),
    [
        ("training.gama=0.9", "training.gama"),
        ("trainig.gamma=0.9", "trainig"),
        ("market.features.sma_days=[5]", "market.features.sma_days"),
        ("environment.cost-bps=5", "environment.cost-bps"),
        ("training..gamma=0.9", "training."),
    ],
)
def test_an_unknown_setting_is_an_error_that_names_it(tmp_path: Path, assignment: str, unknown: str) -> None:
    assert refusal(assignment) == f"{unknown} is not a known setting (command line)"
    path = yaml_file(tmp_path, "training: {gama: 0.9}")
    assert refusal(path=path) == f"training.gama is not a known setting ({path})"


def test_a_name_that_goes_through_a_value_is_refused(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "market: {data: sp500}")
    assert refusal("market.data.source=kelly", path=path).startswith(
        "market.data.source must name a setting of a section, but data is a value."
    )


@pytest.mark.parametrize("text", ["1: 2", "training: {1: 2}"])
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, text: str) -> None:
    assert "1: keys should be strings" in refusal(path=yaml_file(tmp_path, text))


def test_dates_need_no_quotes(tmp_path: Path) -> None:
    text = "market:\n  train: [2001-01-01, 2010-12-31]\n  test: ['2016-01-01', 2022-12-31]\n"
    market = load_run_config(yaml_file(tmp_path, text), {"market.validation": [date(2012, 1, 1), "2015-12-31"]}).market
    assert market.train == ("2001-01-01", "2010-12-31")
    assert market.validation == ("2012-01-01", "2015-12-31")
    assert market.test == ("2016-01-01", "2022-12-31")


# ---------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("training.gamma=0.95", "training.gamma", 0.95),
        ("training.value_clip=null", "training.value_clip", None),
        ("network.hidden_sizes=[512, 256]", "network.hidden_sizes", [512, 256]),
        ("market.data={source: kelly, up: 0.1}", "market.data", {"source": "kelly", "up": 0.1}),
        ("market.data=a=b.csv", "market.data", "a=b.csv"),
        ("training.use_kl_loss=true", "training.use_kl_loss", True),
        ("seed = 7", "seed", 7),
        ("market.data=1e5.csv", "market.data", "1e5.csv"),  # a text that only looks like a number
        ("market.assets=[E4, e4]", "market.assets", ["E4", "e4"]),
    ],
)
def test_set_reads_a_dotted_name_and_a_yaml_value(text: str, setting: str, value: object) -> None:
    assert parse_assignment(text) == (setting, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.gamma", r"--set must read section.setting=value, got .*--set training.gamma=0.95"),
        ("=0.95", r"--set must read section.setting=value, got .*--set training.gamma=0.95"),
        ("", r"--set must read section.setting=value, got .*--set training.gamma=0.95"),
        ("network.hidden_sizes=[1, 2", r"--set must give a YAML value, got '\[1, 2' \(network.hidden_sizes\)"),
    ],
)
def test_set_that_is_no_assignment_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_assignment(text)


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    text = "[2016-01-01, 2016-02-30]"
    assert refusal(f"market.test={text}") == (
        f"--set must give a YAML value, got {text!r} (market.test: day is out of range for month). Correct it."
    )
    path = yaml_file(tmp_path, f"market: {{test: {text}}}")
    assert refusal(path=path) == (
        f"config must be a YAML file, got {path} (day is out of range for month). Correct the file."
    )


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("2E5", 2e5), ("+1e3", 1e3), ("3e+2", 3e2), ("1.5e-2", 0.015)]
)
def test_scientific_notation_without_a_point_is_a_number(tmp_path: Path, text: str, value: float) -> None:
    # PyYAML follows YAML 1.1, in which 1e-4 is the text "1e-4"
    number = parse_assignment(f"training.learning_rate={text}")[1]
    assert isinstance(number, float)
    assert number == value
    from_file = load_run_config(yaml_file(tmp_path, f"market: {{data: {{source: kelly, up: {text}}}}}"), {})
    assert from_file.market.data == {"source": "kelly", "up": value}


# ---------------------------------------------------------------- precedence and files


def test_set_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "training: {gamma: 0.5, clip: 0.3}")
    config = with_set("training.gamma=0.7", path=path)
    defaults = PPORunConfig()
    assert config.training.gamma == 0.7
    assert config.training.clip == 0.3 != defaults.training.clip
    assert config.training.num_epochs == defaults.training.num_epochs


def test_a_wrong_value_is_told_with_every_place_it_may_come_from(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "training: {gamma: 2}")
    assert refusal(path=path).endswith(f"({path})")
    assert refusal("seed=1", path=path).endswith(f"({path} and command line)")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("training: [", "config must be a YAML file, got "),
        ("- training", "config must map settings to values, got list "),
        ("", "config must map settings to values, got NoneType "),
        ("\x00", "config must be a YAML file, got "),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    message = refusal(path=yaml_file(tmp_path, text))
    assert message.startswith(complaint)
    assert "run.yaml" in message
    assert refusal(path=tmp_path / "missing.yaml").startswith("config must be a readable file, got ")


def test_the_algorithm_decides_what_network_and_training_hold() -> None:
    config = with_set("algo=dqn", "training.batch_size=32", "network.hidden_sizes=[128, 64]")
    assert isinstance(config, DQNRunConfig)
    assert config.training.batch_size == 32
    assert config.environment.action_mode == "discrete"
    assert config.resources.num_envs == 8
    assert config.schedule.evaluation_interval == 10_000


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_removed_setting_is_dropped_where_it_had_no_effect_and_refused_where_it_had(algo: str) -> None:
    assert with_set(f"algo={algo}", "resources.compile_update=false") == with_set(f"algo={algo}")
    message = refusal(f"algo={algo}", "resources.compile_update=true")
    assert "compile_update was removed, got True: torch.compile made PPO's update no faster." in message
    assert "nothing need replace it" in message


def test_a_run_configuration_cannot_be_changed() -> None:
    config = PPORunConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.training.gamma = 0.5  # type: ignore[misc]


def test_the_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    import yaml

    config = with_set("environment.cost_bps=[1, 2.5]", "training.learning_rate=1e-5", "market.data={source: kelly}")
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert load_run_config(yaml_file(tmp_path, text), {}) == config


# ---------------------------------------------------------------- functions of the user


def test_a_function_is_imported_by_module_and_name() -> None:
    assert import_function("math:sqrt", "environment.reward") is math.sqrt


@pytest.mark.parametrize(
    "reference", ["sharp", "math", "math:", ":sqrt", "math:no_such", "no_such_module:f", "math:pi"]
)
def test_a_function_that_cannot_be_imported_is_refused_with_the_known_names(reference: str) -> None:
    with pytest.raises(ConfigError) as raised:
        import_function(reference, "environment.reward", ["log_return", "mean_variance"])
    expected = "environment.reward must be one of log_return, mean_variance, or module:function, got "
    assert str(raised.value).startswith(f"{expected}{reference!r}")


FREE = {"cost_bps": 0.0}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (FREE, 0.0),  # what is held changes nothing that a later decision can earn
        (FREE | {"cost_bps": (0.0, 0.0)}, 0.0),
        (FREE | {"reward": "active_mean_variance", "rebalance_days": 21}, 0.0),
        ({}, 0.99),
        (FREE | {"cost_bps": (0.0, 5.0)}, 0.99),
        (FREE | {"impact": 0.1}, 0.99),
        (FREE | {"max_turnover": 0.5}, 0.99),
        (FREE | {"reward": "differential_sharpe"}, 0.99),
        (FREE | {"reward": "my_rewards:wealth"}, 0.99),
        ({"rebalance_days": 21}, 0.99**21),
    ],
)
def test_the_discount_of_dqn_follows_from_what_trading_costs_and_that_of_ppo_is_set(
    environment: dict[str, Any], expected: float
) -> None:
    assert DQNRunConfig(environment=environment).discount == pytest.approx(expected)
    assert DQNRunConfig(environment=environment, training={"gamma": 0.8}).discount == 0.8
    assert PPORunConfig(environment=environment, training={"gamma": 0.95}).discount == 0.95
