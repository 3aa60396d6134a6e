"""Env runners: RLlib's own with independent random streams, and a vectorised one that yields the same data faster.

RLlib's runner keeps one episode object per environment and calls into it at every step. The vectorised runner makes one
batched forward pass and one vector-environment step into preallocated time-major arrays, and cuts them into episodes at
the end of a fragment.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    ENV_STEP_TIMER,
    RLMODULE_INFERENCE_TIMER,
    WEIGHTS_SEQ_NO,
)

from rllib_portfolio.algorithms.fragment import Fragment, cut_episodes

STREAMS = "streams"
_DEFAULT_ENV_TO_MODULE = {
    "AddObservationsFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AddStatesFromEpisodesToBatch",
    "BatchIndividualItems",
    "NumpyToTensor",
}
_DEFAULT_MODULE_TO_ENV = {
    "GetActions",
    "TensorToNumpy",
    "UnBatchToIndividualItems",
    "RemoveSingleTsTimeRankFromBatch",
    "NormalizeAndClipActions",
    "ListifyDataForVectorEnv",
}


class SeededEnvRunner(SingleAgentEnvRunner):
    """RLlib's single-agent runner whose environments never share a random path.

    RLlib seeds runner k with seed + k, and a vector environment gives environment i the seed of its runner + i: the
    environments of neighbouring runners would repeat each other. Here the seed of a runner is drawn from (seed, k).
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if self._seed is not None:
            self._seed = stream_seed(config.seed, self.worker_index or 0)


