"""Each setting of RLlib's PPO and DQN has the effect that RLlib gives it, or is refused by its name.

The tables of `rllib_settings` hold every attribute of the two configurations, so that a new version of RLlib that
brings a setting fails here until somebody has found out which table it belongs to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import DEPRECATED_VALUE
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.dqn.learner import FusedDQNLearner
from rllib_portfolio.algorithms.dqn.refused_settings import DQN_RULES
from rllib_portfolio.algorithms.off_policy import REPLAY_BUFFER
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.algorithms.ppo.refused_settings import PPO_RULES
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS
from rllib_portfolio.algorithms.sampling.env_runner import VectorisedEnvRunner
from rllib_portfolio.algorithms.sampling.seeded_env_runner import ASSET_RETURNS, SeededEnvRunner
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests.algorithms.dqn import dqn_runs
from tests.algorithms.ppo.test_learner import TIMESTEPS, for_stock
from tests.algorithms.rllib_settings import (
    ATTRIBUTES,
    BY_RLLIB,
    DERIVED,
    DQN_DRAWN,
    DQN_IGNORES,
    DQN_LEARNED,
    DQN_REFUSES,
    ELSEWHERE,
    LSTM,
    OURS,
    PPO_LEARNED,
    PPO_REFUSES,
    PPO_SAMPLED,
    PPO_TRAINED,
    RLLIBS_NETWORK,
    SAMPLED,
    Config,
    Diary,
    OneMore,
    setting_of,
    without_counterfactuals,
)
from tests.algorithms.sampling import samples as sampling
from tests.algorithms.sampling.samples import build_learner, build_runner, sent, weights

# ---------------------------------------------------------------- every setting is in a table


@pytest.mark.parametrize(
    ("config", "of_rllib", "tables"),
    [
        (ppo.PortfolioPPOConfig, PPOConfig, (PPO_REFUSES, PPO_SAMPLED, PPO_LEARNED, PPO_TRAINED)),
        (dqn.PortfolioDQNConfig, DQNConfig, (DQN_REFUSES, PPO_SAMPLED, DQN_LEARNED, DQN_DRAWN)),
    ],
)
def test_every_setting_is_in_a_table(
    config: type[Any], of_rllib: type[Any], tables: tuple[Mapping[str, Any], ...]
) -> None:
    settings = set(vars(config()))
    deprecated = {name for name, value in vars(of_rllib()).items() if value == DEPRECATED_VALUE}
    known = {ATTRIBUTES.get(setting_of(case), setting_of(case)) for table in tables for case in table}
    by_rllib = {name for names in BY_RLLIB.values() for name in names.split()}
    known |= DQN_IGNORES if of_rllib is DQNConfig else set()
    missing = settings - deprecated - known - by_rllib - OURS - ELSEWHERE.keys()
    assert not missing, (
        f"RLlib's {of_rllib.__name__} has settings of which nobody knows whether our env runners, learners and "
        f"training steps follow them: {sorted(missing)}. Find out, refuse them in refused_settings.py if they do not, "
        "and put each into one of the tables of tests/algorithms/rllib_settings.py."
    )
    assert not by_rllib & known, "a setting is in one table"


def test_no_table_holds_what_rllib_no_longer_has() -> None:
    attributes = vars(ppo.PortfolioPPOConfig()).keys() | vars(dqn.PortfolioDQNConfig()).keys()
    of_tables = {
        ATTRIBUTES.get(setting_of(case), setting_of(case))
        for table in (PPO_REFUSES, DQN_REFUSES, PPO_SAMPLED, PPO_LEARNED, DQN_LEARNED, PPO_TRAINED, ELSEWHERE)
        for case in table
    }
    of_tables |= {name for names in BY_RLLIB.values() for name in names.split()} | OURS
    assert of_tables - attributes == DERIVED


# ---------------------------------------------------------------- refused


@pytest.fixture(scope="module")
def market_path(tiny_market: MarketData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny market with features of ordinary size."""
    path = tmp_path_factory.mktemp("market") / "tiny.npz"
    rng = np.random.default_rng(0)
    features = {name: getattr(tiny_market, name) for name in ("asset_features", "market_features")}
    noise = {name: rng.standard_normal(array.shape, dtype=np.float32) for name, array in features.items()}
    replace(tiny_market, **noise).save(path)
    return path


