"""Episodes as one batch of tensors; what is taken over the whole batch is taken over that of all learners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Centred, and divided by their running deviation, [S]."""
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
    scale: AdvantageScale = field(default_factory=AdvantageScale)

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
        less_noise = self._less_market_noise(advantages, inputs, episodes)
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
        with torch.no_grad():
            return self.module.compute_values({Columns.OBS: observations})

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.team.device)

    def _rewards(self, episodes: Sequence[SingleAgentEpisode], observations: Tensor) -> list[NDArray[Any]]:
        """Return rewards chunk by chunk, less what the market explains of them, if episodes tell what assets returned.

        The market is told by two portfolios that no action changes: equal weights of the risky assets, and what the
        policy would hold if the weights it sees were always the mean of other episodes'.
        """
        rewards = [np.asarray(episode.get_rewards()) for episode in episodes]
        if not self._has_market_baseline(episodes):
            return rewards
        lengths = [len(chunk) for chunk in rewards]
        returns = _outputs(episodes, ASSET_RETURNS).astype(np.float64)
        detached = observations.clone()
        seen = detached[:, -returns.shape[1] :]
        held = seen.cpu().numpy().astype(np.float64)
        seen[:] = self._tensor(mean_of_others(held, lengths, self.team.total))
        growth = self._mean_action_growth(self._distribution_inputs(detached), returns)
        equal_weights = np.log1p(returns[:, :-1].mean(-1, keepdims=True))
        market = np.hstack([growth, equal_weights])
        residuals = without_market_noise(np.concatenate(rewards), market, lengths, self.team.total)
        return np.split(residuals, np.cumsum(lengths)[:-1])

    def _less_market_noise(
        self, advantages: NDArray[Any], inputs: Tensor, episodes: Sequence[SingleAgentEpisode]
    ) -> NDArray[Any]:
        """Return advantages less what the portfolio of the mean action explains of them by its growth of that day."""
        if not self._has_market_baseline(episodes):
            return advantages
        growth = self._mean_action_growth(inputs, _outputs(episodes, ASSET_RETURNS).astype(np.float64))
        return without_market_noise(advantages, growth, [len(episode) for episode in episodes], self.team.total)

    def _mean_action_growth(self, inputs: Tensor, returns: NDArray[Any]) -> NDArray[Any]:
        """Log growth before costs, [S, 1], of the weights that mean actions ask for, over asset returns [S, N+1]."""
        weights = self.module.deterministic_weights(inputs).cpu().numpy()
        return np.log1p((weights * returns).sum(-1, keepdims=True))

    def _distribution_inputs(self, observations: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module.forward_inference({Columns.OBS: observations})[Columns.ACTION_DIST_INPUTS]

    def _has_market_baseline(self, episodes: Sequence[SingleAgentEpisode]) -> bool:
        if self.config.market_baseline and ASSET_RETURNS not in episodes[0].extra_model_outputs:
            raise ConfigError(
                f"market_baseline must be False where episodes have no {ASSET_RETURNS}, got True ({self.config.env}). "
                f"Set training.market_baseline to false, or have the environment tell {ASSET_RETURNS} in its infos."
            )
        return bool(self.config.market_baseline)


def _outputs(episodes: Sequence[SingleAgentEpisode], name: str) -> NDArray[Any]:
    return np.concatenate([np.asarray(episode.get_extra_model_outputs(name)) for episode in episodes])
