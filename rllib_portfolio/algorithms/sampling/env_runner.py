"""A vectorised env runner, which yields the same data as RLlib's env runner in less time.

RLlib's env runner keeps one episode object per environment and calls it at every step. The vectorised env runner makes
one batched forward pass and one vector-environment step at a time, writes the results to preallocated time-major
arrays, and cuts the arrays into episodes at the end of a fragment.
"""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_STEP_TIMER, RLMODULE_INFERENCE_TIMER, WEIGHTS_SEQ_NO

from rllib_portfolio.algorithms.sampling.fast_path import holds_references, is_vectorisable, keeps_infos
from rllib_portfolio.algorithms.sampling.fragment import Fragment, Streams, Transitions, cut_episodes
from rllib_portfolio.algorithms.sampling.seeded_env_runner import ASSET_RETURNS, SeededEnvRunner

logger = logging.getLogger(__name__)

STREAMS = "streams"


class VectorisedEnvRunner(SeededEnvRunner):
    """Samples fragments with whole-array operations and is RLlib's env runner otherwise.

    Fragments of stateless modules with RLlib's default connectors take the fast path. RLlib's sampling loop
    runs for whole episodes (`sample(num_episodes=...)`, as in evaluation), for other connectors, and if a class may
    read data that the fast path leaves out of episodes (see `fast_path.reads_fragments`).

    The fast path differs from RLlib in this: callbacks on episode start and end are called when the fragment is cut, in
    the order of the environments; episodes have no lookback, and only the last info of an episode unless a class reads
    infos; observations are by reference unless a class reads whole ones; and a failed environment step discards the
    whole fragment. The state of a local env runner includes the
    environments and their random generators, so that a restored env runner continues the same random path.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._is_vectorisable = is_vectorisable(self)
        self._keeps_infos = keeps_infos(self)
        self._by_reference = self._is_vectorisable and holds_references(self)
        """Whether episodes hold observations by reference, [N+2]."""
        self._streams: Streams | None = None

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        if not (self._is_vectorisable and num_timesteps is not None and not random_actions):
            leaves_streams, self._streams = self._streams is not None, None
            return super()._sample(
                num_timesteps=num_timesteps,
                num_episodes=num_episodes,
                explore=explore,
                random_actions=random_actions,
                force_reset=force_reset or leaves_streams,
            )
        if force_reset or self._needs_initial_reset or self._streams is None:
            self._start_streams()
        fragment = self._collect(num_timesteps, explore)
        episodes = self._cut(fragment, explore)
        self._log_fragment(fragment, num_done=sum(episode.is_done for episode in episodes))
        return episodes

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._is_in_checkpoint() and self._check_component(STREAMS, components, not_components):
            state[STREAMS] = self._get_streams()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if self._is_in_checkpoint() and state.get(STREAMS) is not None:
            self._set_streams(state[STREAMS])

    @property
    def _vector_env(self) -> Any:
        """The vector environment without RLlib's wrapper, which would convert infos to lists of dicts at every step."""
        return self.env.env

    def _start_streams(self) -> None:
        """Reset all environments and begin new episodes."""
        observations, infos = self._try_env_reset(seed=self._seed if self._needs_initial_reset else None)
        self._needs_initial_reset = False
        self._streams = Streams(observations)
        if self._keeps_infos:
            self._streams.infos = list(infos)
        self._ongoing_episodes_for_metrics.clear()

    def _collect(self, num_timesteps: int, explore: bool) -> Fragment:
        """Step the environments until there are `num_timesteps` transitions, not counting steps that only reset."""
        self.module.eval()  # once per fragment; RLlib's forward pass sets the mode of all submodules at every step
        fragment = Fragment(self.num_envs, rows=-(-num_timesteps // self.num_envs))
        while fragment.num_transitions < num_timesteps:
            observations, finished = self._streams.observations, self._streams.finished
            stored = self._stored(observations)
            started = time.perf_counter()
            actions, for_env, outputs = self._act(observations, fragment.num_transitions, explore)
            outputs |= self._states()
            fragment.inference_s += time.perf_counter() - started
            result = self._step(for_env)
            if result is None:  # the step failed and the environments were recreated: discard the fragment
                self._start_streams()
                fragment = Fragment(self.num_envs, rows=-(-num_timesteps // self.num_envs))
                continue
            next_observations, rewards, terminated, truncated, infos = result
            if ASSET_RETURNS in infos:
                outputs[ASSET_RETURNS] = infos[ASSET_RETURNS]
            fragment.append(
                Transitions(stored, actions, rewards, terminated, truncated), outputs, is_transition=~finished
            )
            self._streams.observations, self._streams.finished = next_observations, terminated | truncated
            is_kept = self._streams.finished | self._keeps_infos
            if is_kept.any():
                fragment.keep_infos(is_kept, self.env._convert_info_to_list(infos))
        fragment.finish(self._stored(self._streams.observations))
        return fragment

    def _stored(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Return the current observations as episodes hold them."""
        return self._vector_env.simulation.refer(self._vector_env.state) if self._by_reference else observations

    def _act(
        self, observations: NDArray[Any], steps_in_fragment: int, explore: bool
    ) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
        """Return the sampled actions [B, ...], the actions to send to the environment, and the other module outputs."""
        num_runners = self.config.num_env_runners or 1
        steps = (self.num_env_steps_sampled_lifetime // num_runners + steps_in_fragment) * num_runners
        batch = {Columns.OBS: torch.from_numpy(observations).to(self._device)}
        with torch.inference_mode():
            forward = self.module._forward_exploration if explore else self.module._forward_inference
            outputs = forward(batch, t=steps)
            sampled = outputs.pop(Columns.ACTIONS, None)
            if sampled is None:
                distribution = self.module.get_exploration_action_dist_cls()
                found = distribution.from_logits(outputs[Columns.ACTION_DIST_INPUTS])
                sampled = (found if explore else found.to_deterministic()).sample()
        actions = sampled.cpu().numpy()
        for_env = actions
        if self.config.clip_actions and np.issubdtype(actions.dtype, np.floating):
            space = self.env.single_action_space
            for_env = np.clip(actions, space.low, space.high)
        return actions, for_env, {name: value.cpu().numpy() for name, value in outputs.items()}

    def _step(self, actions: NDArray[Any]) -> Any:
        """Make one vector step; return None if it failed and `restart_failed_sub_environments` is set."""
        try:
            return self._vector_env.step(actions)
        except Exception as error:
            self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
            if not self.config.restart_failed_sub_environments:
                raise RuntimeError(f"environment step failed (env runner {self.worker_index}): {error}") from error
            logger.exception("An environment step failed; the environments are created again.")
            self.make_env()
            return None

    def _cut(self, fragment: Fragment, explore: bool) -> list[SingleAgentEpisode]:
        """Return the fragment's episode chunks; finished episodes come first, as from RLlib's env runner."""
        episodes = cut_episodes(
            fragment,
            self._streams,
            spaces=(None if self._by_reference else self.env.single_observation_space, self.env.single_action_space),
            extra=self._log_probabilities(fragment, explore),
            constants={WEIGHTS_SEQ_NO: self._weights_seq_no},
        )
        self._call_back(episodes)
        done = [episode for _, episode in episodes if episode.is_done]
        ongoing = [episode for _, episode in episodes if not episode.is_done]
        self._done_episodes_for_metrics.extend(done)
        for episode in ongoing:
            self._ongoing_episodes_for_metrics[episode.id_].append(episode)
        return done + ongoing

    def _log_probabilities(self, fragment: Fragment, explore: bool) -> dict[str, NDArray[Any]]:
        """Return log-probabilities of the sampled, unclipped actions, [R, B], in one pass over the fragment.

        Without exploration they are what RLlib gives for a deterministic distribution, zeros [R, B, A].
        """
        inputs = fragment.outputs.get(Columns.ACTION_DIST_INPUTS)
        if inputs is None or Columns.ACTION_LOGP in fragment.outputs:
            return {}
        found = self.module.get_exploration_action_dist_cls().from_logits(torch.from_numpy(inputs))
        distribution = found if explore else found.to_deterministic()
        return {Columns.ACTION_LOGP: distribution.logp(torch.from_numpy(fragment.actions)).numpy()}

    def _log_fragment(self, fragment: Fragment, num_done: int) -> None:
        step_s = fragment.times[-1] - fragment.times[0] - fragment.inference_s
        self.metrics.log_value(RLMODULE_INFERENCE_TIMER, fragment.inference_s / fragment.num_rows)
        self.metrics.log_value(ENV_STEP_TIMER, step_s / fragment.num_rows)
        self._log_env_steps(metric=self._metrics_num_try_env_step, num_steps=fragment.num_rows)
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=fragment.num_transitions)
        self._increase_sampled_metrics(fragment.num_transitions, num_done)

    def _call_back(self, episodes: list[tuple[int, SingleAgentEpisode]]) -> None:
        for index, episode in episodes:
            episode.custom_data.update(self._streams.custom_data[index])
            if episode.t_started == 0:
                self._make_episode_callback("on_episode_created", index, episode)
                self._make_episode_callback("on_episode_start", index, episode)
            if episode.is_done:
                chunks = self._ongoing_episodes_for_metrics.get(episode.id_, [])
                self._make_episode_callback("on_episode_end", index, episode, prev_episode_chunks=chunks)
            self._streams.custom_data[index] = {} if episode.is_done else copy.deepcopy(episode.custom_data)

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

    def _is_in_checkpoint(self) -> bool:
        """Return whether checkpoints hold the streams: only those of a local env runner for training are stored."""
        is_training_in_driver = not self.worker_index and not self.config.in_evaluation
        return self.env is not None and is_training_in_driver and hasattr(self._vector_env.unwrapped, "get_state")

    def _get_streams(self) -> dict[str, Any] | None:
        if self._streams is None:
            return None
        return {
            **self._streams.get_state(),
            "environment": self._vector_env.unwrapped.get_state(),
            "episode_rewards": {
                id_: [chunk.get_rewards() for chunk in chunks]
                for id_, chunks in self._ongoing_episodes_for_metrics.items()
            },
            "torch_generator": torch.get_rng_state().numpy(),
        }

    def _set_streams(self, state: dict[str, Any]) -> None:
        self._vector_env.unwrapped.set_state(state["environment"])
        self._needs_initial_reset = False
        self._streams = Streams.from_state(state)
        self._ongoing_episodes_for_metrics.clear()
        for id_, chunks in state["episode_rewards"].items():
            self._ongoing_episodes_for_metrics[id_] = [_rewards_only(id_, rewards) for rewards in chunks]
        torch.set_rng_state(torch.from_numpy(np.array(state["torch_generator"])))


def _rewards_only(id_: str, rewards: NDArray[Any]) -> SingleAgentEpisode:
    """Return an episode chunk that has only rewards, from which the return of a whole episode can be computed."""
    nothing = np.zeros((len(rewards) + 1, 0), dtype=np.float32)
    return SingleAgentEpisode(
        id_=id_,
        observations=nothing,
        actions=nothing[:-1],
        rewards=rewards,
        infos=[{}] * len(nothing),
        len_lookback_buffer=0,
    )