@pytest.fixture(params=["ppo", "dqn"])
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_of(algorithm: str, market_path: Path, settings: Mapping[str, Any] | None = None) -> Config:
    if algorithm == "ppo":
        return sampling.algorithm_config(market_path, settings)
    return dqn.algorithm_config(dqn_runs.run_config(settings), market_path).callbacks(sampling.WhereFrom)


def test_what_is_not_changed_is_not_refused(algorithm: str, market_path: Path) -> None:
    for settings in ({}, {"resources.learner": "stock"}, {"resources.env_runner": "stock"}):
        config_of(algorithm, market_path, settings).validate()


@pytest.mark.parametrize(
    ("algorithm", "case"), [*(("ppo", case) for case in PPO_REFUSES), *(("dqn", case) for case in DQN_REFUSES)]
)
def test_a_setting_that_cannot_be_followed_is_refused_by_name(algorithm: str, case: str, market_path: Path) -> None:
    config = config_of(algorithm, market_path)
    (PPO_REFUSES if algorithm == "ppo" else DQN_REFUSES)[case](config)
    with pytest.raises(ConfigError, match=rf"^{setting_of(case)} must .+, got .+ \(Portfolio.+\)\. .+\.$"):
        config.validate()


def test_every_refusal_is_tested() -> None:
    for rules, table in ((PPO_RULES, PPO_REFUSES), (DQN_RULES, DQN_REFUSES)):
        assert {rule.setting for rule in rules} == {setting_of(case) for case in table}


# ---------------------------------------------------------------- env runners

FAST = {
    "rollout_fragment_length",
    "num_envs_per_env_runner",
    "env_config",
    "seed",
    "gym_env_vectorize_mode",
    "clip_actions",
    "explore",
}
"""Settings that leave the fast path on: its chunks have no lookback, which nobody reads."""


def sampled(runner_class: type[SeededEnvRunner], config: Config, fragments: int = 3) -> tuple[Any, list[Any]]:
    runner: Any = build_runner(runner_class, config)
    torch.manual_seed(7)
    return runner, [runner.sample() for _ in range(fragments)]


def assert_same_chunk(ours: Any, stock: Any, with_lookback: bool) -> None:
    for name in ("t_started", "t", "is_done", "is_terminated", "is_truncated", "is_numpy", "custom_data"):
        assert getattr(ours, name) == getattr(stock, name), name
    for name in ("observations", "actions", "rewards", "infos"):
        np.testing.assert_equal(getattr(ours, f"get_{name}")(), getattr(stock, f"get_{name}")())
        if with_lookback:
            assert getattr(ours, name).lookback == getattr(stock, name).lookback
    assert ours.extra_model_outputs.keys() == stock.extra_model_outputs.keys()
    for name in stock.extra_model_outputs:
        mine, theirs = (np.asarray(chunk.get_extra_model_outputs(name)) for chunk in (ours, stock))
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6 if name == Columns.ACTION_LOGP else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "setting"),
    [*(("ppo", setting) for setting in PPO_SAMPLED), *(("dqn", setting) for setting in SAMPLED)],
)
def test_env_runners_sample_what_rllibs_does(algorithm: str, setting: str, market_path: Path) -> None:
    config = config_of(algorithm, market_path)
    (PPO_SAMPLED if algorithm == "ppo" else SAMPLED)[setting](config)
    stock, of_stock = sampled(SeededEnvRunner, config)
    ours, of_ours = sampled(VectorisedEnvRunner, config)
    for mine, theirs in zip(of_ours, of_stock, strict=True):
        by_environment, expected = (sampling.chunks_by_environment(*of) for of in ((ours, mine), (stock, theirs)))
        assert by_environment.keys() == expected.keys()
        for index, chunks in expected.items():
            for chunk, other in zip(by_environment[index], chunks, strict=True):
                assert_same_chunk(chunk, other, with_lookback=setting not in FAST)
                assert {ASSET_RETURNS, *(COLUMNS if algorithm == "dqn" else ())} <= chunk.extra_model_outputs.keys()
    assert getattr(ours, "diary", []) == getattr(stock, "diary", [])
    assert ("callbacks" in setting) == hasattr(ours, "diary")