class VectorisedEnvRunner(SeededEnvRunner):
    """Samples fragments with whole-array operations; everything else is RLlib's runner.

    Fragments of exploring, stateless modules with RLlib's default connectors take the fast path. Whole episodes
    (`sample(num_episodes=...)`, as in evaluation), other connectors and callbacks on every step take RLlib's.
    Callbacks on episode start and end come when the fragment is cut, in the order of the environments. Its state holds
    the environments and their generators, so that a restored runner continues the same random path.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._is_vectorisable = self._can_vectorise()
        self._observations: NDArray[Any] | None = None
        self._finished = np.zeros(self.num_envs, dtype=np.bool_)
        self._episode_ids: list[str] = []
        self._episode_steps = np.zeros(self.num_envs, dtype=np.int64)

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        if not (self._is_vectorisable and num_timesteps is not None and explore and not random_actions):
            return super()._sample(
                num_timesteps=num_timesteps,
                num_episodes=num_episodes,
                explore=explore,
                random_actions=random_actions,
                force_reset=force_reset,
            )
        if force_reset or self._needs_initial_reset or self._observations is None:
            self._start_streams()
        fragment = self._collect(num_timesteps)
        episodes = self._cut(fragment)
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=fragment.num_transitions)
        self._increase_sampled_metrics(fragment.num_transitions, sum(episode.is_done for episode in episodes))
        return episodes

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._is_driver_stream() and self._check_component(STREAMS, components, not_components):
            state[STREAMS] = self._get_streams()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if self._is_driver_stream() and STREAMS in state:
            self._set_streams(state[STREAMS])

    def _can_vectorise(self) -> bool:
        if self.module is None or self.env is None or self.module.is_stateful() or self.config.normalize_actions:
            return False
        pieces = {type(piece).__name__ for piece in self._env_to_module.connectors}
        if not pieces <= _DEFAULT_ENV_TO_MODULE:
            return False
        pieces = {type(piece).__name__ for piece in self._module_to_env.connectors}
        watches_steps = self.config.callbacks_on_episode_step is not None or any(
            type(callbacks).on_episode_step is not RLlibCallback.on_episode_step for callbacks in self._callbacks
        )
        return pieces <= _DEFAULT_MODULE_TO_ENV and not watches_steps

    @property
    def _vector_env(self) -> Any:
        """The vector environment below RLlib's wrapper, which would turn every info into a list of dicts."""
        return self.env.env

    def _start_streams(self) -> None:
        """Reset all environments and begin new episodes."""
        seed = self._seed if self._needs_initial_reset else None
        self._observations, _ = self._vector_env.reset(seed=seed)
        self._needs_initial_reset = False
        self._finished = np.zeros(self.num_envs, dtype=np.bool_)
        self._episode_ids = [uuid.uuid4().hex for _ in range(self.num_envs)]
        self._episode_steps = np.zeros(self.num_envs, dtype=np.int64)
        self._ongoing_episodes_for_metrics.clear()

    def _collect(self, num_timesteps: int) -> Fragment:
        """Step until `num_timesteps` transitions are there; a step in which an environment is reset is none."""
        fragment = Fragment(self.num_envs, rows=-(-num_timesteps // self.num_envs))
        inference_s = step_s = 0.0
        while fragment.num_transitions < num_timesteps:
            started = time.perf_counter()
            actions, for_env, outputs = self._act(self._observations, fragment.num_transitions)
            acted = time.perf_counter()
            result = self._step(for_env)
            if result is None:  # the environment failed and was made anew: what this fragment had is lost
                self._start_streams()
                fragment = Fragment(self.num_envs, rows=-(-num_timesteps // self.num_envs))
                continue
            next_observations, rewards, terminated, truncated, _ = result
            fragment.append(
                self._observations, actions, rewards, terminated, truncated, outputs, is_transition=~self._finished
            )
            self._observations, self._finished = next_observations, terminated | truncated
            inference_s, step_s = inference_s + acted - started, step_s + time.perf_counter() - acted
        fragment.finish(self._observations)
        self.metrics.log_value(RLMODULE_INFERENCE_TIMER, inference_s / fragment.num_rows)
        self.metrics.log_value(ENV_STEP_TIMER, step_s / fragment.num_rows)
        return fragment

    def _act(
        self, observations: NDArray[Any], steps_in_fragment: int
    ) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
        """Actions [B, ...] as sampled, as sent to the environment, and the module's other outputs."""
        num_runners = self.config.num_env_runners or 1
        steps = (self.num_env_steps_sampled_lifetime // num_runners + steps_in_fragment) * num_runners
        batch = {Columns.OBS: torch.from_numpy(observations).to(self._device)}
        with torch.no_grad():
            outputs = self.module.forward_exploration(batch, t=steps)
            sampled = outputs.pop(Columns.ACTIONS, None)
            if sampled is None:
                distribution = self.module.get_exploration_action_dist_cls()
                sampled = distribution.from_logits(outputs[Columns.ACTION_DIST_INPUTS]).sample()
        actions = sampled.cpu().numpy()
        for_env = actions
        if self.config.clip_actions and np.issubdtype(actions.dtype, np.floating):
            space = self.env.single_action_space
            for_env = np.clip(actions, space.low, space.high)
        return actions, for_env, {name: value.cpu().numpy() for name, value in outputs.items()}

    def _step(self, actions: NDArray[Any]) -> Any:
        """One vector step, or None after a failure that the configuration allows to restart from."""
        try:
            return self._vector_env.step(actions)
        except Exception as error:
            self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
            if not self.config.restart_failed_sub_environments:
                raise RuntimeError(f"environment step failed (env runner {self.worker_index}): {error}") from error
            self.make_env()
            return None

    def _cut(self, fragment: Fragment) -> list[SingleAgentEpisode]:
        """Whole-array episodes, finished ones first, as RLlib's runner returns them."""
        log_probabilities = self._log_probabilities(fragment)
        episodes, self._episode_ids, self._episode_steps = cut_episodes(
            fragment,
            self._episode_ids,
            self._episode_steps,
            spaces=(self.env.single_observation_space, self.env.single_action_space),
            extra={Columns.ACTION_LOGP: log_probabilities} if log_probabilities is not None else {},
            constants={WEIGHTS_SEQ_NO: self._weights_seq_no},
        )
        self._call_back(episodes)
        done = [episode for _, episode in episodes if episode.is_done]
        ongoing = [episode for _, episode in episodes if not episode.is_done]
        self._done_episodes_for_metrics.extend(done)
        for episode in ongoing:
            self._ongoing_episodes_for_metrics[episode.id_].append(episode)
        return done + ongoing

    def _log_probabilities(self, fragment: Fragment) -> NDArray[Any] | None:
        """Log-probabilities of the sampled, unclipped actions, [rows, B], in one pass over the fragment."""
        inputs = fragment.outputs.get(Columns.ACTION_DIST_INPUTS)
        if inputs is None:
            return None
        distribution = self.module.get_exploration_action_dist_cls().from_logits(torch.from_numpy(inputs))
        return distribution.logp(torch.from_numpy(fragment.actions)).numpy()

    def _call_back(self, episodes: list[tuple[int, SingleAgentEpisode]]) -> None:
        for index, episode in episodes:
            if episode.t_started == 0:
                self._make_episode_callback("on_episode_created", index, episode)
                self._make_episode_callback("on_episode_start", index, episode)
            if episode.is_done:
                chunks = self._ongoing_episodes_for_metrics.get(episode.id_, [])
                self._make_episode_callback("on_episode_end", index, episode, prev_episode_chunks=chunks)

    def _make_episode_callback(self, which: str, index: int, episode: SingleAgentEpisode, **kwargs: Any) -> None:
        make_callback(
            which,
            callbacks_objects=self._callbacks,
            callbacks_functions=getattr(self.config, f"callbacks_{which}"),
            kwargs={
                "episode": episode,
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "rl_module": self.module,
                "env_index": index,
                **kwargs,
            },
        )

    def _is_driver_stream(self) -> bool:
        """Whether this runner samples in the driver; the streams of remote runners are not part of a checkpoint."""
        return self.env is not None and not self.worker_index and hasattr(self._vector_env.unwrapped, "get_state")

    def _get_streams(self) -> dict[str, Any]:
        return {
            "environment": None if self._observations is None else self._vector_env.unwrapped.get_state(),
            "observations": self._observations,
            "finished": self._finished,
            "episode_ids": self._episode_ids,
            "episode_steps": self._episode_steps,
            "episode_rewards": {
                id_: np.concatenate([chunk.get_rewards() for chunk in chunks])
                for id_, chunks in self._ongoing_episodes_for_metrics.items()
            },
            "torch_generator": torch.get_rng_state().numpy(),
        }

    def _set_streams(self, streams: dict[str, Any]) -> None:
        if streams["environment"] is None:
            return
        self._vector_env.reset(seed=0)  # a fresh environment has no generators to set
        self._vector_env.unwrapped.set_state(streams["environment"])
        self._needs_initial_reset = False
        self._observations, self._finished = streams["observations"], streams["finished"]
        self._episode_ids, self._episode_steps = list(streams["episode_ids"]), streams["episode_steps"].copy()
        self._ongoing_episodes_for_metrics.clear()
        for id_, rewards in streams["episode_rewards"].items():
            self._ongoing_episodes_for_metrics[id_].append(_rewards_only(id_, rewards))
        torch.set_rng_state(torch.from_numpy(streams["torch_generator"]))


def stream_seed(seed: int, stream: int) -> int:
    """A seed for stream number `stream` of `seed`, 32 bits, far from the seeds of other streams."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


def _rewards_only(id_: str, rewards: NDArray[Any]) -> SingleAgentEpisode:
    """The earlier part of an episode that a checkpoint keeps: its rewards, for the return of the whole."""
    nothing = np.zeros((len(rewards) + 1, 0), dtype=np.float32)
    return SingleAgentEpisode(
        id_=id_, observations=nothing, actions=nothing[:-1], rewards=rewards, infos=[{}] * len(nothing),
        len_lookback_buffer=0,
    )  # fmt: skip
