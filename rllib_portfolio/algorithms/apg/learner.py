"""The learner of analytic policy gradients: it differentiates the rewards of simulated portfolios.

Moody and Saffell (2001), "Learning to trade via direct reinforcement", section II, differentiate the profit of a
trader with respect to its parameters, through its own earlier positions; Xu et al. (2022, arXiv 2204.07137, eq. 4)
add the value of the state at the end of a short horizon. The gradient needs no action noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY, VF_LOSS_KEY, Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_MODULE_STEPS_TRAINED_LIFETIME
from torch import Tensor, nn

from rllib_portfolio.algorithms.apg.networks import NetworkFunctions, OneNetwork, StackedNetworks
from rllib_portfolio.algorithms.apg.portfolios import Portfolios
from rllib_portfolio.algorithms.apg.simulation import DifferentiableSimulation, Rollout
from rllib_portfolio.algorithms.learning.fused_learner import FusedLearner
from rllib_portfolio.algorithms.learning.update_metrics import NUM_GRADIENT_STEPS, NUM_UPDATES_LEFT_OUT
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.algorithms.sampling.seeded_env_runner import stream_seed
from rllib_portfolio.env.transition import State
from rllib_portfolio.modules.actor_critic import network_shape
from rllib_portfolio.modules.architectures import NETWORKS
from rllib_portfolio.modules.stacked_actor_critic import StackedActorCritic

UPDATE_STATE = "update_state"
REWARD_SCALE = "reward_scale"
INITIAL_STREAM, DROPOUT_STREAM = 2_000_001, 2_000_002
"""Numbers of the random streams of the initial weights and of dropped features."""


@reads_fragments(infos=False, observations=False)
class APGLearner(FusedLearner, TorchLearner):
    """Follows the gradient of the mean reward of portfolios over a horizon, for one network or S stacked ones."""

    @staticmethod
    def parameter_order(name: str) -> int:
        """Return the index of the stacked network to which a parameter belongs."""
        parts = name.split(".")
        return int(parts[1]) if parts[0] == "members" else 0

    def build(self) -> None:
        super().build()
        config = self.config
        self._seeds = range(config.seed or 0, (config.seed or 0) + config.num_stacked_seeds)
        self._members = self._draw_weights()
        self._num_critic = sum(
            value.numel() for name, value in self._members[0].named_parameters() if name.startswith("critic.")
        )
        self._functions: NetworkFunctions = (
            StackedNetworks(self._members, self._flat) if len(self._seeds) > 1 else OneNetwork(self._members[0])
        )
        self._simulation = DifferentiableSimulation.of(config.env_config, self._device)
        self._portfolios: Portfolios | None = None
        if config.starts == "learner":
            draws = self._simulation.simulation
            self._portfolios = Portfolios(draws, self._seeds, config.num_portfolios, config.num_decisions)
        self._scale = RewardScale(len(self._seeds))
        self._dropout = [self._generator(seed, DROPOUT_STREAM) for seed in self._seeds]
        self._timesteps: dict[str, Any] = {}

    def update(
        self,
        batch: Any = None,
        *,
        training_data: Any = None,
        episodes: Sequence[SingleAgentEpisode] | None = None,
        timesteps: dict[str, Any] | None = None,
        _no_metrics_reduce: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Make one update on the walks of env runners, which are repeated from the first state of each chunk.

        Args:
            batch: Not used; RLlib's learners also accept a batch.
            training_data: RLlib's container of episodes; if it is given, `episodes` is ignored.
            episodes: Episode chunks with the state of the environment before each step.
            timesteps: Step counts that schedules depend on.
            _no_metrics_reduce: Whether the metrics stay in the learner's logger.
            **kwargs: Not used; RLlib's learner has further arguments.

        Returns:
            The learner's metrics, or None if `_no_metrics_reduce` is true.
        """
        self._check_is_built()
        if training_data is not None:
            training_data.solve_refs()
            episodes = training_data.episodes
        chunks = [episode for episode in episodes or () if len(episode)]
        state = _first_states(chunks, self._simulation.simulation.config.rebalance_days)
        self._update(state, max(map(len, chunks)), timesteps or {})
        return None if _no_metrics_reduce else self.metrics.reduce()

    def update_from_own_portfolios(self, num_updates: int, first_step: int) -> Any:
        """Make updates on portfolios that the learner itself simulates, and return its metrics.

        Args:
            num_updates: Number of updates, each of one horizon.
            first_step: Environment steps so far, for each seed.
        """
        assert self._portfolios is not None
        config, num_learners = self.config, max(1, self.config.num_learners)
        for number in range(1, num_updates + 1):
            steps = first_step + number * config.num_portfolios * config.num_decisions
            mine = _part(self._portfolios.restart(), len(self._seeds), self._index, num_learners)
            timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: steps}
            final = self._update(mine, config.num_decisions, timesteps, reports=number == num_updates)
            self._portfolios.state = _joined(final, len(self._seeds), num_learners)
        return self.metrics.reduce()

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: Any) -> Tensor:
        """Raise: the learner computes its loss from simulated portfolios, not from a batch."""
        raise NotImplementedError("apg has no loss of a batch. Call update or update_from_own_portfolios.")

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(UPDATE_STATE, components, not_components):
            state[UPDATE_STATE] = {
                REWARD_SCALE: self._scale.get_state(),
                "timesteps": self._timesteps,
                "portfolios": None if self._portfolios is None else self._portfolios.get_state(),
                "dropout": [generator.get_state().numpy() for generator in self._dropout],
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if UPDATE_STATE not in state:
            return
        ours = state[UPDATE_STATE]
        self._scale.set_state(ours[REWARD_SCALE])
        self._timesteps = ours["timesteps"]
        if self._portfolios is not None:
            self._portfolios.set_state(ours["portfolios"])
        for generator, bits in zip(self._dropout, ours["dropout"], strict=True):
            generator.set_state(torch.from_numpy(np.array(bits)))

    @property
    def _index(self) -> int:
        """Index of this learner among all learners."""
        return torch.distributed.get_rank() if self.config.num_learners > 1 else 0

    def _draw_weights(self) -> list[Any]:
        """Set the initial weights of each network from a stream of its own seed, and return the networks.

        Critics start at the value 0 for every state: the gradient of a random critic would lead the policy astray.
        """
        module = self._trained_module
        members = list(module.members) if isinstance(module, StackedActorCritic) else [module]
        network, shape = NETWORKS[module.model_config["architecture"]], network_shape(module)
        for seed, member in zip(self._seeds, members, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_seed(seed, INITIAL_STREAM))
                member.load_state_dict(network(shape).state_dict())
            nn.init.zeros_(member.critic[-1].weight)
        return members

    def _generator(self, seed: int, stream: int) -> torch.Generator:
        generator = torch.Generator()
        generator.manual_seed(stream_seed(seed, stream))
        return generator

    def _update(self, state: State, num_decisions: int, timesteps: dict[str, Any], *, reports: bool = True) -> State:
        """Make one gradient step on the walks from a state of numpy arrays, and return their final state.

        Args:
            state: State of the portfolios.
            num_decisions: Number of decisions until the longest walk ends.
            timesteps: Step counts that schedules depend on.
            reports: Whether to log the losses, of which only the last ones before a report are kept.
        """
        self._timesteps = timesteps
        self.before_gradient_based_update(timesteps=timesteps)
        self._weights_seq_no += 1
        self._functions.refresh()
        num_seeds = len(self._seeds)
        start = self._simulation.tensors(state)
        rollout = self._simulation.rollout(
            lambda observations: self._functions.logits(observations) / self._simulation.simulation.config.logit_scale,
            start,
            num_decisions,
            num_seeds,
            kept=self._kept_features(len(state.row) // num_seeds),
            through_holdings=self.config.backpropagate_holdings,
        )
        num_steps = float(rollout.is_walking.sum()) / num_seeds
        if not self._scale.has_any:
            self._scale.update(rollout, self._team.total)
        weight = num_steps * self._team.size / float(self._team.total(np.array([num_steps]))[0])
        losses, total = self._losses(rollout)
        self._backward(lambda: (total, None), weight)
        is_finite = self._bound_gradients()
        norm = self._apply_gradient()
        self._scale.update(rollout, self._team.total)
        self._count(num_steps, is_finite)
        if reports:
            self._log(losses, total, norm)
        self.after_gradient_based_update(timesteps=timesteps)
        return State(*(values.cpu().numpy() for values in rollout.final))

    def _losses(self, rollout: Rollout) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by their metric names, and their sum over the networks."""
        config, scale = self.config, torch.tensor(self._scale.std, dtype=torch.float32, device=self._device)
        rewards = rollout.rewards.float() / scale[:, None]
        num_walked = rollout.is_walking.sum(0)
        discounts = config.gamma ** torch.arange(len(rewards), device=rewards.device)
        gained = (discounts[:, None, None] * rewards).sum(0)
        if config.bootstrap:
            last = self._functions.fixed_values(rollout.observations[-1]).unflatten(0, (len(scale), -1))
            gained = gained + config.gamma**num_walked * last
        policy_loss = -(gained.sum(-1) / num_walked.sum(-1).clamp(min=1))
        losses = {POLICY_LOSS_KEY: policy_loss.mean()}
        total = policy_loss.sum()
        if config.bootstrap:
            value_loss = self._value_loss(rollout, rewards.detach())
            losses[VF_LOSS_KEY] = value_loss.mean()
            total = total + config.vf_loss_coeff * value_loss.sum()
        return losses, total

    def _value_loss(self, rollout: Rollout, rewards: Tensor) -> Tensor:
        """Return the mean squared error of the values against their lambda returns (Sutton and Barto, eq. 12.18), [S].

        The end of an episode is a time limit, so that the value of its last state stands for the rewards after it.
        """
        config = self.config
        observations = torch.stack(list(rollout.observations)).detach().unflatten(1, (len(self._seeds), -1))
        by_network = observations.transpose(0, 1)  # [S, H + 1, B, D]
        values = self._functions.values(by_network.flatten(0, 2)).view(by_network.shape[:3]).transpose(0, 1)
        fixed = values.detach()
        target, targets = fixed[-1], []
        for reward, value, following, walks in reversed(
            list(zip(rewards, fixed[:-1], fixed[1:], rollout.is_walking, strict=True))
        ):
            mixed = (1.0 - config.lambda_) * following + config.lambda_ * target
            target = torch.where(walks, reward + config.gamma * mixed, value)
            targets.append(target)
        error = (values[:-1] - torch.stack(targets[::-1])).square() * rollout.is_walking
        return error.sum((0, 2)) / rollout.is_walking.sum((0, 2)).clamp(min=1)

    def _kept_features(self, num_each: int) -> Tensor | None:
        """Return the factor on each feature of each portfolio, [S x B, D - N - 1]: 0 if dropped; None keeps all."""
        share = self.config.feature_dropout
        if share == 0.0:
            return None
        market = self._simulation.simulation.market
        num_own, num_market = len(market.asset_feature_names), len(market.market_feature_names)
        masks = torch.stack(
            [torch.rand((num_each, num_own + num_market), generator=generator) >= share for generator in self._dropout]
        ).flatten(0, 1)
        own, shared = masks.split([num_own, num_market], dim=1)
        if self._simulation.tradable is not None:
            own[:, -1] = True  # the mask of tradable assets
        kept = torch.cat([own.repeat(1, market.num_assets), shared], dim=1)
        return kept.to(self._device, torch.float32)

    def _bound_gradients(self) -> bool:
        """Clip the gradients of each network, and set those that are not finite to 0.

        Returns:
            Whether all were finite.
        """
        parts = self._flat.gradient.view(len(self._seeds), -1)
        is_finite = parts.isfinite().all(dim=1)
        if self.config.max_gradient_norm is not None:
            # The critic comes last in the buffer; its gradient alone could otherwise use up the norm.
            for part in parts.split([parts.shape[1] - self._num_critic, self._num_critic], dim=1):
                norms = torch.linalg.vector_norm(part, dim=1)
                part.mul_((self.config.max_gradient_norm / norms.clamp(min=1e-12)).clamp(max=1.0)[:, None])
        if bool(is_finite.all()):
            return True
        self._name_culprits(self._flat.non_finite_gradients())
        parts[~is_finite] = 0.0
        return False

    def _log(self, losses: dict[str, Tensor], total: Tensor, norm: Tensor) -> None:
        scalars = {name: loss.item() for name, loss in losses.items()} | {
            Learner.TOTAL_LOSS_KEY: total.item() / len(self._seeds),
            "gradients_default_optimizer_global_norm": norm.item(),
            REWARD_SCALE: float(self._scale.std.mean()),
            NUM_GRADIENT_STEPS: 1,
        }
        self.metrics.log_dict(scalars, key=DEFAULT_MODULE_ID, window=1)

    def _count(self, num_steps: float, is_finite: bool) -> None:
        self.metrics.log_value((DEFAULT_MODULE_ID, NUM_UPDATES_LEFT_OUT), int(not is_finite), reduce="lifetime_sum")
        key = (ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME)
        self.metrics.log_value(key, int(num_steps), reduce="lifetime_sum", with_throughput=True)


class RewardScale:
    """The running standard deviation of the rewards of each of S networks, over all learners.

    Losses are divided by the deviation of earlier rewards: that of the same rewards would give a batch with a rare
    large loss too little weight.
    """

    def __init__(self, num_networks: int) -> None:
        self._sums = np.zeros((3, num_networks))
        """Number of rewards, their sum, and the sum of their squares, for each network."""

    @property
    def has_any(self) -> bool:
        """Whether there are rewards."""
        return bool((self._sums[0] > 0.0).all())

    @property
    def std(self) -> NDArray[np.float64]:
        """The standard deviation of each network's rewards, [S]; 1 where it is (nearly) zero."""
        count, total, squares = self._sums
        mean = total / np.maximum(count, 1.0)
        variance = squares / np.maximum(count, 1.0) - mean**2
        return np.sqrt(np.where(variance > 1e-16, variance, 1.0))

    def update(self, rollout: Rollout, total: Any) -> None:
        """Add the rewards of a rollout.

        Args:
            rollout: The rewards of this learner.
            total: Function that returns the sum of an array over all learners.
        """
        rewards = rollout.rewards.detach().double()
        sums = torch.stack([part.sum((0, 2)) for part in (rollout.is_walking.double(), rewards, rewards.square())])
        found = np.asarray(total(sums.cpu().numpy()))
        if np.isfinite(found).all():
            self._sums += found

    def get_state(self) -> dict[str, Any]:
        """Return the sums."""
        return {"sums": self._sums.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the sums that `get_state` returned."""
        self._sums = np.array(state["sums"])


def _first_states(episodes: Sequence[SingleAgentEpisode], rebalance_days: int) -> State:
    """Return the state before the first step of each episode chunk, with an end after its last step."""
    firsts = [State(*(np.asarray(each.get_extra_model_outputs(name))[0] for name in COLUMNS)) for each in episodes]
    state = State(*(np.stack(values) for values in zip(*firsts, strict=True)))
    walked = np.array([len(each) for each in episodes]) * rebalance_days
    return state._replace(end=np.minimum(state.end, state.row + walked))


def _part(state: State, num_seeds: int, index: int, num_learners: int) -> State:
    """Return one learner's equal part of the portfolios of each seed."""
    if num_learners == 1:
        return state
    shape = (num_seeds, num_learners, len(state.row) // (num_seeds * num_learners))
    return State(*(np.concatenate(values.reshape(*shape, *values.shape[1:])[:, index]) for values in state))


def _joined(mine: State, num_seeds: int, num_learners: int) -> State:
    """Return the portfolios of all learners, each of which has an equal part of those of each seed."""
    if num_learners == 1:
        return mine
    parts: list[Any] = [None] * num_learners
    torch.distributed.all_gather_object(parts, [np.split(values, num_seeds) for values in mine])
    joined = ([part[k][seed] for seed in range(num_seeds) for part in parts] for k in range(len(State._fields)))
    return State(*(np.concatenate(pieces) for pieces in joined))
