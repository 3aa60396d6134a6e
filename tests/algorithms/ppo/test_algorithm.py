"""PPO as it is configured here: what its data says, what its learner learns from, what its checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO

from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.config import RunConfig
from rllib_portfolio.market import MarketData, gbm_market, load_market
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic
from tests.tiny_runs import tiny_config

GAMMA, LAMBDA = 0.9, 0.7
SETTINGS = {
    "environment.episode_days": 5,
    "training.gamma": GAMMA,
    "training.gae_lambda": LAMBDA,
    "training.rollout_steps": 24,
}
Build = Callable[..., ppo.PortfolioPPO]


@pytest.fixture(scope="module")
def market_path(tiny_market: MarketData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "market.npz"
    tiny_market.save(path)
    return path


@pytest.fixture
def build(ray_session: None, market_path: Path) -> Iterator[Build]:
    """Builds algorithms, on the tiny market unless told otherwise, and stops them."""
    built = []

    def build(settings: dict[str, Any] | None = None, path: Path = market_path) -> ppo.PortfolioPPO:
        built.append(ppo.build(tiny_config(SETTINGS, settings or {}), path))
        return built[-1]

    yield build
    for algorithm in built:
        algorithm.stop()


def rllib_config(market_path: Path, settings: dict[str, Any] | None = None) -> ppo.PortfolioPPOConfig:
    return ppo.algorithm_config(tiny_config(SETTINGS, settings or {}), market_path)


def sample(algorithm: ppo.PortfolioPPO, steps: int = 96) -> list[SingleAgentEpisode]:
    return algorithm.env_runner.sample(num_timesteps=steps)


def learned_module(algorithm: ppo.PortfolioPPO, run_config: RunConfig, market_path: Path) -> LayerNormActorCritic:
    """A network of our own, critic included, with the learner's weights."""
    env = algorithm.env_runner.get_spaces()[DEFAULT_MODULE_ID]
    module = LayerNormActorCritic(
        observation_space=env[0],
        action_space=env[1],
        inference_only=False,
        model_config=ppo.module_spec(run_config, MarketData.load(market_path)).model_config,
    )
    weights = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    module.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return module


def update(algorithm: ppo.PortfolioPPO, episodes: list[SingleAgentEpisode]) -> dict[str, float]:
    """One gradient step on whole episodes; what the learner reports of it."""
    (results,) = algorithm.learner_group.update(
        episodes=episodes,
        timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0},
        num_epochs=1,
        minibatch_size=None,
        shuffle_batch_per_epoch=False,
    )
    return {name: _number(value) for name, value in results[DEFAULT_MODULE_ID].items()}


def _number(value: Any) -> float:
    return float(value.peek() if hasattr(value, "peek") else value)


# ---------------------------------------------------------------- configuration


def test_actions_are_clipped_and_never_normalised(market_path: Path) -> None:
    config = rllib_config(market_path)
    assert config.normalize_actions is False
    assert config.clip_actions is True


@pytest.mark.parametrize(
    ("setting", "value", "field", "expected"),
    [
        ("training.gamma", 0.8, "gamma", 0.8),
        ("training.gae_lambda", 0.6, "lambda_", 0.6),
        ("training.clip", 0.1, "clip_param", 0.1),
        ("training.value_coefficient", 0.25, "vf_loss_coeff", 0.25),
        ("training.value_clip", 3.0, "vf_clip_param", 3.0),
        ("training.value_clip", None, "vf_clip_param", float("inf")),
        ("training.entropy_coefficient", 0.02, "entropy_coeff", 0.02),
        ("training.num_epochs", 7, "num_epochs", 7),
        ("training.minibatch_size", 48, "minibatch_size", 48),
        ("training.rollout_steps", 32, "train_batch_size_per_learner", 32 * 4),
        ("training.max_gradient_norm", None, "grad_clip", None),
        ("training.normalize_rewards", False, "normalize_rewards", False),
        ("training.learning_rate_end", None, "lr", 3e-3),
        ("training.learning_rate_end", 1e-4, "lr", [[0, 3e-3], [640, 1e-4]]),
        ("resources.num_env_runners", 2, "num_env_runners", 2),
        ("seed", 7, "seed", 7),
    ],
)
def test_a_setting_reaches_rllib(market_path: Path, setting: str, value: Any, field: str, expected: Any) -> None:
    assert getattr(rllib_config(market_path, {setting: value}), field) == expected


