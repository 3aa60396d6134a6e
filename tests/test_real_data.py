"""The real-data study: what its variants may see, that they are what they say, and what its tables say."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.real_data import defaults, design, study, tables, variants, walks
from rllib_portfolio.config.files import load_run_config

FIRST_TEST_DAY = "2000-01-01"


def test_every_variant_is_a_configuration_of_its_own() -> None:
    configs = [
        load_run_config(design.CONFIGS[algo], settings).model_dump_json()
        for algo, settings in variants.VARIANTS.values()
    ]
    assert len(set(configs)) == len(variants.VARIANTS)


def test_the_settings_of_the_flat_network_were_chosen_on_days_before_2000_that_were_not_trained_on() -> None:
    for train, judged in defaults.FOLDS:
        first, second = sorted([train, judged])
        assert first[1] < second[0]
        assert second[1] < FIRST_TEST_DAY


def test_no_variant_is_judged_by_a_day_that_is_out_of_sample_or_that_it_was_trained_on() -> None:
    for train, judged in design.FOLDS.values():
        windows = sorted([train, design.BETWEEN, judged])
        assert windows[1] == design.BETWEEN
        assert all(before[1] < after[0] for before, after in pairwise(windows))
        assert windows[-1][1] < FIRST_TEST_DAY


@pytest.mark.ray
def test_a_variant_leaves_figures_and_daily_returns_of_days_before_2000(ray_session: None) -> None:
    record = design.judge("ppo", {"environment.rebalance_days": 63}, quick=True)
    assert (len(record["dates"]), max(record["dates"])) == (len(record["returns"]), "1999-12-31")
    assert record["settings"] == {"environment.rebalance_days": 63, "schedule.total_timesteps": design.QUICK_STEPS}
    # Four steps a year of a policy that has hardly left 1/N.
    assert record["pooled"]["tracking_error"] < 0.02
    assert 0.0 < record["pooled"]["turnover"] < 1.5
    assert {"ir", "sharpe", "equal_weight_sharpe"} <= record["pooled"].keys()
    assert [fold["judged"] for fold in record["folds"]] == list(design.FOLDS)


def test_the_walk_is_of_eight_folds_and_five_seeds_and_counts_the_trials() -> None:
    whole = " ".join(walks.command(walks.WALK, Path("results"), Path("runs/walk"), quick=False))
    assert whole == (
        "backtest.py walk-forward --algo ppo dqn "
        "--config tune_configs/ppo_per_asset.yaml tune_configs/dqn_monthly.yaml --folds 8 --seeds 5 "
        "--validation-years 1 --set resources.device=cpu --tuning results --output-dir runs/walk"
    )
    assert "--total-timesteps 4096" in " ".join(walks.command(walks.WALK, Path("r"), Path("o"), quick=True))


# ---------------------------------------------------------------- tables


def judged(ratio: float, settings: dict[str, Any], algo: str = "ppo") -> dict[str, Any]:
    dates = pd.bdate_range("1996-01-01", periods=4)
    fold = {"train_ir": 1.0, "ir": ratio}
    return {
        "algo": algo,
        "settings": settings,
        "folds": [{**fold, "judged": "late half"}, {**fold, "ir": -ratio, "judged": "early half"}],
        "pooled": {
            "ir": ratio, "tracking_error": 0.02, "sharpe": 1.0 + ratio, "equal_weight_sharpe": 1.0, "turnover": 1.5,
        },
        "dates": [str(day.date()) for day in dates],
        "returns": [0.01, -0.01, 0.02, ratio / 100.0],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two variants of PPO and one of DQN, and a walk of 500 days of either's ensemble and 1/N."""
    found = {
        "ppo": judged(0.5, {}),
        "ppo kappa 30": judged(0.1, {"environment.risk_aversion": 30.0}),
        "dqn": judged(0.9, {}, "dqn"),
    }
    for name, record in found.items():
        study.keep(tmp_path, name, record)
    study.run(tmp_path, quick=False, only=list(found))  # all there: nothing to do
    (tmp_path / walks.WALK).mkdir()
    row = {
        "annual_return": 0.12, "annual_volatility": 0.2, "sharpe_ratio": 0.6, "max_drawdown": 0.5,
        "turnover_per_year": 1.0, "cost_per_year": 0.002, "information_ratio": 0.5, "mean_p_value": 0.0149,
        "sharpe_difference": 0.03, "sharpe_p_value": 0.4, "sharpe_lower": 0.1, "sharpe_upper": 1.1, "verdict": "beats",
        "probabilistic_sharpe_ratio": 0.99, "confidence_set_p_value": 0.3,
    }  # fmt: skip
    results = {
        "first_day": "2000-01-03", "last_day": "2022-12-28", "subjects": ["PPO ensemble", "DQN ensemble"],
        "selection": None, "superior_ability": {
            "num_compared": 5, "p_value": 0.1, "p_value_lower": 0.1, "p_value_upper": 0.1,
        },
        "strategies": {
            "PPO ensemble": row, "PPO seed 0": {**row, "sharpe_ratio": 0.5}, "PPO seed 1": row,
            "DQN ensemble": row, "DQN seed 0": row, "constant mix of DQN ensemble": row,
            "1/N": {**row, "information_ratio": None, "mean_p_value": None},
        },
        "verdicts": {"PPO ensemble": {"sentence": "PPO beat 1/N."}},
    }  # fmt: skip
    (tmp_path / walks.WALK / "results.json").write_text(json.dumps(results))
    rng = np.random.default_rng(0)
    bar = rng.normal(0.0, 0.01, 500)
    returns = pd.DataFrame({"PPO ensemble": bar + rng.normal(0.0005, 0.001, 500), "DQN ensemble": bar, "1/N": bar})
    returns["DQN ensemble"] += np.tile([0.0011, -0.0009], 250)
    returns.index = pd.bdate_range("2000-01-03", periods=500)
    returns.to_parquet(tmp_path / walks.WALK / "daily_returns.parquet")
    return tmp_path


