"""Conversion of episodes to one batch of tensors, with statistics over the batches of all learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from torch import Tensor

from rllib_portfolio.algorithms.learning.advantages import AdvantageScale, generalised_advantages
from rllib_portfolio.algorithms.learning.market_baseline import mean_of_others, without_market_noise
from rllib_portfolio.algorithms.sampling.seeded_env_runner import ASSET_RETURNS
from rllib_portfolio.errors import ConfigError

LARGEST_PASS = 2**23
"""Most numbers of observations in one forward pass over a batch, 32 MiB. Below it a batch is one pass, because the last
bits of a row's result can depend on the number of rows. The default batches of 20 assets have less than a tenth."""


class Batch(NamedTuple):
    """A train batch of S steps, or a minibatch of them."""

    observations: Tensor
    """[S, D], or [S, N+2] by reference, so that the size of a batch does not depend on the number of features."""
    actions: Tensor
    """[S, A]."""
    log_probabilities: Tensor
    """Log-probabilities of the actions under the policy that sampled them, [S]."""
    distribution_inputs: Tensor
    """Parameters of the action distribution of the policy that sampled, [S, 2A]."""
    advantages: Tensor
    """Advantages, centred and divided by their running standard deviation, [S]."""
    value_targets: Tensor
    """[S]."""

    def minibatches(self, num_minibatches: int, generator: torch.Generator | None) -> Iterator[Batch]:
        """Yield minibatches of nearly equal sizes that use every step once.

        Args:
            num_minibatches: Number of minibatches.
            generator: Shuffles the steps; None keeps their order.
        """
        epoch = self
        if generator is not None and num_minibatches > 1:
            order = torch.randperm(len(self.advantages), generator=generator).to(self.advantages.device)
            epoch = Batch(*(column[order] for column in self))
        return map(Batch._make, zip(*(column.tensor_split(num_minibatches) for column in epoch), strict=True))