# ---------------------------------------------------------------- what env runners hand over


@pytest.mark.parametrize("env_runner", ["vectorised", "stock"])
def test_stored_log_probabilities_are_those_of_the_unclipped_sample(
    build: Build, market_path: Path, env_runner: str
) -> None:
    # logit_scale 1 and a deviation of e^0.5 logits: about half of the samples lie outside of [-1, 1]
    wide = {"environment.logit_scale": 1.0, "network.initial_log_std": 0.5, "resources.env_runner": env_runner}
    algorithm = build(wide)
    module = learned_module(algorithm, tiny_config(SETTINGS, wide), market_path)
    episodes = sample(algorithm)
    observations = torch.from_numpy(np.concatenate([episode.get_observations()[:-1] for episode in episodes]))
    if env_runner == "vectorised":  # its episodes hold observations by reference
        observations = ReferencedFeatures.of({"data": str(market_path)}, "cpu").observations(observations)
    actions = torch.from_numpy(np.concatenate([episode.get_actions() for episode in episodes]))
    stored = np.concatenate([episode.get_extra_model_outputs(Columns.ACTION_LOGP) for episode in episodes])
    with torch.no_grad():
        inputs = module.forward_train({Columns.OBS: observations})[Columns.ACTION_DIST_INPUTS]
    mean, log_std = inputs.chunk(2, dim=-1)
    density = torch.distributions.Normal(mean, log_std.exp())
    assert (actions.abs() > 1).float().mean() > 0.3
    np.testing.assert_allclose(stored, density.log_prob(actions).sum(-1), atol=1e-4)
    clipped = density.log_prob(actions.clamp(-1, 1)).sum(-1).numpy()
    assert np.abs(stored - clipped).max() > 0.5  # the wrong density would be seen


@pytest.mark.parametrize("env_runner", ["vectorised", "stock"])
def test_episodes_hold_the_rewards_of_the_environment_as_they_are(
    build: Build, tiny_market: MarketData, env_runner: str
) -> None:
    # all in cash: the log return of a day is that of cash, whatever is done
    in_cash = {
        "environment.min_cash": 1.0,
        "environment.reward": "log_return",
        "environment.execution_lag": 0,
        "resources.env_runner": env_runner,
    }
    for episode in sample(build(in_cash)):
        rows = episode.get_observations()[:-1, 0].astype(int)  # tiny_market: the first feature is the row
        np.testing.assert_allclose(episode.get_rewards(), np.log1p(tiny_market.cash_returns[rows + 1]), rtol=1e-6)


@pytest.mark.parametrize("env_runner", ["vectorised", "stock"])
def test_episodes_are_truncated_and_never_terminated(build: Build, env_runner: str) -> None:
    episodes = sample(build({"resources.env_runner": env_runner}))
    finished = [episode for episode in episodes if episode.is_done]
    assert finished
    assert all(episode.is_truncated and not episode.is_terminated and episode.t == 5 for episode in finished)


@pytest.mark.parametrize("env_runner", ["vectorised", "stock"])
def test_env_runners_walk_different_random_paths(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any], env_runner: str
) -> None:
    # RLlib's own seeds, seed + k for runner k and + i for its environment i, would share 15 of the 16 first days
    num_envs = 16
    settings = {"resources.num_envs_per_env_runner": num_envs, "resources.env_runner": env_runner}
    run_config = tiny_config(price_settings, settings)
    load_market(run_config.market).save(tmp_path / "market.npz")
    config = ppo.algorithm_config(run_config, tmp_path / "market.npz")
    first_days = []
    for worker_index in (1, 2):
        runner = config.env_runner_cls(config=config, worker_index=worker_index)
        episodes = runner.sample(num_timesteps=num_envs)
        assert len(episodes) == num_envs
        first_days.append({episode.get_observations()[0].tobytes() for episode in episodes})
        runner.stop()
    assert all(len(days) >= num_envs - 3 for days in first_days)  # of about 300: hardly one twice
    assert len(first_days[0] & first_days[1]) <= 3


# ---------------------------------------------------------------- what learners learn from


