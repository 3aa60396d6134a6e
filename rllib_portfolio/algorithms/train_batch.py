"""Episodes as one batch of tensors; what is taken over the whole batch is taken over that of all learners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from torch import Tensor

from rllib_portfolio.algorithms.advantages import generalised_advantages, without_market_noise
from rllib_portfolio.algorithms.seeded_env_runner import ASSET_RETURNS

SMALLEST_ADVANTAGE_STD = 1e-4
"""As in RLlib's GAE connector."""


class Batch(NamedTuple):
    """A train batch of S steps, or a minibatch of them."""

    observations: Tensor
    """[S, D]."""
    actions: Tensor
    """[S, A]."""
    log_probabilities: Tensor
    """Of the actions when they were sampled, [S]."""
    distribution_inputs: Tensor
    """Of the policy that sampled, [S, 2A]."""
    advantages: Tensor
    """Standardised, [S]."""
    value_targets: Tensor
    """[S]."""

    def minibatches(self, num_minibatches: int, generator: torch.Generator | None) -> Iterator[Batch]:
        """Minibatches of nearly equal sizes that use every step once, in the order drawn from `generator` if any."""
        epoch = self
        if generator is not None and num_minibatches > 1:
            order = torch.randperm(len(self.advantages), generator=generator).to(self.advantages.device)
            epoch = Batch(*(column[order] for column in self))
        return map(Batch._make, zip(*(column.tensor_split(num_minibatches) for column in epoch), strict=True))


@dataclass(frozen=True)
class Team:
    """The learners that share an update, and sums over them."""

    size: int
    device: Any

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of everyone's tensor, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def total(self, array: NDArray[Any]) -> NDArray[Any]:
        """The sum of everyone's array."""
        return array if self.size == 1 else self.sum(torch.tensor(array, device=self.device)).cpu().numpy()


@dataclass(frozen=True)
class BatchBuilder:
    """Makes batches for the module of an algorithm with configuration `config`."""

    module: Any
    config: Any
    team: Team

    def build(self, episodes: Sequence[SingleAgentEpisode]) -> tuple[Batch, Tensor]:
        """The batch of episode chunks, none of them empty, on the device; and the values of its observations, [S]."""
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
        batch = Batch(
            observations=obs,
            actions=self._tensor(np.concatenate([episode.get_actions() for episode in episodes])),
            log_probabilities=self._tensor(_outputs(episodes, Columns.ACTION_LOGP)),
            distribution_inputs=inputs,
            advantages=self._tensor(self._standardised(self._less_market_noise(advantages, inputs, episodes))),
            value_targets=self._tensor(advantages) + values,
        )
        return batch, values

    def _values(self, observations: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module.compute_values({Columns.OBS: observations})

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.team.device)

    def _rewards(self, episodes: Sequence[SingleAgentEpisode], observations: Tensor) -> list[NDArray[Any]]:
        """Rewards chunk by chunk, less what portfolios that no action changes would have earned, if episodes tell.

        These are each asset, and what the policy would hold if the weights it sees were always their mean: a function
        of the market alone.
        """
        rewards = [np.asarray(episode.get_rewards()) for episode in episodes]
        if not self._has_market_baseline(episodes):
            return rewards
        returns = _outputs(episodes, ASSET_RETURNS).astype(np.float64)
        detached = observations.clone()
        seen = detached[:, -returns.shape[1] :]
        seen[:] = self.team.sum(seen.sum(0)) / float(self.team.total(np.array([len(seen)]))[0])
        growth = self._mean_action_growth(self._distribution_inputs(detached), returns)
        residuals = without_market_noise(np.concatenate(rewards), np.hstack([growth, returns]), self.team.total)
        return np.split(residuals, np.cumsum([len(chunk) for chunk in rewards])[:-1])

    def _less_market_noise(
        self, advantages: NDArray[Any], inputs: Tensor, episodes: Sequence[SingleAgentEpisode]
    ) -> NDArray[Any]:
        """Advantages less what the portfolio of the mean action would have grown by on the same day."""
        if not self._has_market_baseline(episodes):
            return advantages
        growth = self._mean_action_growth(inputs, _outputs(episodes, ASSET_RETURNS).astype(np.float64))
        return without_market_noise(advantages, growth, self.team.total)

    def _mean_action_growth(self, inputs: Tensor, returns: NDArray[Any]) -> NDArray[Any]:
        """Log growth before costs, [S, 1], of the weights that mean actions ask for, over asset returns [S, N+1]."""
        weights = self.module.deterministic_weights(inputs).cpu().numpy()
        return np.log1p((weights * returns).sum(-1, keepdims=True))

    def _distribution_inputs(self, observations: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module.forward_inference({Columns.OBS: observations})[Columns.ACTION_DIST_INPUTS]

    def _has_market_baseline(self, episodes: Sequence[SingleAgentEpisode]) -> bool:
        return self.config.market_baseline and ASSET_RETURNS in episodes[0].extra_model_outputs

    def _standardised(self, advantages: NDArray[Any]) -> NDArray[Any]:
        """Zero mean and unit (population) deviation over the steps of all learners."""
        exact = advantages.astype(np.float64)
        count, total = self.team.total(np.array([len(exact), exact.sum()]))
        deviations = exact - total / count
        variance = self.team.total(np.square(deviations).sum(keepdims=True)) / count
        return deviations / np.maximum(np.sqrt(variance), SMALLEST_ADVANTAGE_STD)


def _outputs(episodes: Sequence[SingleAgentEpisode], name: str) -> NDArray[Any]:
    return np.concatenate([np.asarray(episode.get_extra_model_outputs(name)) for episode in episodes])
