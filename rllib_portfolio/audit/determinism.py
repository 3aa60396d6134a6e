"""The same seed twice gives the same bits; the scalar and the vector environment are one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.audit.certificate import Counterexample
from rllib_portfolio.audit.differences import (
    changed_entry,
    differences,
    feature_cells,
    first_difference,
    value_text,
)
from rllib_portfolio.audit.specimen import Specimen
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config.user_values import import_function
from rllib_portfolio.env.portfolio_env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.market import CASH, prepare_market

NUM_ENVS = 3
NUM_STEPS = 300
WALK_DAYS = 252


class _Answer(NamedTuple):
    """What an environment said: a reset pays 0."""

    observation: NDArray[Any]
    reward: float
    truncated: bool
    info: dict[str, Any]


def require_deterministic_custom_features(specimen: Specimen) -> None:
    """The user's own features twice, from the same prices.

    Raises:
        Counterexample: Names the feature, the day and both values.
    """
    table = specimen.table
    if table is None:
        return
    for name in specimen.custom_features:
        function = import_function(name, "features.custom")
        values = function(table.prices.copy())
        columns = [f"feature {name} of {asset}" for asset in getattr(values, "columns", [])] or [f"feature {name}"]
        again = feature_cells(function(table.prices.copy()))
        difference = first_difference(name, columns, table.dates, feature_cells(values), again)
        if difference is not None:
            raise Counterexample(f"{difference} when it is computed again from the same prices.")


def require_deterministic(specimen: Specimen) -> str:
    """The market twice, the environments twice and against each other, and the strategies' walks twice.

    Returns:
        What was covered, as a sentence.

    Raises:
        Counterexample: The first thing that was another one, with both values.
    """
    market = specimen.market
    _require_same_market(specimen)
    _require_same_episodes(specimen)
    window = market.windows.get("test", market.windows["all"])
    window = (window[0], min(window[1], window[0] + WALK_DAYS))
    names = _require_same_walks(specimen, window)
    prepared = "the market prepared twice; " if specimen.table is not None else ""
    if specimen.trained_on is not None:
        prepared += "the run's market.npz the same; "
    return (
        f"{prepared}{NUM_STEPS} steps of {NUM_ENVS} seeds twice, the scalar environment against the vector one: "
        f"observations, rewards, ends and infos; the walks of {names} twice over {market.dates[window[0]]} to "
        f"{market.dates[window[1] - 1]}"
    )


def _require_same_market(specimen: Specimen) -> None:
    trained_on = specimen.trained_on
    if trained_on is not None:
        found = differences(trained_on, specimen.market, trained_on.num_days)
        if found:
            raise Counterexample(f"{found[0]} in the run's own market and when it is prepared again from its prices.")
    if specimen.table is None:
        return
    again = prepare_market(specimen.table, specimen.market_config, specimen.fitted)
    found = differences(specimen.market, again, specimen.market.num_days)
    entry = changed_entry(specimen.market.fitted, again.fitted)
    if found or entry:
        raise Counterexample(f"{found[0] if found else entry} when the market is prepared again from the same prices.")


def _require_same_episodes(specimen: Specimen) -> None:
    settings = specimen.environment.model_dump()
    window = "train" if "train" in specimen.market.windows else "all"
    vector = PortfolioVectorEnv(NUM_ENVS, specimen.market, window, **settings)
    space = vector.action_space
    space.seed(specimen.seed)
    actions = [space.sample() for _ in range(NUM_STEPS)]
    of_vector = _vector_answers(vector, actions, specimen.seed)
    again = _vector_answers(PortfolioVectorEnv(NUM_ENVS, specimen.market, window, **settings), actions, specimen.seed)
    for index in range(NUM_ENVS):
        seed = specimen.seed + index
        of_this = [action[index] for action in actions]
        of_scalar = _answers(PortfolioEnv(specimen.market, window, **settings), of_this, seed)
        names = vector.observation_names
        _require_same_answers(of_vector[index], again[index], f"by the same environment with seed {seed} twice", names)
        _require_same_answers(of_vector[index], of_scalar, f"by vector and scalar environment with seed {seed}", names)


def _require_same_walks(specimen: Specimen, window: tuple[int, int]) -> str:
    market = specimen.market
    strategies = [EqualWeight(), *([] if specimen.policy is None else [specimen.policy])]
    walks = [backtest(market, window, strategies, specimen.environment) for _ in range(2)]
    dates = market.dates[window[0] - 1 : window[1] - 1]
    for one, other in zip(*walks, strict=True):
        columns = [f"the weight of {asset} by {one.name}" for asset in (*market.assets, CASH)]
        difference = first_difference(one.name, columns, dates, one.weights, other.weights)
        if difference is not None:
            raise Counterexample(f"{difference} when the same window is walked again.")
    return " and ".join(strategy.name for strategy in strategies)


def _answers(env: PortfolioEnv, actions: Sequence[Any], seed: int) -> list[_Answer]:
    """A scalar environment; the step after an end resets, ignores its action and pays 0."""
    observation, info = env.reset(seed=seed)
    answers = [_Answer(observation, 0.0, False, info)]
    for action in actions:
        if answers[-1].truncated:
            observation, info = env.reset()
            answers.append(_Answer(observation, 0.0, False, info))
        else:
            observation, reward, _, truncated, info = env.step(action)
            answers.append(_Answer(observation, reward, truncated, info))
    return answers


def _vector_answers(env: PortfolioVectorEnv, actions: Sequence[NDArray[Any]], seed: int) -> list[list[_Answer]]:
    """What each environment of a vector said."""
    observation, info = env.reset(seed=seed)
    nothing = np.zeros(env.num_envs)
    steps = [(observation, nothing, nothing > 0, info)]
    for action in actions:
        observation, reward, _, truncated, info = env.step(action)
        steps.append((observation, reward, truncated, info))
    return [
        [
            _Answer(
                observation[i],
                float(reward[i]),
                bool(truncated[i]),
                {name: values[i] for name, values in info.items() if not name.startswith("_")},
            )
            for observation, reward, truncated, info in steps
        ]
        for i in range(env.num_envs)
    ]


def _require_same_answers(ours: Sequence[_Answer], others: Sequence[_Answer], how: str, names: Sequence[str]) -> None:
    for step, (one, other) in enumerate(zip(ours, others, strict=True)):
        where = f"at step {step} ({one.info['date']}), {how}"
        differs = one.observation != other.observation
        if differs.any():
            index = int(np.argmax(differs))
            pair = f"{value_text(one.observation[index])}, and {value_text(other.observation[index])}"
            raise Counterexample(f"observation {names[index]} is {pair} {where}.")
        for name in ("reward", "truncated"):
            if getattr(one, name) != getattr(other, name):
                pair = f"{value_text(getattr(one, name))}, and {value_text(getattr(other, name))}"
                raise Counterexample(f"{name} is {pair} {where}.")
        for name, value in one.info.items():
            if not np.array_equal(value, other.info[name]):
                raise Counterexample(f"info {name} is {value}, and {other.info[name]} {where}.")