def hand_made_episode(length: int, seed: int, **end: bool) -> SingleAgentEpisode:
    """Random observations and rewards, as an env runner would hand them over."""
    rng = np.random.default_rng(seed)
    num_observations, num_actions = 3 * 2 + 1 + 4, 4  # of tiny_market
    return SingleAgentEpisode(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (num_observations,), np.float32),
        action_space=gym.spaces.Box(-1.0, 1.0, (num_actions,), np.float32),
        observations=list(rng.normal(size=(length + 1, num_observations)).astype(np.float32)),
        actions=list(rng.uniform(-1, 1, (length, num_actions)).astype(np.float32)),
        rewards=list(rng.normal(1.0, 3.0, length)),
        extra_model_outputs={
            Columns.ACTION_LOGP: list(rng.normal(size=length).astype(np.float32)),
            Columns.ACTION_DIST_INPUTS: list(rng.normal(size=(length, 2 * num_actions)).astype(np.float32)),
            WEIGHTS_SEQ_NO: [0] * length,
        },
        len_lookback_buffer=0,
        **end,
    ).to_numpy()


def value_targets(rewards: np.ndarray, values: np.ndarray, *, bootstraps: bool) -> np.ndarray:
    """A_t + V_t of one episode by the recursion of Schulman et al. (2016), values [T + 1] including the last one."""
    advantage, targets = 0.0, np.zeros(len(rewards))
    for t in reversed(range(len(rewards))):
        next_value = values[t + 1] if t + 1 < len(rewards) or bootstraps else 0.0
        advantage = rewards[t] + GAMMA * next_value - values[t] + GAMMA * LAMBDA * advantage
        targets[t] = advantage + values[t]
    return targets


@pytest.mark.parametrize("learner", ["fused", "stock"])
def test_value_targets_bootstrap_at_truncation_and_at_the_end_of_a_fragment_only(
    build: Build, market_path: Path, learner: str
) -> None:
    episodes = [
        hand_made_episode(5, seed=1, truncated=True),
        hand_made_episode(3, seed=2),  # goes on in the next fragment
        hand_made_episode(4, seed=3, terminated=True),
        hand_made_episode(1, seed=4, truncated=True),
    ]
    settings = {"resources.learner": learner, "training.market_baseline": False}  # such episodes know no market
    algorithm = build(settings)
    module = learned_module(algorithm, tiny_config(SETTINGS, settings), market_path)
    with torch.no_grad():
        values = [
            module.compute_values({Columns.OBS: torch.from_numpy(episode.get_observations())}).numpy().astype(float)
            for episode in episodes
        ]

    def expected(bootstraps: list[bool]) -> tuple[float, float]:
        """Value loss and explained variance of the first update."""
        targets = np.concatenate(
            [
                value_targets(np.asarray(episode.get_rewards()), value, bootstraps=last)
                for episode, value, last in zip(episodes, values, bootstraps, strict=True)
            ]
        )
        errors = targets - np.concatenate([value[:-1] for value in values])
        return float(np.mean(errors**2)), float(1 - errors.var() / targets.var())

    right = [True, True, False, True]
    value_loss, explained_variance = expected(right)
    for index in range(len(episodes)):  # each flag matters: the wrong one gives another number
        wrong = [flag != (index == other) for other, flag in enumerate(right)]
        assert abs(expected(wrong)[0] - value_loss) > 1e-3 * value_loss
    reported = update(algorithm, episodes)
    assert reported["vf_loss"] == pytest.approx(value_loss, rel=1e-4)
    if learner == "fused":  # RLlib's own counts the steps that it adds for bootstrapping, too
        assert reported["vf_explained_var"] == pytest.approx(explained_variance, abs=1e-4)


@pytest.mark.parametrize("learner", ["fused", "stock"])
def test_a_gradient_reaches_every_parameter(build: Build, tmp_path: Path, learner: str) -> None:
    # observations of no features, so that no tanh is saturated: the weights alone
    gbm_market(num_days=300).save(tmp_path / "gbm.npz")
    algorithm = build({"resources.learner": learner, "training.learning_rate_end": None}, tmp_path / "gbm.npz")
    episodes = sample(algorithm)
    before = {name: np.array(value) for name, value in algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID].items()}
    update(algorithm, episodes)  # Adam moves what has a gradient, by about the learning rate
    after = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    assert before.keys() == after.keys()
    unmoved = [name for name, value in before.items() if not (np.abs(np.array(after[name]) - value) > 1e-4).any()]
    assert unmoved == []