@pytest.mark.slow
def test_rllibs_own_runner_samples_the_same(algorithm: str, market_path: Path) -> None:
    """Our env runner adds columns to the episodes and changes nothing else."""
    config = config_of(algorithm, market_path)
    ours, of_ours = sampled(SeededEnvRunner, config)
    rllibs: Any = build_runner(SingleAgentEnvRunner, config)  # type: ignore[arg-type]
    rllibs._seed = ours._seed
    torch.manual_seed(7)
    for mine, theirs in zip(of_ours, [rllibs.sample() for _ in of_ours], strict=True):
        for chunk, other in zip(mine, theirs, strict=True):
            for name in chunk.extra_model_outputs.keys() - other.extra_model_outputs.keys():
                assert chunk.extra_model_outputs[name].lookback == chunk.actions.lookback
                del chunk.extra_model_outputs[name]
            assert_same_chunk(chunk, other, with_lookback=True)


# ---------------------------------------------------------------- learners


def assert_same_weights(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Nearly all: Adam moves a parameter whose gradient is rounding a whole step, up or down."""
    differences = np.concatenate([np.abs(ours[name] - theirs[name]).ravel() for name in theirs])
    assert np.quantile(differences, 0.9) < 1e-4


def differ(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return max(float(np.abs(first[name] - second[name]).max()) for name in first) > 1e-4


def batch_of(learner: Any, episodes: list[Any]) -> Any:
    """The batch that the learner will make of episodes next; its running scale is left as it is."""
    scale = copy.deepcopy(learner._batches.scale.get_state())
    batch, _ = learner._batches.build(episodes)
    learner._batches.scale.set_state(scale)
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("setting", PPO_LEARNED)
def test_ppo_learns_what_rllibs_does(setting: str, market_path: Path) -> None:
    changed, base = PPO_LEARNED[setting]
    results = []
    for values in (changed, base):
        config = sampling.algorithm_config(market_path, {"training.market_baseline": False}).training(**values)
        runner, (episodes,) = sampled(VectorisedEnvRunner, config, fragments=1)
        ours, stock = (build_learner(cls, config, runner) for cls in (FusedPPOLearner, PPOTorchLearner))
        batch = batch_of(ours, episodes)
        of_rllib = stock._learner_connector(
            rl_module=stock.module, batch={}, episodes=sent(episodes), shared_data={}, metrics=stock.metrics
        )[DEFAULT_MODULE_ID]
        torch.testing.assert_close(
            of_rllib[Postprocessing.VALUE_TARGETS][of_rllib[Columns.LOSS_MASK]],
            batch.value_targets,
            rtol=1e-5,
            atol=1e-6,
        )
        for _ in range(2):  # the second starts from another KL coefficient
            batch = batch_of(ours, episodes)
            ours.update(episodes=episodes, timesteps=TIMESTEPS, num_epochs=2)
            stock.update(batch=for_stock(batch, 33), timesteps=TIMESTEPS, num_epochs=2)
        results.append(weights(ours))
        assert_same_weights(results[-1], weights(stock))
    assert differ(*results)


@pytest.mark.parametrize("setting", DQN_LEARNED)
def test_dqn_learns_what_rllibs_does(ray_session: None, setting: str) -> None:
    changed, base = DQN_LEARNED[setting]
    results = []
    for values in (changed, base):
        of_each = []
        for learner_class in (FusedDQNLearner, DQNTorchLearner):
            learner = dqn_learner(learner_class, values)
            for update in range(8):
                batch = dqn_runs.multi_agent(dqn_runs.random_columns(seed=update))
                learner.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 25 * update})
            of_each.append(dqn_runs.weights(learner))
        assert_same_weights(*of_each)
        results.append(of_each[0])
    assert differ(*results)


def dqn_learner(learner_class: type[Any], values: Mapping[str, Any]) -> Any:
    """Return a learner without noisy layers, because RLlib's learner draws other noise."""
    run_config = dqn_runs.run_config({"network.noisy": False, "training.learning_rate": 1e-2})
    torch.manual_seed(0)
    spec = dqn.module_spec(run_config, dqn_runs.MARKET)
    spec.observation_space = gym.spaces.Box(-np.inf, np.inf, (dqn_runs.D,), np.float32)
    spec.action_space = gym.spaces.Discrete(dqn_runs.K)
    config = dqn.algorithm_config(run_config, dqn_runs.MARKET_PATH).training(**{"gamma": 0.9} | values)
    learner = learner_class(config=config, module_spec=spec)
    learner.build()
    return learner


# ---------------------------------------------------------------- algorithms


@pytest.fixture
def build(ray_session: None) -> Iterator[Callable[[Config], Any]]:
    """Builds algorithms, and stops them."""
    built = []

    def build(config: Config) -> Any:
        built.append(config.build_algo())
        return built[-1]

    yield build
    for algorithm in built:
        algorithm.stop()


ONE_STEP = {"training.minibatch_size": 33, "training.num_epochs": 1}
"""One gradient step on the whole batch: the order of episodes does not matter."""


def learned_with(build: Any, config: Config) -> dict[str, np.ndarray]:
    torch.manual_seed(7)
    algorithm = build(config)
    torch.manual_seed(8)
    algorithm.train()
    weights: dict[str, np.ndarray] = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    return {name: np.array(value) for name, value in weights.items()}


def test_a_callback_leaves_the_algorithm_as_it_is(build: Any, market_path: Path) -> None:
    learned = [
        learned_with(build, sampling.algorithm_config(market_path, ONE_STEP | settings).callbacks(callbacks))
        for callbacks, settings in (
            (sampling.WhereFrom, {}),
            (Diary, {}),
            (sampling.WhereFrom, {"resources.env_runner": "stock"}),
            (sampling.WhereFrom, {"training.market_baseline": False}),
        )
    ]
    for other in learned[1:3]:
        assert_same_weights(learned[0], other)
        for name, value in learned[0].items():
            np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)
    assert differ(learned[0], learned[3])


