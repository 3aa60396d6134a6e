"""Checks of a portfolio environment, like Gymnasium's `check_env`: each raises an error if a guarantee is violated.

The checks read prices and weights from the environment, but compute the expected results themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env.limits import constrained_weights
from rllib_portfolio.env.portfolio_env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.market import CASH

NUM_ENVS = 3
NUM_STEPS = 300
COST_DAYS = 252
CORNER_TOLERANCE = 1e-3
WEALTH_TOLERANCE = 1e-9
FALLBACK_COST_BPS = 10.0
"""Transaction cost that is doubled if the configured cost is 0."""
ROUNDING = 1e-9
"""Tolerance for rewards, as a share of the reward and of the additional cost; smaller differences count as none."""

Answers = dict[str, NDArray[Any]]
"""Observations, rewards, truncations and infos of one step, by name, each with leading axis B."""


class Counterexample(Exception):  # noqa: N818
    """The violation that a check found; the message says what is wrong and where, with the values."""


def check_env(env: PortfolioEnv, seed: int = 0) -> tuple[str, ...]:
    """Check that an environment is reproducible, reaches every corner, and charges transaction costs.

    Args:
        env: The environment to check; its own episode does not change.
        seed: Seed of the episodes and of the random actions.

    Returns:
        One sentence for each check that says what it covered.

    Raises:
        Counterexample: If a guarantee is violated; describes the first violation.
    """
    return require_repeatable(env, seed), require_reachable_corners(env), require_costs(env, seed)


def require_repeatable(env: PortfolioEnv, seed: int = 0) -> str:
    """Check that a seed gives bit-identical results twice, and that vector and scalar environments agree.

    Args:
        env: The environment to check; new environments with its settings are compared.
        seed: Seed of the episodes and of the random actions.

    Returns:
        A sentence that says what was covered.

    Raises:
        Counterexample: If results differ; gives both values of the first difference.
    """
    simulation, dates = env.simulation, env.simulation.market.dates
    window = (str(dates[simulation.window[0]]), str(dates[simulation.window[1] - 1]))
    settings = simulation.config.model_dump() | {"random_start": simulation.random_start}
    vector, again = (PortfolioVectorEnv(NUM_ENVS, simulation.market, window, **settings) for _ in range(2))
    scalar = SyncVectorEnv([lambda: type(env)(simulation.market, window, **settings)] * NUM_ENVS)
    vector.action_space.seed(seed)
    actions = [vector.action_space.sample() for _ in range(NUM_STEPS)]
    answers, names = _answers(vector, actions, seed), vector.observation_names
    _require_same(answers, _answers(again, actions, seed), "the same environment with seed {} twice", seed, names)
    _require_same(answers, _answers(scalar, actions, seed), "vector and scalar environment with seed {}", seed, names)
    return (
        f"{NUM_STEPS} steps of {NUM_ENVS} seeds twice, the scalar environment against the vector one: "
        "observations, rewards, ends and infos"
    )


def require_reachable_corners(env: PortfolioEnv) -> str:
    """Check that each asset, and cash, can be held alone to within 1e-3, or as closely as the limits allow.

    In a discrete environment, check instead that every action gives its target weights.

    Returns:
        A sentence that says what was covered, with the corners that a discrete environment reaches.

    Raises:
        Counterexample: If weights differ; names the asset or the action, with the actual and the expected weights.
    """
    simulation = copy(env.simulation)
    simulation.random_start = False
    market, action_map = simulation.market, simulation.action_map
    is_table = isinstance(simulation.action_space, spaces.Discrete)
    target: FloatArray = np.eye(market.num_assets + 1)
    names = np.array(action_map.names if is_table else (*market.assets, CASH))
    if not is_table:
        can_be_held = _can_be_held(simulation)
        target, names = target[can_be_held], names[can_be_held]
    actions = np.arange(len(names)) if is_table else _corner_actions(target, len(action_map.names))
    state = simulation.fresh([np.random.default_rng(0)] * len(actions))
    if is_table:
        target = action_map.target(actions, state.weights, simulation.action_inputs(state))
    day = simulation.terms.trading_day(state.row)
    wanted = constrained_weights(target, state.weights, simulation.config, day)
    _, _, outcome = simulation.step(state, actions)
    held, missed = outcome.weights, np.abs(outcome.weights - wanted).max(-1)
    for i in np.flatnonzero(missed > CORNER_TOLERANCE):
        name = names[i]
        if is_table:
            pair = f"{held[i].round(4).tolist()} instead of {wanted[i].round(4).tolist()}"
            raise Counterexample(f"action {name!r} holds {pair}.")
        raise Counterexample(
            f"the action that asks for {name} alone holds {held[i] @ target[i]:.6g} of it instead of "
            f"{wanted[i] @ target[i]:.6g}, so the portfolio of this asset alone cannot be reached."
        )
    if not is_table:
        errors = f"their weights are off by at most {missed.max():.1e}"
        return f"{len(actions)} portfolios of one asset or cash; {errors}{_limited(wanted, target, list(names))}"
    is_limited = not np.array_equal(target, wanted)
    limited = ", within max_weight, max_turnover and min_cash" if is_limited else ""
    reached = _reached(held.max(0), np.array((*market.assets, CASH)))
    return f"{len(actions)} actions give the weights of the table{limited}; portfolios of one asset or cash: {reached}"


def require_costs(env: PortfolioEnv, seed: int = 0) -> str:
    """Check with random actions that a doubled cost lowers wealth by the expected amount, and lowers the first reward.

    Args:
        env: The environment to check; new simulations with its settings are compared.
        seed: Seed of the random actions.

    Returns:
        A sentence that says what was covered.

    Raises:
        Counterexample: If wealth or reward does not fall as expected; names the day, with the values.
    """
    # The expected cost is that of one rate for all assets, so that costs of single assets and of exits are left out.
    market = replace(env.simulation.market, cost_bps=None)
    config = env.simulation.config.model_copy(update={"exit_cost_bps": 0.0, "fund_size": None})
    start, stop = env.simulation.window
    window = start, min(stop, start + COST_DAYS)
    cost = config.cost_bps if np.max(config.cost_bps) > 0.0 else FALLBACK_COST_BPS
    doubled = tuple(2.0 * one for one in cost) if isinstance(cost, tuple) else 2.0 * cost
    cheap, dear = (
        Simulation(market, window, config.model_copy(update={"cost_bps": bps, "episode_days": None}), False)
        for bps in (cost, doubled)
    )
    num_steps = _require_paid(cheap, dear, seed)
    shown = f"{np.mean(cost):g} and {np.mean(doubled):g} bp" + (" on average" if isinstance(cost, tuple) else "")
    return (
        f"wealth at {shown} differs by the cost of the weights held, to within {WEALTH_TOLERANCE:g}: {num_steps} "
        f"random steps of the environment and its reward {config.reward} over {market.dates[window[0]]} to "
        f"{market.dates[window[1] - 1]}"
    )


def value_text(value: Any) -> str:
    """Return a number as text, with enough digits to identify the floating-point value."""
    if isinstance(value, np.float32):
        return f"{value:.9g}"
    return f"{value:.17g}" if isinstance(value, float) else str(value)


def _answers(env: VectorEnv[Any, Any, Any], actions: Sequence[NDArray[Any]], seed: int) -> list[Answers]:
    """Return the results of a vector environment at a reset (with reward 0 and no truncation) and at each step."""
    observation, info = env.reset(seed=seed)
    steps = [(observation, np.zeros(NUM_ENVS), None, np.zeros(NUM_ENVS, dtype=np.bool_), info)]
    steps += [env.step(action) for action in actions]
    return [
        {
            "observation": observation,
            "reward": reward,
            "truncated": truncated,
            **{f"info {name}": values for name, values in info.items() if not name.startswith("_")},
        }
        for observation, reward, _, truncated, info in steps
    ]


def _require_same(
    ours: Sequence[Answers], others: Sequence[Answers], whose: str, seed: int, names: Sequence[str]
) -> None:
    for step, (one, other) in enumerate(zip(ours, others, strict=True)):
        for name in one:
            mine, theirs = (answers[name].reshape(NUM_ENVS, -1) for answers in (one, other))
            if np.array_equal(mine, theirs):
                continue
            index, column = (int(where[0]) for where in np.nonzero(mine != theirs))
            what = f"observation {names[column]}" if name == "observation" else name
            raise Counterexample(
                f"{what} is {value_text(mine[index, column])}, and {value_text(theirs[index, column])} at step {step} "
                f"({one['info date'][index]}), by {whose.format(seed + index)}."
            )


def _corner_actions(target: FloatArray, num_components: int) -> FloatArray:
    """Return the actions that ask for portfolios of one asset, traded at once if actions have a trading rate."""
    actions = np.ones((len(target), num_components), dtype=np.float32)
    actions[:, : target.shape[1]] = 2.0 * target - 1.0
    return actions


def _can_be_held(simulation: Simulation) -> NDArray[np.bool_]:
    """Return whether each asset, and cash, can be bought alone at the first decision, [N+1]."""
    market, row = simulation.market, simulation.first_decision
    if market.universe is None:
        return np.ones(market.num_assets + 1, dtype=np.bool_)
    tradable = market.universe.tradable
    return np.append(tradable[row] & tradable[row - simulation.config.execution_lag], True)


def _limited(wanted: FloatArray, target: FloatArray, names: Sequence[str]) -> str:
    """Return the end of a sentence on limits that keep a corner from being held alone; empty if none does."""
    reached = (wanted * target).sum(-1)
    if (reached >= 1.0 - CORNER_TOLERANCE).all():
        return ""
    lowest = int(np.argmin(reached))
    return (
        f"; max_weight, max_turnover and min_cash allow at most {reached[lowest]:.4g} of {names[lowest]} in one trade "
        "out of cash"
    )


def _reached(largest: FloatArray, names: NDArray[np.str_]) -> str:
    """Return text on the corners that some action of a table holds, and on the largest weight of any other asset."""
    is_corner = largest >= 1.0 - CORNER_TOLERANCE
    corners = ", ".join(names[is_corner]) or "none"
    if is_corner.all():
        return corners
    others = ", ".join(names[~is_corner][:3]) + (", ..." if (~is_corner).sum() > 3 else "")
    return f"{corners}; at most {largest[~is_corner].max():.4g} of any other ({others})"


def _require_paid(cheap: Simulation, dear: Simulation, seed: int) -> int:
    """Compare wealth and first reward under the same random actions at both costs; return the number of steps."""
    market, space, factor = cheap.market, cheap.action_space, 1.0
    space.seed(seed)
    one, other = (simulation.fresh([np.random.default_rng(seed)]) for simulation in (cheap, dear))
    while not one.is_over[0]:
        action = np.asarray(space.sample())[None]
        before = one
        one, (reward,), outcome = cheap.step(one, action)
        other, (dearer_reward,), _ = dear.step(other, action)
        move, volatility = np.abs(outcome.weights - before.weights)[0, :-1], market.volatility[before.row[0]]
        paid, dearer = (_cost(move, simulation.config, volatility) for simulation in (cheap, dear))
        factor *= (1.0 - dearer) / (1.0 - paid)
        ratio = float(other.wealth[0] / one.wealth[0])
        where = f"after the decision at {market.dates[before.row[0]]}"
        if abs(ratio / factor - 1.0) > WEALTH_TOLERANCE:
            raise Counterexample(
                f"wealth at twice the cost is {ratio:.9g} of that at the configured cost {where}; the trades cost "
                f"{factor:.9g}."
            )
        is_lower = reward - dearer_reward > ROUNDING * (abs(reward) + dearer - paid)
        if before.steps[0] == 0 and dearer > paid and not is_lower:
            raise Counterexample(
                f"the reward {cheap.config.reward} is {reward:.9g} at a cost of {paid:.3g} and {dearer_reward:.9g} at "
                f"{dearer:.3g} {where}, which traded {move.sum():.3g} of wealth: costs are not deducted from it."
            )
    return int(one.steps[0])


def _cost(move: FloatArray, config: ExecutionConfig, volatility: FloatArray) -> float:
    """Return the cost of one trade, sum cost_i |dw_i| + k sum sigma_i |dw_i|^1.5, from |dw| [N]."""
    rates = 1e-4 * np.broadcast_to(np.asarray(config.cost_bps, dtype=np.float64), move.shape)
    return float((rates * move).sum() + config.impact * (volatility * move**1.5).sum())
