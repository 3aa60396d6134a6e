"""The simulation of the environment on torch tensors, through which gradients flow.

Prices do not answer to a small portfolio, so that the rewards of a policy are a differentiable function of its weights.
The transition, the limits and the rewards are the functions of `env/`; only their inputs are tensors here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.algorithms.sampling.shared_market import take_market
from rllib_portfolio.env import kernel, transition
from rllib_portfolio.env.action_map import ActionInputs
from rllib_portfolio.env.limits import TradingDay
from rllib_portfolio.env.portfolio_env import PortfolioVectorEnv
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.env.transition import State, Terms
from rllib_portfolio.errors import ConfigError, one_line

MeanActions = Callable[[Tensor], Tensor]
"""Maps observations [S x B, D] to the mean actions [S x B, A] of S networks; A = N+1, or N+2 with a trading rate."""


class Rollout(NamedTuple):
    """The rewards of S x B portfolios over H decisions."""

    rewards: Tensor
    """[H, S, B]; 0 after the end of an episode. Gradients flow to the networks."""
    observations: Sequence[Tensor]
    """Observations before each decision and after the last one, H + 1 of shape [S x B, D]."""
    is_walking: Tensor
    """Whether the episode had not ended before each decision, bool [H, S, B]."""
    final: State
    """State after the last decision, with the leading axis S x B, without gradients."""


@dataclass(frozen=True, eq=False)
class DifferentiableSimulation:
    """A `Simulation` whose market, terms and states are tensors on one device.

    Attributes:
        simulation: The simulation in numpy, which draws the starts of episodes.
        terms: Its terms as tensors.
        features: Its features.
        tradable: Whether each asset may be bought at each close, bool [T, N]; None if all always may.
        dtype: Floating-point type of the accounting.
        device: The device.
    """

    simulation: Simulation
    terms: Terms
    features: ReferencedFeatures
    tradable: Tensor | None
    dtype: torch.dtype
    device: Any

    @classmethod
    def of(cls, env_config: Mapping[str, Any], device: Any, dtype: torch.dtype = torch.float32) -> Self:
        """Return the simulation of environments with the configuration `env_config`.

        Args:
            env_config: Arguments of `PortfolioVectorEnv`, with continuous actions.
            device: Where the tensors are.
            dtype: Floating-point type of the accounting.
        """
        take_market(env_config.get("data"))
        simulation = PortfolioVectorEnv(1, **env_config).simulation
        universe = simulation.market.universe
        return cls(
            simulation=simulation,
            terms=_on_device(simulation.terms, device, dtype),
            features=ReferencedFeatures(simulation.layout, device),
            tradable=None if universe is None else torch.tensor(universe.tradable, device=device),
            dtype=dtype,
            device=device,
        )

    def tensors(self, state: State) -> State:
        """Return a state of numpy arrays as tensors."""
        return State(*(_tensor(array, self.device, self.dtype) for array in state))

    def rollout(
        self,
        mean_actions: MeanActions,
        state: State,
        num_decisions: int,
        num_networks: int = 1,
        *,
        kept: Tensor | None = None,
        through_holdings: bool = True,
    ) -> Rollout:
        """Return the rewards of H decisions of S networks, each of which walks B portfolios.

        Args:
            mean_actions: The networks.
            state: State of the portfolios, tensors with the leading axis S x B.
            num_decisions: H.
            num_networks: S.
            kept: Factor on each feature, [S x B, D - N - 1]; None keeps all features.
            through_holdings: Whether gradients flow through the portfolio weights in the observations.
        """
        rewards, observations, rows = [], [], []
        for _ in range(num_decisions):
            observations.append(self._observe(state, kept, through_holdings))
            rows.append(state.row)
            weights = self._target(mean_actions(observations[-1]), state)
            following, outcome = transition.step(state, weights, self.terms)
            reward_state, reward = self.simulation.reward(state.reward_state, outcome)
            state = following._replace(reward_state=reward_state)
            rewards.append(reward)
        observations.append(self._observe(state, kept, True))
        is_walking = torch.stack(rows) < state.end
        final = State(*(values.detach() for values in state))
        by_network = (num_networks, -1)
        earned = (torch.stack(rewards) * is_walking).unflatten(1, by_network)
        return Rollout(earned, observations, is_walking.unflatten(1, by_network), final)

    def require_differentiable_reward(self) -> None:
        """Raise a ConfigError unless the reward accepts tensors and gradients flow through it."""
        name = self.simulation.config.reward
        state = self.tensors(self.simulation.fresh([np.random.default_rng(0)]))
        shape = (1, *self.simulation.action_space.shape)
        actions = torch.zeros(shape, dtype=self.dtype, device=self.device, requires_grad=True)
        try:
            self.rollout(lambda observations: actions, state, 1).rewards.sum().backward()
            found = "" if actions.grad is not None else "no gradient"
        except (RuntimeError, TypeError, AttributeError) as error:
            found = one_line(error)
        if found:
            raise ConfigError(
                f"environment.reward must be differentiable and accept torch tensors for apg, got {found} ({name}). "
                "Use functions of rllib_portfolio.arrays.namespace(outcome.growth) in place of numpy's, or --algo ppo."
            )

    def _observe(self, state: State, kept: Tensor | None, through_holdings: bool) -> Tensor:
        """Return the observation of each portfolio, [S x B, D]."""
        lag = self.terms.execution.execution_lag
        features = self.features.rows(state.row - lag)
        known = kernel.known_weights(state.weights, state.held, lag)  # type: ignore[arg-type]
        seen: Any = known if through_holdings else known.detach()  # type: ignore[attr-defined]
        return torch.cat([features if kept is None else features * kept, seen.to(features.dtype)], dim=-1)

    def _target(self, actions: Tensor, state: State) -> Any:
        """Return the weights that the environment's action map gives for mean actions.

        The environment clips actions to [-1, 1]. The gradient ignores this, because it would be 0 beyond the bounds, so
        that an action could never come back.
        """
        constant = actions.detach()
        clipped = actions + (constant.clamp(-1.0, 1.0) - constant)
        lag = self.terms.execution.execution_lag
        tradable: Any = None if self.tradable is None else self.tradable[state.row - lag]
        inputs = ActionInputs(tradable=tradable, known=kernel.known_weights(state.weights, state.held, lag))
        decided: Any = clipped.to(self.dtype)
        return self.simulation.action_map.target(decided, state.weights, inputs)


def _on_device(terms: Terms, device: Any, dtype: torch.dtype) -> Terms:
    """Return the terms with tensors in place of all arrays."""
    values = {each.name: getattr(terms, each.name) for each in fields(terms)}
    arrays = {name: _tensor(each, device, dtype) for name, each in values.items() if isinstance(each, np.ndarray)}
    costs = kernel.CostModel(_tensor(terms.costs.rates, device, dtype), terms.costs.impact)
    day = terms.day and TradingDay(*(None if array is None else _tensor(array, device, dtype) for array in terms.day))
    return replace(terms, costs=costs, day=day, **arrays)


def _tensor(array: Any, device: Any, dtype: torch.dtype) -> Any:
    """Return a tensor; numbers with a fractional part get the type `dtype`."""
    is_floating = np.issubdtype(array.dtype, np.floating)
    return torch.tensor(array, dtype=dtype if is_floating else None, device=device)