@pytest.mark.parametrize("setting", PPO_TRAINED)
def test_learners_are_called_as_by_rllibs_training_step(
    build: Any, market_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = PPO_TRAINED[setting]
    algorithm = build(sampling.algorithm_config(market_path).training(normalize_rewards=False, **values))
    calls: list[dict[str, Any]] = []
    update = algorithm.learner_group.update

    def noted(episodes: Any, timesteps: Any, **kwargs: Any) -> Any:
        calls.append({**kwargs, "steps": sum(map(len, episodes))})
        return update(episodes=episodes, timesteps=timesteps, **kwargs)

    monkeypatch.setattr(algorithm.learner_group, "update", noted)
    for training_step in (PPO.training_step, type(algorithm).training_step):
        training_step(algorithm)
    of_rllib, ours = calls
    assert ours == of_rllib
    steps = values.pop("train_batch_size_per_learner", None)
    assert ours["steps"] == (steps or 33)
    assert values.items() <= ours.items()


@pytest.mark.parametrize("setting", DQN_DRAWN)
def test_batches_are_drawn_as_by_rllibs_training_step(
    build: Any, market_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("dqn", market_path).training(num_steps_sampled_before_learning_starts=20, **DQN_DRAWN[setting])
    algorithm = build(config)
    calls: list[dict[str, Any]] = []
    sample = algorithm.local_replay_buffer.sample

    def noted(num_items: int, **kwargs: Any) -> Any:
        calls.append({"num_items": num_items, "n_step": kwargs["n_step"], "gamma": kwargs["gamma"]})
        raise StopIteration

    algorithm.train()
    monkeypatch.setattr(algorithm.local_replay_buffer, "sample", noted)
    for training_step in (DQN.training_step, type(algorithm).training_step):
        with pytest.raises(StopIteration):
            training_step(algorithm)
    of_rllib, ours = calls
    assert ours == of_rllib
    monkeypatch.undo()
    assert len(sample(**ours)[Columns.OBS]) == config.train_batch_size_per_learner
    algorithm.train()


def test_evaluation_may_differ_from_training(build: Any, algorithm: str, market_path: Path) -> None:
    changed = {"gym_env_vectorize_mode": "sync", "explore": False}
    config = config_of(algorithm, market_path).evaluation(evaluation_interval=1, evaluation_duration=2)
    results = build(config.evaluation(evaluation_config=changed)).train()
    assert results["evaluation"]["env_runners"]["num_episodes"] == 2
    with pytest.raises(ConfigError, match=r"^output must be None"):
        build(config.evaluation(evaluation_config={"output": "episodes"}))


def test_a_stateful_network_needs_rllibs_learner(build: Any, market_path: Path) -> None:
    def config(learner: str) -> Config:
        settings = {"training.market_baseline": False, "resources.learner": learner}
        return sampling.algorithm_config(market_path, settings).rl_module(rl_module_spec=LSTM)

    with pytest.raises(ConfigError, match=r"^rl_module_spec must give a stateless RLModule, got Default.*stock\)\.$"):
        build(config("fused"))
    build(config("stock")).train()
    recurrent = RLModuleSpec(DefaultDQNTorchRLModule, model_config={"use_lstm": True, "max_seq_len": 4})
    with pytest.raises(ConfigError, match=r"^rl_module_spec must give a stateless RLModule, got DefaultDQN"):
        build(without_counterfactuals(config_of("dqn", market_path)).rl_module(rl_module_spec=recurrent))


def test_rllibs_network_learns_without_the_market_baseline(build: Any, market_path: Path) -> None:
    config = sampling.algorithm_config(market_path, {"training.market_baseline": False})
    build(config.rl_module(rl_module_spec=RLLIBS_NETWORK)).train()


def test_the_market_baseline_needs_observations_of_the_environments_shape(build: Any, market_path: Path) -> None:
    def config(market_baseline: bool) -> Config:
        settings = {"training.market_baseline": market_baseline}
        return sampling.algorithm_config(market_path, settings).env_runners(
            env_to_module_connector=lambda env, spaces, device: OneMore()
        )

    with pytest.raises(ConfigError, match=r"^env_to_module_connector must keep the shape"):
        build(config(True))
    build(config(False)).train()


class TellsNothing(PortfolioVectorEnv):
    def step(self, actions: Any) -> Any:
        *step, infos = super().step(actions)
        return *step, {name: value for name, value in infos.items() if ASSET_RETURNS not in name}


@pytest.mark.parametrize("env_runner", ["vectorised", "stock"])
def test_the_market_baseline_needs_an_environment_that_tells_returns(
    build: Any, market_path: Path, env_runner: str
) -> None:
    gym.register("tests/TellsNothing-v0", entry_point=TellsNothing, vector_entry_point=TellsNothing)
    config = sampling.algorithm_config(market_path, {"resources.env_runner": env_runner})
    config.environment("tests/TellsNothing-v0")
    with pytest.raises(ConfigError, match=r"^market_baseline must be False where episodes have no asset_returns"):
        build(config).train()
    build(config.copy(copy_frozen=False).training(market_baseline=False)).train()
    del gym.registry["tests/TellsNothing-v0"]


def test_learning_starts_under_rllibs_name(market_path: Path) -> None:
    config = config_of("dqn", market_path)
    assert config.training(num_steps_sampled_before_learning_starts=77).learning_starts == 77
    assert config.training(learning_starts=88).learning_starts == 88


def test_a_buffer_is_in_checkpoints_if_asked_for(build: Any, market_path: Path) -> None:
    config = config_of("dqn", market_path).training(replay_buffer_config={"beta": 0.5, "capacity": 99})
    for asked in (True, False):
        algorithm = build(config.copy(copy_frozen=False).training(store_buffer_in_checkpoints=asked))
        assert (REPLAY_BUFFER in algorithm.get_state()) == asked
    buffer = algorithm.local_replay_buffer
    assert (buffer.capacity, buffer.beta(0), buffer.beta(10**9)) == (99, 0.5, 0.5)
