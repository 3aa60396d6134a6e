"""Can every corner be held, and does every trade pay? Asked of the environment itself, with arithmetic of its own."""

from __future__ import annotations

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.audit.certificate import Counterexample
from rllib_portfolio.audit.specimen import Specimen
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import EnvironmentConfig, ExecutionConfig
from rllib_portfolio.env.action_map import ActionTable
from rllib_portfolio.env.limits import constrained_weights
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.market import CASH, MarketData, Window

CORNER_TOLERANCE = 1e-3
WEALTH_TOLERANCE = 1e-9
FALLBACK_COST_BPS = 10.0
"""Charged where the configured cost is 0, so that there is something to double."""
COST_DAYS = 252
ROUNDING = 1e-9
"""As a share of the reward and of the cost: what differs by less is the same."""


def require_reachable_corners(simulation: Simulation) -> str:
    """Each asset, and cash, can be all that is held: to within 1e-3, or as near as the limits allow.

    Args:
        simulation: Of N + 1 portfolios; it is reset.

    Returns:
        What was covered, as a sentence.

    Raises:
        Counterexample: Names the asset, and the weight that the environment gave it.
    """
    if isinstance(simulation.action_map, ActionTable):
        return _require_whole_table(simulation, simulation.action_map)
    corners = np.eye(simulation.market.num_assets + 1)
    _reset(simulation)
    wanted = constrained_weights(corners, simulation.info()["drifted_weights"], simulation.config)
    simulation.step((2.0 * corners - 1.0).astype(np.float32))
    held = simulation.info()["weights"]
    for i, name in enumerate((*simulation.market.assets, CASH)):
        if np.abs(held[i] - wanted[i]).max() > CORNER_TOLERANCE:
            raise Counterexample(
                f"the action that asks for {name} alone holds {held[i, i]:.6g} of it instead of {wanted[i, i]:.6g}: "
                "that corner cannot be reached."
            )
    return f"{len(corners)} corners, the farthest missed by {np.abs(held - wanted).max():.1e}{_limited(wanted)}"


def require_costs(specimen: Specimen) -> str:
    """Doubling the cost lowers wealth by what the weights say, and lowers every reward that can be compared.

    Returns:
        What was covered, as a sentence.

    Raises:
        Counterexample: Names the day or the strategy, with what was to be paid and what was.
    """
    market = specimen.market
    configured = specimen.environment.cost_bps
    cost = configured if np.max(configured) > 0.0 else FALLBACK_COST_BPS
    doubled = tuple(2.0 * one for one in cost) if isinstance(cost, tuple) else 2.0 * cost
    settings = [specimen.environment.model_copy(update={"cost_bps": bps}) for bps in (cost, doubled)]
    window = _window(market)
    num_steps = _require_paying_environment(market, window, settings, specimen.seed)
    names = _require_paying_backtest(market, window, settings, specimen)
    shown = f"{np.mean(cost):g} and {np.mean(doubled):g} bp" + (" on average" if isinstance(cost, tuple) else "")
    return (
        f"wealth at {shown} differs by the cost of the weights held, to within {WEALTH_TOLERANCE:g}: {num_steps} "
        f"random steps of the environment, its reward {specimen.environment.reward}, and {names} over "
        f"{market.dates[window[0]]} to {market.dates[window[1] - 1]}"
    )


def _require_whole_table(simulation: Simulation, table: ActionTable) -> str:
    """Every action of a discrete table does what it is called; which corners are among them is told."""
    slots = simulation.market.num_assets + 1
    largest, is_limited = np.zeros(slots), False
    for first in range(0, table.num_actions, slots):
        actions = np.minimum(np.arange(first, first + slots), table.num_actions - 1)
        _reset(simulation)
        drifted = simulation.info()["drifted_weights"]
        row = int(np.searchsorted(simulation.market.dates, simulation.info()["date"][0]))
        volatility = simulation.market.volatility[[row - simulation.config.execution_lag] * slots]
        target = table.target(actions, drifted, volatility)
        wanted = constrained_weights(target, drifted, simulation.config)
        is_limited |= not np.array_equal(target, wanted)
        simulation.step(actions)
        held = simulation.info()["weights"]
        worst = int(np.abs(held - wanted).max(-1).argmax())
        if np.abs(held - wanted).max() > CORNER_TOLERANCE:
            raise Counterexample(
                f"action {table.names[actions[worst]]!r} holds {held[worst].round(4).tolist()} instead of "
                f"{wanted[worst].round(4).tolist()}."
            )
        largest = np.maximum(largest, held.max(0))
    names = np.array((*simulation.market.assets, CASH))
    is_corner = largest >= 1.0 - CORNER_TOLERANCE
    there = f"corners in the table: {', '.join(names[is_corner]) or 'none'}"
    if not is_corner.all():
        there += (
            f"; at most {largest[~is_corner].max():.4g} of any other ({', '.join(names[~is_corner][:3])}"
            f"{', ...' if (~is_corner).sum() > 3 else ''})"
        )
    limited = "; the constraint (max_weight, max_turnover or min_cash) limits some of them" if is_limited else ""
    return f"{table.num_actions} actions hold what they say{limited}; {there}"


