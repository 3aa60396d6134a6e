"""Studies made by hand: what a search leaves in its database, without a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

PPO_SPACE: dict[str, BaseDistribution] = {
    "training.learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
    "training.gamma": FloatDistribution(0.95, 0.999),
    "training.gae_lambda": FloatDistribution(0.0, 0.99),
    "training.clip": FloatDistribution(0.1, 0.4),
    "training.value_coefficient": FloatDistribution(0.3, 0.7),
    "training.entropy_coefficient": FloatDistribution(0.0, 0.1),
    "network.hidden_sizes": CategoricalDistribution(["[128, 128]", "[256, 256]", "[512, 256]", "[256, 256, 128]"]),
}
DQN_SPACE: dict[str, BaseDistribution] = {
    "training.learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
    "training.gamma": FloatDistribution(0.95, 0.999),
    "training.buffer_capacity": CategoricalDistribution([50_000, 100_000, 200_000]),
    "training.batch_size": CategoricalDistribution([8, 16, 32, 64]),
    "training.target_update_interval": IntDistribution(500, 2000),
    "training.per_alpha": FloatDistribution(0.4, 0.8),
    "network.hidden_sizes": CategoricalDistribution(["[128, 64]", "[256, 128]", "[256, 256]", "[512, 256]"]),
}


def study_of(trials: Sequence[FrozenTrial], algo: str = "ppo", folder: Path | None = None) -> optuna.Study:
    """A study with these trials, in memory or in `<folder>/<algo>_study.db`."""
    storage = None if folder is None else f"sqlite:///{folder / f'{algo}_study.db'}"
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=algo, storage=storage, direction="maximize")
    optuna.logging.set_verbosity(verbosity)
    study.add_trials(trials)
    return study


def trial_of(
    params: Mapping[str, Any],
    value: float | None,
    state: TrialState = TrialState.COMPLETE,
    space: Mapping[str, BaseDistribution] = PPO_SPACE,
    **user_attrs: Any,
) -> FrozenTrial:
    """One trial with settings out of `space`."""
    distributions = {name: space[name] for name in params}
    reported = {} if value is None else {5000: value - 0.25, 10_000: value}
    return create_trial(
        state=state,
        value=value,
        params=dict(params),
        distributions=distributions,
        user_attrs=user_attrs,
        intermediate_values=reported,
    )


def searched_study(
    num_trials: int = 40, space: Mapping[str, BaseDistribution] = PPO_SPACE, algo: str = "ppo"
) -> optuna.Study:
    """Return a study as after a search: most trials are pruned or finished, every 13th failed, the last interrupted.

    The Sharpe ratio peaks at a learning rate of 2e-4; later trials are a little better.
    """
    rng = np.random.default_rng(0)
    trials = []
    for number in range(num_trials):
        params = {name: _draw(distribution, rng) for name, distribution in space.items()}
        distance = abs(math.log10(params["training.learning_rate"] / 2e-4))
        sharpe = 0.9 - 0.8 * distance + 0.1 * rng.normal() + 0.004 * number
        if number % 13 == 12:
            trials.append(trial_of(params, None, TrialState.FAIL, space, error="ValueError: a loss must be finite"))
        elif number == num_trials - 1:
            trials.append(trial_of(params, None, TrialState.RUNNING, space, steps=10_000, training_s=4.0))
        elif sharpe < 0.5 and number > 5:
            trials.append(trial_of(params, sharpe, TrialState.PRUNED, space, steps=15_000, training_s=6.0))
        else:
            trials.append(trial_of(params, sharpe, TrialState.COMPLETE, space, steps=50_000, training_s=20.0))
    return study_of(trials, algo)


def _draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[rng.integers(len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        return int(rng.integers(distribution.low, distribution.high + 1))
    if distribution.log:
        return float(np.exp(rng.uniform(np.log(distribution.low), np.log(distribution.high))))
    return float(rng.uniform(distribution.low, distribution.high))