@dataclass(frozen=True)
class Team:
    """The learners that make updates together; it computes sums over all of them."""

    size: int
    device: Any

    def sum(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all learners, in place, and return it."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def total(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of `array` over all learners."""
        return array if self.size == 1 else self.sum(torch.tensor(array, device=self.device)).cpu().numpy()


@dataclass(frozen=True)
class BatchBuilder:
    """Builds the train batches of a module.

    Attributes:
        module: The RLModule.
        config: Configuration of the algorithm.
        team: All learners of the algorithm.
        whole: Function that returns the observations [..., D] that observations by reference stand for.
        scale: Running scale of the advantages.
    """

    module: Any
    config: Any
    team: Team
    whole: Callable[[Tensor], Tensor]
    scale: AdvantageScale = field(default_factory=AdvantageScale)

    def build(self, episodes: Sequence[SingleAgentEpisode]) -> tuple[Batch, Tensor]:
        """Return the batch of non-empty episode chunks, and the values of its observations, [S], on the device.

        Raises:
            ConfigError: If `market_baseline` is set and the episodes do not hold asset returns.
        """
        observations = [episode.get_observations() for episode in episodes]
        obs = self._tensor(np.concatenate([array[:-1] for array in observations]))
        values = self._values(obs)
        last_values = self._values(self._tensor(np.stack([array[-1] for array in observations])))
        advantages = generalised_advantages(
            self._rewards(episodes, obs),
            values.cpu().numpy(),
            last_values.cpu().numpy(),
            np.array([episode.is_terminated for episode in episodes]),
            self.config.gamma,
            self.config.lambda_,
        )
        inputs = self._tensor(_outputs(episodes, Columns.ACTION_DIST_INPUTS))
        less_noise = self._less_market_noise(advantages, obs, inputs, episodes)
        batch = Batch(
            observations=obs,
            actions=self._tensor(np.concatenate([episode.get_actions() for episode in episodes])),
            log_probabilities=self._tensor(_outputs(episodes, Columns.ACTION_LOGP)),
            distribution_inputs=inputs,
            advantages=self._tensor(self.scale.standardised(less_noise, self.team.total)),
            value_targets=self._tensor(advantages) + values,
        )
        return batch, values

    def _values(self, observations: Tensor) -> Tensor:
        return self._by_parts(lambda part: self.module.compute_values({Columns.OBS: part}), observations)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.team.device)

    def _rewards(self, episodes: Sequence[SingleAgentEpisode], observations: Tensor) -> list[NDArray[Any]]:
        """Return the rewards of each chunk, minus the part that the market explains if `market_baseline` is set.

        The market is represented by the growth of two portfolios that no action of the episode changes: equal weights
        of the tradable assets, and the portfolio that the policy would choose if it always observed the mean portfolio
        weights of the other episodes, where what is in assets that are not tradable on the day counts as cash.
        """
        rewards = [np.asarray(episode.get_rewards()) for episode in episodes]
        if not self._has_market_baseline(episodes):
            return rewards
        lengths = [len(chunk) for chunk in rewards]
        returns = _outputs(episodes, ASSET_RETURNS).astype(np.float64)
        tradable = _tradable(_outputs(episodes, Columns.ACTION_DIST_INPUTS), returns.shape[1])
        detached = observations.clone()
        seen = detached[:, -returns.shape[1] :]
        held = mean_of_others(seen.cpu().numpy().astype(np.float64), lengths, self.team.total)
        seen[:] = self._tensor(held if tradable is None else _in_tradable(held, tradable))
        growth = self._mean_action_growth(detached, self._distribution_inputs(detached), returns)
        market = np.hstack([growth, _equal_weight_growth(returns, tradable)])
        residuals = without_market_noise(np.concatenate(rewards), market, lengths, self.team.total)
        return np.split(residuals, np.cumsum(lengths)[:-1])

    def _less_market_noise(
        self, advantages: NDArray[Any], observations: Tensor, inputs: Tensor, episodes: Sequence[SingleAgentEpisode]
    ) -> NDArray[Any]:
        """Return the advantages, minus the part that the market explains if `market_baseline` is set.

        The market is represented by the day's growth of the mean action's portfolio.
        """
        if not self._has_market_baseline(episodes):
            return advantages
        growth = self._mean_action_growth(observations, inputs, _outputs(episodes, ASSET_RETURNS).astype(np.float64))
        return without_market_noise(advantages, growth, [len(episode) for episode in episodes], self.team.total)

    def _mean_action_growth(self, observations: Tensor, inputs: Tensor, returns: NDArray[Any]) -> NDArray[Any]:
        """Return the log growth before costs, [S, 1], of the mean actions' portfolios.

        Args:
            observations: Observations, or references to them, which end in the known weights, [S, ...].
            inputs: Parameters of the action distributions, [S, 2 A].
            returns: Asset returns of the same steps, cash last, [S, N+1].
        """
        weights = self.module.deterministic_weights(inputs, observations[:, -returns.shape[1] :]).cpu().numpy()
        return np.log1p((weights * returns).sum(-1, keepdims=True))

    def _distribution_inputs(self, observations: Tensor) -> Tensor:
        forward = self.module.forward_inference
        return self._by_parts(lambda part: forward({Columns.OBS: part})[Columns.ACTION_DIST_INPUTS], observations)

    def _by_parts(self, function: Callable[[Tensor], Tensor], observations: Tensor) -> Tensor:
        """Return the function's values [S, ...] for observations, in parts so that memory does not grow with S."""
        num_parts = -(-len(observations) * self.module.observation_space.shape[0] // LARGEST_PASS)
        with torch.no_grad():
            if num_parts <= 1:
                return function(self.whole(observations))
            return torch.cat([function(self.whole(part)) for part in observations.tensor_split(num_parts)])

    def _has_market_baseline(self, episodes: Sequence[SingleAgentEpisode]) -> bool:
        if self.config.market_baseline and ASSET_RETURNS not in episodes[0].extra_model_outputs:
            raise ConfigError(
                f"market_baseline must be False where episodes have no {ASSET_RETURNS}, got True ({self.config.env}). "
                f"Set training.market_baseline to false, or have the environment tell {ASSET_RETURNS} in its infos."
            )
        return bool(self.config.market_baseline)


def _tradable(inputs: NDArray[Any], num_weights: int) -> NDArray[np.bool_] | None:
    """Return whether each asset could be bought, [S, N]; None if all could on each step.

    Args:
        inputs: Means and log standard deviations of the actions, [S, 2 A]; -inf for an asset that is not tradable.
        num_weights: Number N + 1 of weights.
    """
    num_actions = inputs.shape[1] // 2
    tradable = inputs[:, num_actions : num_actions + num_weights - 1] > -np.inf
    return None if tradable.all() else tradable


def _in_tradable(weights: NDArray[Any], tradable: NDArray[np.bool_]) -> NDArray[Any]:
    """Return weights, [S, N+1], in which what was in assets that are not tradable is cash."""
    risky = np.where(tradable, weights[:, :-1], 0.0)
    return np.column_stack([risky, 1.0 - risky.sum(-1)])


def _equal_weight_growth(returns: NDArray[Any], tradable: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Return the log growth, [S, 1], of equal weights of the assets that could be bought.

    Args:
        returns: Asset returns, cash last, [S, N+1].
        tradable: Whether each asset could be bought, [S, N]; None if all could.
    """
    if tradable is None:
        return np.asarray(np.log1p(returns[:, :-1].mean(-1, keepdims=True)))
    count = np.maximum(tradable.sum(-1, keepdims=True), 1)
    return np.asarray(np.log1p(np.where(tradable, returns[:, :-1], 0.0).sum(-1, keepdims=True) / count))


def _outputs(episodes: Sequence[SingleAgentEpisode], name: str) -> NDArray[Any]:
    return np.concatenate([np.asarray(episode.get_extra_model_outputs(name)) for episode in episodes])