def _limited(wanted: FloatArray) -> str:
    """Which limit keeps a corner from being held whole, as the end of a sentence."""
    reached = np.diag(wanted)
    if (reached >= 1.0 - CORNER_TOLERANCE).all():
        return ""
    lowest = int(np.argmin(reached))
    return (
        f"; limited by the constraint (max_weight, max_turnover or min_cash): at most {reached[lowest]:.4g} of corner "
        f"{lowest + 1} in one trade out of cash"
    )


def _require_paying_environment(
    market: MarketData, window: Window, settings: list[EnvironmentConfig], seed: int
) -> int:
    """The same random actions at both costs: wealth apart by the closed form, first rewards apart at all."""
    one, other = (
        Simulation(market, window, config.model_copy(update={"episode_days": None}), 1, random_start=False)
        for config in settings
    )
    space = one.action_space
    space.seed(seed)
    for simulation in (one, other):
        simulation.reset(np.array([0]), [np.random.default_rng(seed)])
    drifted = one.info()["drifted_weights"]
    is_over, step, factor = False, 0, 1.0
    while not is_over:
        row = int(np.searchsorted(market.dates, one.info()["date"][0]))
        action = np.asarray(space.sample())[None]
        (reward,), (is_over,) = one.step(action)
        (dearer_reward,), _ = other.step(action)
        held = one.info()["weights"]
        move = np.abs(held - drifted)[0, :-1]
        cheap, dear = (_cost(move, config, market.volatility[row]) for config in settings)
        factor *= (1.0 - dear) / (1.0 - cheap)
        ratio = float(other.info()["wealth"][0] / one.info()["wealth"][0])
        where = f"after the decision at {market.dates[row]}"
        if abs(ratio / factor - 1.0) > WEALTH_TOLERANCE:
            raise Counterexample(
                f"wealth at twice the cost is {ratio:.9g} of that at the configured cost {where}; the trades cost "
                f"{factor:.9g}."
            )
        is_lower = reward - dearer_reward > ROUNDING * (abs(reward) + dear - cheap)
        if step == 0 and dear > cheap and not is_lower:
            raise Counterexample(
                f"the reward {settings[0].reward} is {reward:.9g} at a cost of {cheap:.3g} and {dearer_reward:.9g} at "
                f"{dear:.3g} {where}, which traded {move.sum():.3g} of wealth: costs are not inside it."
            )
        drifted, step = one.info()["drifted_weights"], step + 1
    return step


def _require_paying_backtest(
    market: MarketData, window: Window, settings: list[EnvironmentConfig], specimen: Specimen
) -> str:
    strategies = [EqualWeight(), *([] if specimen.policy is None else [specimen.policy])]
    walks = [backtest(market, window, strategies, config) for config in settings]
    start, stop = window
    returns = np.column_stack([market.returns, market.cash_returns])[start:stop]
    for one, other in zip(*walks, strict=True):
        drifted = np.vstack([np.eye(market.num_assets + 1)[-1], one.weights[:-1] * (1.0 + returns[:-1])])
        drifted /= drifted.sum(-1, keepdims=True)
        moves = np.abs(one.weights - drifted)[:, :-1]
        sigma = market.volatility[start - 1 : stop - 1]
        cheap, dear = (
            np.array([_cost(move, config, s) for move, s in zip(moves, sigma, strict=True)]) for config in settings
        )
        expected, found = float(np.prod((1.0 - dear) / (1.0 - cheap))), float(other.wealth[-1] / one.wealth[-1])
        if abs(found / expected - 1.0) > WEALTH_TOLERANCE:
            raise Counterexample(
                f"{one.name} ends with {found:.9g} of its wealth at twice the cost; its trades cost {expected:.9g}."
            )
    return " and ".join(strategy.name for strategy in strategies)


def _cost(move: FloatArray, config: ExecutionConfig, volatility: FloatArray) -> float:
    """The cost of one trade, sum cost_i |dw_i| + k sum sigma_i |dw_i|^1.5, from |dw| [N]."""
    rates = 1e-4 * np.broadcast_to(np.asarray(config.cost_bps, dtype=np.float64), move.shape)
    return float((rates * move).sum() + config.impact * (volatility * move**1.5).sum())


def _reset(simulation: Simulation) -> None:
    everyone = np.arange(simulation.num_portfolios)
    simulation.reset(everyone, [np.random.default_rng(0)] * simulation.num_portfolios)


def _window(market: MarketData) -> Window:
    """The first days of training; of the whole market, where there is no training window."""
    start, stop = market.windows.get("train", market.windows["all"])
    return start, min(stop, start + COST_DAYS)
