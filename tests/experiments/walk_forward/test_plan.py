from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rllib_portfolio.config import RunConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.progress import RunOutcome
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import Run, WalkForwardPlan, plan_walk_forward
from rllib_portfolio.experiments.walk_forward.record import RECORD, read_record, start_analysis
from tests.tiny_runs import tiny_apg_config, tiny_config, tiny_dqn_config

TWO = FoldLengths(num_folds=2)


@pytest.fixture
def plan(price_settings: dict[str, Any]) -> WalkForwardPlan:
    configs = [tiny_config(price_settings, {"seed": 5}), tiny_dqn_config(price_settings)]
    return plan_walk_forward(configs, 2, TWO)


def test_a_plan_has_a_run_for_each_algorithm_fold_and_seed_and_early_folds_come_first(plan: WalkForwardPlan) -> None:
    assert plan.runs == tuple(Run(algo, fold, seed) for fold in (0, 1) for algo in ("ppo", "dqn") for seed in (5, 6))
    assert Run("dqn", 1, 6).folder(Path("/out")) == Path("/out/dqn/fold-1/seed-6")


def test_a_run_is_configured_with_its_seed_and_the_windows_of_its_fold(plan: WalkForwardPlan) -> None:
    config = plan.run_config(Run("dqn", 1, 6))
    assert (config.algo, config.seed) == ("dqn", 6)
    assert config.market.test == plan.fold_dates[1]["test"]
    assert config.training == plan.configs["dqn"].training
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_each_fold_fits_its_scaler_on_its_own_training_window(plan: WalkForwardPlan) -> None:
    first, second = plan.load_fold(0), plan.load_fold(1)
    for fold, market in enumerate((first, second)):
        assert tuple(market.windows[name] for name in ("train", "validation", "test")) == plan.folds[fold]
        assert market.fitted["fit_window"][1] == plan.fold_dates[fold]["train"][1]
    assert first.fitted["scaler"] != second.fitted["scaler"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"market.cash_rate": 0.05}, "market.cash_rate must be the same for all algorithms, got 0.02 for ppo and 0.05"),
        ({"environment.cost_bps": 25.0}, "environment.cost_bps must be the same for all algorithms, got 10.0 for ppo"),
    ],
)
def test_algorithms_of_other_markets_or_costs_are_no_table(
    price_settings: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_walk_forward([tiny_config(price_settings), tiny_dqn_config(price_settings, settings)], 2, TWO)


def test_a_prepared_market_and_no_seed_are_refused(price_settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"market.data must be a table of prices, got market.npz"):
        plan_walk_forward([tiny_config({"market.data": "market.npz"})], 2, TWO)
    with pytest.raises(ConfigError, match="seeds must be at least 1, got 0"):
        plan_walk_forward([tiny_config(price_settings)], 0, TWO)
    with pytest.raises(ConfigError, match="algorithms must be at least one, each named once, got ppo, ppo"):
        plan_walk_forward([tiny_config(price_settings)] * 2, 1, TWO)


# ---------------------------------------------------------------- seeds that are trained as one program


def test_the_seeds_of_a_fold_are_one_run_of_an_algorithm_that_stacks_them(price_settings: dict[str, Any]) -> None:
    plan = plan_walk_forward([tiny_config(price_settings, {"seed": 5}), tiny_apg_config(price_settings)], 3, TWO)
    assert [str(run) for run in plan.runs if run.fold == 1] == [
        *(f"ppo fold 1 seed {seed}" for seed in (5, 6, 7)),
        "apg fold 1 seeds 5 to 7",
    ]
    run = Run("apg", 1, 5, 3)
    assert run.folder(Path("/out")) == Path("/out/apg/fold-1/seeds-5-7")
    assert (
        RunOutcome(run, "finished").to_json().items() >= {"algo": "apg", "fold": 1, "seed": 5, "num_seeds": 3}.items()
    )
    assert "num_seeds" not in RunOutcome(Run("ppo", 1, 5), "finished").to_json()
    config = plan.run_config(run)
    assert (config.seed, config.resources.num_stacked_seeds, list(config.seeds)) == (5, 3, list(run.seeds))
    assert config.market.test == plan.fold_dates[1]["test"]
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    assert WalkForwardPlan.from_json(plan.to_json()).runs == plan.runs


def test_seeds_that_cannot_be_stacked_are_runs_of_their_own(price_settings: dict[str, Any]) -> None:
    walkers = tiny_apg_config(price_settings, {"training.starts": "env_runners"})
    assert [run.num_seeds for run in plan_walk_forward([walkers], 2, TWO).runs] == [1] * 4
    (first, second) = plan_walk_forward([tiny_apg_config(price_settings)], 1, TWO).runs
    assert (first.name, second.name) == ("apg/fold-0/seed-0", "apg/fold-1/seed-0")


def test_the_number_of_stacked_seeds_is_that_of_the_analysis(price_settings: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"resources\.num_stacked_seeds must be 1, got 4 \(walk-forward, apg\)\. Leave it out"
    ):
        plan_walk_forward([tiny_apg_config(price_settings, {"resources.num_stacked_seeds": 4})], 4, TWO)
    with pytest.raises(ConfigError, match=r"num_stacked_seeds: input should be less than or equal to 1024, got 1025"):
        plan_walk_forward([tiny_apg_config(price_settings)], 1025, TWO)


def test_nothing_is_added_to_seeds_that_are_trained_together(price_settings: dict[str, Any], tmp_path: Path) -> None:
    def start(num_seeds: int, make: Callable[..., RunConfig] = tiny_apg_config, first_seed: int = 0) -> WalkForwardPlan:
        config = make(price_settings, {"seed": first_seed})
        return start_analysis(plan_walk_forward([config], num_seeds, TWO), tmp_path)

    start(2)
    before = (tmp_path / RECORD).read_bytes()
    for make in (tiny_apg_config, tiny_config):
        with pytest.raises(ConfigError) as refused:
            start(3, make)
        assert str(refused.value) == (
            "seeds of apg must stay 0 to 1, which are trained as one program, got 0 to 2 (walk-forward). Leave them as "
            "they were, or choose another --output-dir."
        )
        assert (tmp_path / RECORD).read_bytes() == before
    assert start(2).runs == (Run("apg", 0, 0, 2), Run("apg", 1, 0, 2))
    plan = start(1, tiny_config, first_seed=3)  # all algorithms have all seeds; those after a gap are another run
    assert [run for run in plan.runs if run.fold == 1] == [
        Run("apg", 1, 0, 2),
        Run("apg", 1, 3),
        *(Run("ppo", 1, seed) for seed in (0, 1, 3)),
    ]


# ---------------------------------------------------------------- the folder


def test_an_analysis_records_its_plan_and_the_software(plan: WalkForwardPlan, tmp_path: Path) -> None:
    assert start_analysis(plan, tmp_path / "out", "the command") == plan
    record = read_record(tmp_path / "out")
    assert WalkForwardPlan.from_json(record["plan"]) == plan
    assert record["command"] == "the command"
    assert record["versions"]["ray"]
    assert [fold["dates"]["test"] for fold in record["plan"]["folds"]] == [
        list(dates["test"]) for dates in plan.fold_dates
    ]


def test_seeds_and_algorithms_may_be_added(price_settings: dict[str, Any], tmp_path: Path) -> None:
    ppo, dqn = tiny_config(price_settings), tiny_dqn_config(price_settings)
    start_analysis(plan_walk_forward([ppo], 2, TWO), tmp_path)
    merged = start_analysis(plan_walk_forward([dqn], 3, TWO), tmp_path)
    assert list(merged.configs) == ["ppo", "dqn"]
    assert merged.seeds == (0, 1, 2)
    assert WalkForwardPlan.from_json(read_record(tmp_path)["plan"]) == merged


@pytest.fixture
def moved(price_settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The same prices in another checkout."""
    path = tmp_path / "elsewhere.csv"
    path.write_bytes(Path(price_settings["market.data"]).read_bytes())
    return {**price_settings, "market.data": str(path)}


def test_tables_may_move(plan: WalkForwardPlan, moved: dict[str, Any], tmp_path: Path) -> None:
    start_analysis(plan, tmp_path / "out")
    merged = start_analysis(plan_walk_forward([tiny_config(moved, {"seed": 5})], 3, TWO), tmp_path / "out")
    assert merged.seeds == (5, 6, 7)
    assert {config.market.data for config in merged.configs.values()} == {moved["market.data"]}  # of DQN, too
    assert merged == WalkForwardPlan.from_json(read_record(tmp_path / "out")["plan"])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda table: 2.0 * table, "data_hash"),
        (lambda table: table.assign(index=table["index"] ** 2), "index_and_cash_hash"),
    ],
)
def test_tables_that_moved_hold_the_same_prices_and_index(
    plan: WalkForwardPlan, moved: dict[str, Any], tmp_path: Path, change: Callable[..., pd.DataFrame], name: str
) -> None:
    change(pd.read_csv(moved["market.data"], index_col=0)).to_csv(moved["market.data"])
    start_analysis(plan, tmp_path / "out")
    with pytest.raises(ConfigError, match=f"{name} must be that of the analysis in"):
        start_analysis(plan_walk_forward([tiny_config(moved, {"seed": 5})], 3, TWO), tmp_path / "out")
    with pytest.raises(ConfigError, match=f"planned on, got {name} "):
        plan.with_tables(moved["market.data"], None).load_fold(0)
    with pytest.raises(ConfigError, match=r"index_path must be null, as when the folds were planned, got index\.csv"):
        plan.with_tables(None, "index.csv")


def test_a_simulated_market_is_the_same_in_all_its_settings(tmp_path: Path) -> None:
    def planned(**settings: Any) -> WalkForwardPlan:
        market = {"market.data": {"source": "gbm", "num_days": 600, **settings}}
        return plan_walk_forward([tiny_config(market)], 2, TWO)

    start_analysis(planned(), tmp_path)
    with pytest.raises(ConfigError, match=r"ppo settings market\.data\.cash_rate must be that of .*, None, got 0\.05"):
        start_analysis(planned(cash_rate=0.05), tmp_path)


@pytest.mark.parametrize(
    ("settings", "lengths", "message"),
    [
        (
            {"training.gamma": 0.5},
            TWO,
            r"ppo settings training.gamma must be that of the analysis in .*, 0.99, got 0.5",
        ),
        (
            {"schedule.total_timesteps": 64},
            TWO,
            "ppo settings schedule.total_timesteps must be that of .*, 640, got 64",
        ),
        ({}, FoldLengths(num_folds=3), "folds must be that of the analysis in"),
        ({}, FoldLengths(num_folds=2, is_expanding=False), r"folds\[1\].rows.train\[0\] must be that of the analysis"),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused(
    price_settings: dict[str, Any],
    tmp_path: Path,
    settings: dict[str, Any],
    lengths: FoldLengths,
    message: str,
) -> None:
    start_analysis(plan_walk_forward([tiny_config(price_settings)], 2, TWO), tmp_path)
    before = (tmp_path / RECORD).read_bytes()
    other = plan_walk_forward([tiny_config(price_settings, settings)], 2, lengths)
    with pytest.raises(ConfigError, match=message):
        start_analysis(other, tmp_path)
    assert (tmp_path / RECORD).read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(plan: WalkForwardPlan, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="output directory must be new, empty or that of a walk-forward analysis"):
        start_analysis(plan, tmp_path)
    with pytest.raises(ConfigError, match=r"walk-forward folder must have a readable walk_forward\.json"):
        read_record(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output directory must be writable"):
        start_analysis(plan, tmp_path / "file" / "out")
