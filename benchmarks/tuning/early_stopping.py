"""TPE with median stopping beside random search without stopping: what each finds, and in how many environment steps.

The market has two assets; an observable regime says which of them has the odds on its side (65 to 35). All in that one
is best, by growth and by Sharpe ratio; a mix that pays no heed to the regime earns nothing. So both tell good from bad.
The learning rate may be anything from 1e-6 to 1e-1; good ones are about a decade of the five.

A repetition has a market, a sampler and networks of its own seed, the same for both sides. What was found is judged by
the Sharpe ratio of its policy over fresh days, from the probabilities of their returns, as a share of the best; the
search itself went by that of its validation window, which luck has a part in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.learning.certificates import FREE_TRADING, Certificate, action_of
from benchmarks.learning.known_optima import regimes
from benchmarks.tuning.searching import searched, started_ray
from rllib_portfolio.config import PPORunConfig
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.runner import Place
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import STEPS, best_trials, open_storage, open_study, trial_name
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.runs.validation import best_policy

OURS, RANDOM = "TPE, median stopping", "random, no stopping"
SIDES = {OURS: {"search": "optuna", "scheduler": "median"}, RANDOM: {"search": "random", "scheduler": "none"}}
REPETITIONS = 5
NUM_TRIALS, MAX_STEPS = 20, 10_240
QUICK_TRIALS, QUICK_STEPS = 6, 2_560
NUM_DAYS = 2_500
"""Of which a fifth is for validation."""
MOVE, ODDS = 0.02, 0.65
SPACE = {
    "training.learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
    "training.clip": {"low": 0.1, "high": 0.4},
    "training.entropy_coefficient": {"low": 0.0, "high": 0.1},
}
AT_A_TIME = 2


def measure(repetitions: int, *, quick: bool) -> dict[str, Any]:
    """Both sides, `repetitions` times.

    Returns:
        For the JSON: settings, and for each repetition and side what was found, the steps, and all trials.
    """
    trials, steps = (QUICK_TRIALS, QUICK_STEPS) if quick else (NUM_TRIALS, MAX_STEPS)
    rows: list[dict[str, Any]] = []
    with started_ray(_record(0, OURS, trials, steps)):
        for repetition in range(repetitions):
            for side in SIDES:
                with tempfile.TemporaryDirectory() as folder:
                    row = _searched(_record(repetition, side, trials, steps), Path(folder) / "search")
                rows.append({"repetition": repetition, "side": side, **row})
                print(
                    f"repetition {repetition}, {side:<22}{row['steps']:>8,} steps, Sharpe {row['sharpe']:.3f}, true "
                    f"{row['share']:.1%} of the best, {row['pruned']} stopped, {row['wall_s']:.0f} s",
                    flush=True,
                )
    settings = _record(0, OURS, trials, steps).settings.model_dump(mode="json")
    return {
        "settings": settings,
        "space": SPACE,
        "market": {"move": MOVE, "odds": ODDS, "days": NUM_DAYS},
        "rows": rows,
    }


def _record(seed: int, side: str, num_trials: int, max_steps: int) -> SearchRecord:
    odds = [[ODDS, 1.0 - ODDS], [1.0 - ODDS, ODDS]]
    data = {"source": "regime", "up": MOVE, "down": MOVE, "probability": odds, "num_days": NUM_DAYS, "seed": seed}
    config = PPORunConfig(
        seed=seed,
        market={"data": data, "cash_rate": 0.0},
        environment={**FREE_TRADING, "episode_days": 64},
        network={"hidden_sizes": (32, 32)},
        training={"minibatch_size": 128},
        resources={"num_envs_per_env_runner": 16, "device": "cpu"},
    )
    values = {"num_samples": num_trials, "max_steps": max_steps, "seed": seed, **SIDES[side]}
    settings = validated(SearchSettings, values, "benchmark")
    return SearchRecord(settings, config, SearchSpace.parse(SPACE, config, "benchmark"))


def _searched(record: SearchRecord, output: Path) -> dict[str, Any]:
    session, clock = searched(record, output, Place(max_concurrent=AT_A_TIME))
    study = open_study(open_storage(record.storage_url(output)), record.config.algo)
    trials = study.get_trials(deepcopy=False)
    (best,) = best_trials(study, 1)
    policy = best_policy(record.task(output).folders.local(trial_name(best.number)), session.market)
    return {
        "sharpe": best.value,
        "share": sharpe_share(policy, regimes(MOVE, ODDS), record.settings.seed),
        "params": best.params,
        "steps": sum(int(trial.user_attrs[STEPS]) for trial in trials),
        "pruned": sum(trial.state.name == "PRUNED" for trial in trials),
        "wall_s": round(clock.wall_s, 1),
        "trials": [
            {
                "params": trial.params,
                "state": trial.state.name,
                "steps": int(trial.user_attrs[STEPS]),
                "values": {str(step): round(value, 4) for step, value in trial.intermediate_values.items()},
            }
            for trial in trials
        ],
    }


def sharpe_share(policy: PortfolioPolicy, certificate: Certificate, seed: int, num_envs: int = 32) -> float:
    """Sharpe ratio of a policy over a fresh year in each of `num_envs` environments, as a share of the best.

    A path only decides which states are visited: mean and variance come from the probabilities of what may follow. The
    best is all in the asset with the odds p on its side: (2 p - 1) / sqrt(1 - (2 p - 1)^2) a day, whatever the move.
    """
    env = PortfolioVectorEnv(num_envs, certificate.market(seed + 1000), "all", random_start=True, **FREE_TRADING)
    observations, _ = env.reset(seed=seed)
    moments = []
    for _ in range(251):  # the next step would begin new episodes
        weights = policy(observations)
        returns, probabilities = certificate.outcomes(weights, observations)
        moments.append([(returns**power * probabilities).sum(axis=1).mean() for power in (1, 2)])
        observations, *_ = env.step(action_of(weights))
    mean, square = np.mean(moments, axis=0)
    edge = 2.0 * ODDS - 1.0
    return float(mean / np.sqrt(square - mean**2) / (edge / np.sqrt(1.0 - edge**2)))


def comparison(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Ours against random search, for each repetition: differences of what was found, and the ratio of steps."""
    sides = {side: {row["repetition"]: row for row in rows if row["side"] == side} for side in SIDES}
    pairs = [(sides[OURS][repetition], sides[RANDOM][repetition]) for repetition in sorted(sides[OURS])]
    return [
        {
            "repetition": ours["repetition"],
            "share": ours["share"] - theirs["share"],
            "sharpe": ours["sharpe"] - theirs["sharpe"],
            "steps": ours["steps"] / theirs["steps"],
        }
        for ours, theirs in pairs
    ]


def medians(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the comparisons, over repetitions."""
    found = comparison(rows)
    return {name: median(row[name] for row in found) for name in ("share", "sharpe", "steps")}