@pytest.mark.parametrize(("normalise", "earlier_std"), [(False, None), (True, None), (True, 1.5e-5)])
def test_learners_see_scaled_rewards_and_reports_raw_ones(
    build: Build, monkeypatch: pytest.MonkeyPatch, normalise: bool, earlier_std: float | None
) -> None:
    from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN

    # rewards of 1, 2 and 3 basis points; after a million of 0.15 the last two are above ten deviations
    in_cash = {"environment.min_cash": 1.0, "environment.reward": "log_return"}
    algorithm = build({**in_cash, "training.normalize_rewards": normalise})
    scale, earlier = algorithm.reward_scale, 10**6 if earlier_std else 0
    if earlier_std:
        moments = {"count": earlier, "mean": 0.0, "sum_of_squares": earlier * earlier_std**2}
        scale.set_state({**moments, "open_sums": {}})
    sampled, learned = [], []
    sample, learn = algorithm.env_runner.sample, algorithm.learner_group.update

    def noted_sample(**kwargs: Any) -> list[SingleAgentEpisode]:
        episodes = sample(**kwargs)
        sampled.extend((np.array(episode.get_rewards()), episode.is_done) for episode in episodes)
        return episodes

    def noted_update(*, episodes: list[SingleAgentEpisode], **kwargs: Any) -> Any:
        learned.extend(np.array(episode.get_rewards()) for episode in episodes)
        return learn(episodes=episodes, **kwargs)

    monkeypatch.setattr(algorithm.env_runner, "sample", noted_sample)
    monkeypatch.setattr(algorithm.learner_group, "update", noted_update)
    result = algorithm.train()
    raw = np.concatenate([rewards for rewards, _ in sampled])
    assert len(raw) == 4 * 24
    assert scale.count == earlier + 4 * 24 * normalise
    assert scale.std < 1e-3 if normalise else scale.std == 1.0
    expected = raw / scale.std
    assert np.mean(expected > 10.0) == pytest.approx(2 / 3 if earlier_std else 0.0, abs=0.1)  # and none is clipped
    np.testing.assert_allclose(np.concatenate(learned), expected, rtol=1e-6)
    returns = [rewards.sum() for rewards, is_done in sampled if is_done]
    assert result[ENV_RUNNER_RESULTS][EPISODE_RETURN_MEAN] == pytest.approx(np.mean(returns), rel=1e-9)


# ---------------------------------------------------------------- checkpoint


def flat(state: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts, lists and tuples as one dict of leaves."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {prefix: state}
    leaves: dict[str, Any] = {}
    for name, value in items:
        leaves |= flat(value, f"{prefix}/{name}")
    return leaves


def learner_state(algorithm: ppo.PortfolioPPO) -> dict[str, Any]:
    state = algorithm.learner_group.get_state(components=["learner"])["learner"]
    return flat({name: state[name] for name in ("rl_module", "optimizer")})


@pytest.mark.parametrize("learner", ["fused", "stock"])
def test_a_checkpoint_restores_network_optimiser_reward_scale_and_counters(
    build: Build, tmp_path: Path, learner: str
) -> None:
    settings = {"resources.learner": learner}
    algorithm = build(settings)
    for _ in range(2):
        result = algorithm.train()
    algorithm.save_to_path(str(tmp_path / "rllib"))
    restored = build(settings)
    fresh = learner_state(restored)
    restored.restore_from_path(str(tmp_path / "rllib"))
    before, after = learner_state(algorithm), learner_state(restored)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(after[name]), err_msg=name)
    assert any("exp_avg_sq" in name for name in before)
    assert not any("exp_avg_sq" in name for name in fresh)  # a new optimiser has none
    assert restored.reward_scale.get_state() == algorithm.reward_scale.get_state()
    assert restored.reward_scale.count == 2 * 4 * 24
    steps = result["env_runners"]["num_env_steps_sampled_lifetime"]
    assert restored.train()["env_runners"]["num_env_steps_sampled_lifetime"] == steps + 4 * 24