def test_a_variant_that_was_judged_is_not_judged_again_and_all_count_as_trials(folder: Path) -> None:
    # Sharpe ratios 1.5, 1.1 and 1.9: variance 0.16. Three variants, five trials of the prototype and 52 sketches.
    summary = json.loads((folder / study.SUMMARY).read_text())
    assert summary["num_trials"] == 60
    assert summary["sharpe_variance"] == pytest.approx(0.16)
    returns = pd.read_parquet(folder / study.TRIAL_RETURNS)
    assert list(returns.columns) == ["ppo", "ppo kappa 30", "dqn"]
    assert returns.index.max() < pd.Timestamp(FIRST_TEST_DAY)


def test_p_values_of_days_that_were_looked_at_three_times_are_three_times_as_large(folder: Path) -> None:
    # 3 * 0.0149 = 0.0447, which is above half of 5 %, so that Holm's first step rejects nothing; 3 * 0.4 is cut to 1.
    told = tables.walk(folder, walks.WALK)
    assert "| DQN ensemble | 12.0% | 20.0% | 0.60 | 50.0% | 1.00x | 0.20% | +0.50 | 0.045 | +0.03 | 1.000 | 3 |" in told
    assert "| +0.50 to +0.50 | 0.045 to 0.045 | +0.03 to +0.03 | 1.000 to 1.000 | 3 |" in told
    assert "p is times the looks, at most 1 (Bonferroni)." in told
    told = tables.significance(folder, walks.WALK)
    assert "| PPO ensemble | 0.60 | 0.10 to 1.10 | 1 | 0.015 | 0.400 |  |  |  | 0.300 | 0.990 | beats |" in told
    for name in ("DQN ensemble", "DQN seed 0", "constant mix of DQN ensemble"):
        row = (
            f"| {name} | 0.60 | 0.10 to 1.10 | 3 | 0.045 | 1.000 |  |  |  | 0.300 | 0.990 | no significant difference |"
        )
        assert row in told


def test_days_that_nothing_was_selected_on_are_judged_against_zero(folder: Path) -> None:
    # DQN's active returns are 0.0011 and -0.0009 by turns: mean 0.0001, deviation (ddof 1) 0.001 (500 / 499)^0.5, no
    # skew and a kurtosis of 1. A day's ratio is 0.0999 and its standard error 1 / 499^0.5 = 0.04477: z = 2.2316 and
    # PSR(0) = 0.9872. A year's ratio is 1.586, with 2.394 errors (95 % over three looks) of 0.7106 to each side. Three
    # times 0.0128 is 0.038.
    told = tables.verdicts(folder, walks.WALK)
    assert "DQN ensemble: information ratio +1.59, 95 % interval over 3 looks (Bonferroni) -0.12 to +3.29;" in told
    assert "PSR(0) = 0.987, which is one less the one-sided p-value 0.013 of a true ratio of at most 0," in told
    assert "looks (Bonferroni, at most 1): mean active return 0.045, Sharpe ratio 1.000, one-sided 0.038." in told
    assert "worthless" not in told
    assert "with probability" not in told


def test_a_chosen_variant_is_held_against_the_trials_of_its_algorithm(folder: Path) -> None:
    text = tables.deflated(folder)
    # PPO's two ratios, 0.5 and 0.1, have a variance of 0.08, and there are 57 trials more without a record:
    # 0.283 * (0.423 * 2.121 + 0.577 * 2.499) = 0.66. Four days, a day's ratios: (0.0315 - 0.0418) * 3^0.5 /
    # (1 + 0.0315^2 / 2)^0.5 = -0.018 (paper, eq. 2), Phi of it 0.493. DQN's ratio of 0.9 is no part of it; all three
    # have a variance of 0.16, and 60 trials 0.4 * (0.423 * 2.128 + 0.577 * 2.505) = 0.94: Phi(-0.048) = 0.481.
    assert (
        "ppo, on the days that it was chosen on, 1991 to 1999: information ratio 0.50, where the best of 59 worthless "
        "trials (2 variants of ppo, 57 trials without a record) is expected to show 0.66; deflated ratio 0.493. Were "
        "all 60 trials of both algorithms of one kind, it would be 0.481 (against 0.94)."
    ) in text
