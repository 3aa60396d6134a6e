"""Training in a universe: the learners agree with RLlib's, and what cannot be traded is neither chosen nor learned."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, TD_ERROR_KEY

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.dqn.learner import FusedDQNLearner
from rllib_portfolio.algorithms.learning.market_baseline import mean_of_others
from rllib_portfolio.algorithms.learning.train_batch import BatchBuilder
from rllib_portfolio.algorithms.memory import estimated_bytes
from rllib_portfolio.algorithms.policy_export import current_policy
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.algorithms.replay.replay_buffer import N_STEP, WEIGHTS
from rllib_portfolio.algorithms.sampling.counterfactual import Counterfactuals, state_columns
from rllib_portfolio.algorithms.sampling.env_runner import VectorisedEnvRunner
from rllib_portfolio.algorithms.sampling.seeded_env_runner import SeededEnvRunner
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import DQNRunConfig, PPORunConfig, QNetworkConfig
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.env.action_map import ActionInputs
from rllib_portfolio.env.action_table import ActionTable
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.portfolio_env import provide_market
from rllib_portfolio.env.transition import State
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.modules.diagonal_gaussian import MaskedGaussian
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.runs.folder import create_run_folder
from rllib_portfolio.statistics.metrics import kurtosis
from tests.algorithms.dqn import dqn_runs
from tests.algorithms.ppo.test_learner import TIMESTEPS, assert_same_way, for_stock, updated
from tests.algorithms.sampling import samples
from tests.universes import universe_market

PPO = {"network.architecture": "per_asset", "network.hidden_sizes": (8,)}
DQN = {"network.architecture": "per_asset", "network.hidden_sizes": (16, 8)}
TABLES = ["ladder", "quantiles"]


@pytest.fixture(scope="module")
def market() -> MarketData:
    return universe_market(150, 6)


@pytest.fixture(scope="module")
def market_path(market: MarketData) -> Path:
    path = Path("universe in memory.npz")
    provide_market(str(path), market)
    return path


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(("config", "sizes"), [(PPORunConfig(), (16,)), (DQNRunConfig(), (16, 32))])
def test_auto_scores_each_asset_of_a_universe_and_flat_is_refused(
    config: Any, sizes: tuple[int, ...], market: MarketData, tmp_path: Path
) -> None:
    chosen = config.for_assets(market.num_assets, True).network
    assert (chosen.architecture, chosen.hidden_sizes) == ("per_asset", sizes)
    assert config.for_assets(market.num_assets).network.architecture == "flat"
    start_notes = ppo.start_notes if config.algo == "ppo" else dqn.start_notes
    text = " ".join(start_notes(config, market))
    assert "The network is per_asset" in text
    assert "because network.architecture is auto and the assets come and go" in text
    flat = config.model_copy(update={"network": config.network.model_copy(update={"architecture": "flat"})})
    expected = (
        r"^network\.architecture must be per_asset in a market whose assets come and go, got flat, .* \(network\)\. "
        r"Set network\.architecture=per_asset, or auto\.$"
    )
    for use in (
        lambda: create_run_folder(tmp_path / "run", flat, market),
        lambda: estimated_bytes(flat, market),
        lambda: (ppo if config.algo == "ppo" else dqn).module_spec(flat, market),
    ):
        with pytest.raises(ConfigError, match=expected):
            use()
    assert not (tmp_path / "run").exists()


def test_a_running_filter_is_refused() -> None:
    config = PPORunConfig(market={"observation_filter": "running"})
    assert config.for_assets(5) == PPORunConfig(market={"observation_filter": "running"}).for_assets(5)
    with pytest.raises(
        ConfigError, match=r"^market\.observation_filter must be train_window or none in a market whose"
    ):
        config.for_assets(5, True)


def test_a_lattice_cannot_be_learned_in_a_universe(market: MarketData) -> None:
    config = DQNRunConfig(environment={"action_table": "lattice", "action_levels": 1})
    with pytest.raises(ConfigError, match=r"must be ladder or quantiles with network\.architecture=per_asset"):
        dqn.module_spec(config, market)


def test_the_q_network_of_a_complete_market_is_the_flat_one() -> None:
    spec = dqn.module_spec(DQNRunConfig(), dqn_runs.MARKET)
    assert spec.model_config == {**QNetworkConfig(architecture="flat").model_dump(), "epsilon": (1.0, 0.05, 100_000)}


# ---------------------------------------------------------------- PPO


def sampled(market_path: Path, runner_class: Any = VectorisedEnvRunner) -> tuple[Any, Any, list[Any]]:
    config = samples.algorithm_config(market_path, PPO)
    runner = samples.build_runner(runner_class, config)
    torch.manual_seed(7)
    return config, runner, runner.sample()


def test_ppo_updates_end_in_the_weights_of_rllibs_learner(ray_session: None, market_path: Path) -> None:
    config, runner, episodes = sampled(market_path)
    ours, stock = (samples.build_learner(each, config, runner) for each in (FusedPPOLearner, PPOTorchLearner))
    start = samples.weights(ours)
    for _ in range(2):
        batch, _ = ours._batches.build(episodes)
        updated(ours, episodes, num_epochs=3)
        stock.update(batch=for_stock(batch, 33), timesteps=TIMESTEPS, num_epochs=3)
    assert_same_way(samples.weights(ours), samples.weights(stock), start)


def test_what_cannot_be_traded_has_the_action_zero_in_both_env_runners(
    ray_session: None, market_path: Path, market: MarketData
) -> None:
    num_features = len(market.asset_feature_names)
    of_runners = [sampled(market_path, each)[2] for each in (VectorisedEnvRunner, SeededEnvRunner)]
    for episodes in of_runners:
        observations = np.concatenate([episode.get_observations()[:-1] for episode in episodes])
        actions = np.concatenate([episode.get_actions() for episode in episodes])
        logp = np.concatenate([episode.get_extra_model_outputs(Columns.ACTION_LOGP) for episode in episodes])
        inputs = np.concatenate([episode.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS) for episode in episodes])
        tradable = observations[:, num_features - 1 : 6 * num_features : num_features] > 0.5
        assert 0.2 < tradable.mean() < 0.95
        assert (actions[:, :-1][~tradable] == 0.0).all()
        assert (actions[:, :-1][tradable] != 0.0).all()
        distribution = MaskedGaussian.from_logits(torch.from_numpy(inputs))
        np.testing.assert_allclose(distribution.logp(torch.from_numpy(actions)).numpy(), logp, rtol=1e-5, atol=1e-5)


def test_an_update_does_not_depend_on_what_is_stored_for_actions_that_cannot_be_traded(
    ray_session: None, market_path: Path
) -> None:
    config, runner, episodes = sampled(market_path)
    ends = []
    for noise in (0.0, 50.0):
        learner = samples.build_learner(FusedPPOLearner, config, runner)
        batch, _ = learner._batches.build(episodes)
        is_constant = batch.distribution_inputs[:, 7:] == -torch.inf
        assert is_constant.any()
        batch = batch._replace(actions=torch.where(is_constant, noise * torch.randn(33, 7), batch.actions))
        learner._run_epochs(batch, 2, None, False)
        ends.append(samples.weights(learner))
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name])


def test_the_market_baseline_sees_no_weight_in_what_cannot_be_traded(
    ray_session: None, market_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, runner, episodes = sampled(market_path)
    forward, seen = BatchBuilder._distribution_inputs, []

    def noted(builder: BatchBuilder, observations: torch.Tensor) -> torch.Tensor:
        seen.append(observations)
        return forward(builder, observations)

    monkeypatch.setattr(BatchBuilder, "_distribution_inputs", noted)
    batch, _ = samples.build_learner(FusedPPOLearner, config, runner)._batches.build(episodes)
    weights, own = seen[0][:, -7:].numpy(), batch.observations[:, -7:].numpy()
    tradable = (batch.distribution_inputs[:, 7:-1] > -torch.inf).numpy()
    assert (~tradable).any()
    others = mean_of_others(own.astype(np.float64), [len(episode) for episode in episodes])
    assert (others[:, :-1][~tradable] > 0.0).any()
    assert (weights[:, :-1][~tradable] == 0.0).all()
    np.testing.assert_allclose(weights[:, :-1][tradable], others[:, :-1][tradable], rtol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)


def test_ppo_measures_rare_losses_on_the_days_on_which_an_asset_can_be_held() -> None:
    # On half of its days an asset returns 1 %, on half -1 %: a kurtosis of 1, and of 150 with the zeros of the days
    # before it lists. An asset that becomes worthless has one dominating loss, which its holders bear.
    listed = np.ones((3_000, 2), dtype=bool)
    listed[:2_980, 1] = False
    never = np.full(2, np.nan)
    late = universe_market(3_000, 2, listed=listed, member=listed, quoted=listed, exit_return=never)
    moves = np.where(listed, np.where(np.arange(3_000) % 2, 0.01, -0.01)[:, None], 0.0)
    late = replace(late, returns=moves)
    assert kurtosis(moves[:, 1]) > 100.0
    assert "kurtosis" not in " ".join(ppo.start_notes(PPORunConfig(), late))
    ends = np.ones((3_000, 2), dtype=bool)
    ends[2_000:, 1] = False
    bankrupt = np.array([np.nan, -1.0])
    left = universe_market(3_000, 2, listed=ends, member=ends, quoted=ends, exit_return=bankrupt)
    moves = np.where(ends, moves[:, :1], 0.0)
    moves[2_000, 1] = -1.0
    left = replace(left, returns=moves)
    text = " ".join(ppo.start_notes(PPORunConfig(), left))
    found = re.search(r"returns of A1 \((\d+)\) have a kurtosis above 100", text)
    assert found is not None
    # By hand: 1,995 moves of 1 % and one of -100 % give m_4 / m_2^2 = (1 / 1996) / (1.1995 / 1996)^2, less the mean's.
    assert int(found[1]) == pytest.approx(1996 / 1.1995**2, rel=0.01)


# ---------------------------------------------------------------- DQN


def dqn_learner(market: MarketData, path: Path, settings: dict[str, Any], learner_class: Any = FusedDQNLearner) -> Any:
    torch.manual_seed(0)
    config = dqn_runs.run_config({**DQN, **settings})
    spec = dqn.module_spec(config, market)
    environment = config.environment.model_dump()
    spec.observation_space = ObservationLayout(market).space
    spec.action_space = PortfolioEnv(market, "all", **environment).action_space
    learner = learner_class(config=dqn.algorithm_config(config, path), module_spec=spec)
    learner.build()
    return learner


def transitions(market: MarketData, kind: str, size: int = 32, seed: int = 0) -> tuple[dict[str, Any], ActionTable]:
    """Transitions of random available actions, and the action table."""
    env = PortfolioVectorEnv(size, market, "all", action_mode="discrete", action_table=kind, random_start=True)
    env.reset(seed=seed)
    generator = np.random.default_rng(seed)
    table = env.simulation.action_map
    assert isinstance(table, ActionTable)
    for _ in range(3):
        before, state = env.simulation.observe(env.state), state_columns(env.state)
        mask = table.available(env.simulation.action_inputs(env.state))
        assert mask is not None
        actions = np.where(mask, generator.random(mask.shape), -1.0).argmax(-1)
        after, rewards, *_ = env.step(actions)
    return {
        Columns.OBS: before,
        Columns.ACTIONS: actions.astype(np.int32),
        Columns.REWARDS: rewards.astype(np.float32),
        Columns.NEXT_OBS: after,
        Columns.TERMINATEDS: generator.random(size) < 0.3,
        N_STEP: np.ones(size, np.int64),
        WEIGHTS: generator.uniform(0.2, 1.0, size).astype(np.float32),
        **state,
    }, table


def without_state(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in columns.items() if not name.startswith("simulation/")}


def tradable_of(market: MarketData, observations: np.ndarray) -> np.ndarray:
    num_features = len(market.asset_feature_names)
    own = observations[..., : market.num_assets * num_features]
    return own[..., num_features - 1 :: num_features] > 0.5


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("double_q", [True, False])
def test_dqn_updates_are_those_of_rllibs_learner(
    ray_session: None, kind: str, double_q: bool, market: MarketData, market_path: Path
) -> None:
    settings = {
        "network.noisy": False,
        "environment.action_table": kind,
        "training.double_q": double_q,
        "training.learning_rate": 1e-2,
    }
    ours, theirs = (dqn_learner(market, market_path, settings, each) for each in (FusedDQNLearner, DQNTorchLearner))
    for update in range(4):
        columns = without_state(transitions(market, kind, seed=update)[0])
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: 25 * update}
        results = [each.update(batch=dqn_runs.multi_agent(columns), timesteps=timesteps) for each in (ours, theirs)]
        for name in ("qf_loss", "qf_mean", "qf_max", "qf_min", TD_ERROR_KEY):
            one, two = (np.ravel(np.asarray(each[DEFAULT_MODULE_ID][name].peek())) for each in results)
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5, err_msg=name)
    our_weights, their_weights = dqn_runs.weights(ours), dqn_runs.weights(theirs)
    for name, value in our_weights.items():
        np.testing.assert_allclose(value, their_weights[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", TABLES)
def test_targets_and_loss_leave_out_what_cannot_be_traded(
    ray_session: None, kind: str, market: MarketData, market_path: Path
) -> None:
    # All actions of each day, with rewards of 1e6 for those that are not available: neither errors nor gradients
    # know of them. The available ones have the errors of single transitions.
    settings = {"network.noisy": False, "environment.action_table": kind, "training.gamma": 0.9}
    columns, table = transitions(market, kind)
    batch = Counterfactuals.of(
        {"data": market, "window": "all", "action_mode": "discrete", "action_table": kind}, 1000, False
    ).batch(columns, np.random.default_rng(0))
    mask = table.available(ActionInputs(tradable=tradable_of(market, batch[Columns.OBS])))
    assert mask is not None
    if kind == "quantiles":  # which lacks an action only where nothing trades: let it be so on some days
        num_features = len(market.asset_feature_names)
        for name in (Columns.OBS, Columns.NEXT_OBS):
            batch[name][:5, ..., num_features - 1 : 6 * num_features : num_features] = 0.0
        mask = table.available(ActionInputs(tradable=tradable_of(market, batch[Columns.OBS])))
    assert 0 < (~mask).sum() < mask.size / 2
    learners = [dqn_learner(market, market_path, settings) for _ in range(3)]
    for learner in learners:  # whose greatest value is that of an action which may be out: a tilt, or equal weights
        module = dqn_runs.module_of(learner)
        for network in (module.q_net, module.target_q_net):
            (network.tilt[1].weight.data if kind == "ladder" else network.advantage[1].bias.data[1:2]).add_(2.0)
    results = []
    for learner, price in zip(learners[:2], (0.0, 1e6), strict=True):
        rewards = np.where(mask, batch[Columns.REWARDS], np.float32(price))
        results.append(learner.gradient_step({**batch, Columns.REWARDS: rewards}, weight=1.0))
    (errors, stats), (other_errors, other_stats) = results
    np.testing.assert_array_equal(errors, other_errors)
    assert stats.loss == other_stats.loss
    one, two = map(dqn_runs.weights, learners[:2])
    assert all(np.array_equal(value, two[name]) for name, value in one.items())

    fresh = dqn_runs.module_of(learners[2])
    with torch.no_grad():
        values = fresh.q_net(torch.from_numpy(batch[Columns.OBS])).numpy()
        following = torch.from_numpy(batch[Columns.NEXT_OBS].reshape(-1, batch[Columns.OBS].shape[1]))
        after = fresh.compute_q_values({Columns.OBS: following})["qf_preds"].max(-1).values.numpy()
        assert (fresh.q_net(following).max(-1).values.numpy() > after + 0.01).mean() > 0.05
    discounts = 0.9 * (1.0 - batch[Columns.TERMINATEDS])[:, None]
    expected = values - (batch[Columns.REWARDS] + discounts * after.reshape(mask.shape))
    by_day = np.where(mask, np.abs(expected), 0.0).sum(1) / mask.sum(1)
    np.testing.assert_allclose(errors, by_day, rtol=1e-3, atol=1e-5)
    loss = (np.where(mask, expected, 0.0) ** 2 * batch[WEIGHTS][:, None]).sum() / mask.sum()
    assert float(stats.loss) == pytest.approx(loss, rel=1e-3)
    assert float(stats.q_values.max()) == pytest.approx(values[mask].max(), rel=1e-4)
    assert float(stats.q_values.mean()) == pytest.approx(values[mask].mean(), rel=1e-3, abs=1e-5)


def test_other_actions_are_drawn_from_those_that_can_be_traded(market: MarketData) -> None:
    columns, table = transitions(market, "ladder")
    environment = {"data": market, "window": "all", "action_mode": "discrete", "action_table": "ladder"}
    mask = table.available(ActionInputs(tradable=tradable_of(market, columns[Columns.OBS])))
    assert mask is not None
    few = Counterfactuals.of(environment, 5, False)
    seen = set()
    for seed in range(10):
        actions = few.batch(columns, np.random.default_rng(seed))[Columns.ACTIONS]
        assert (actions[:, 0] == columns[Columns.ACTIONS]).all()
        assert (actions == table.hold).any(1).all()
        chosen = np.take_along_axis(mask, actions.astype(int), 1)
        assert (chosen.sum(1) == np.minimum(mask.sum(1), 5)).all()
        seen |= set(actions[chosen].tolist())
    assert seen == set(np.flatnonzero(mask.any(0)).tolist())


def test_other_portfolios_follow_from_actions_that_can_be_traded(
    market: MarketData, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, table = transitions(market, "ladder")
    environment = {"data": market, "window": "all", "action_mode": "discrete", "action_table": "ladder"}
    elsewhere = Counterfactuals.of(environment, 1000, True)
    mask = table.available(ActionInputs(tradable=tradable_of(market, columns[Columns.OBS])))
    assert mask is not None
    taken, step = [], elsewhere._simulation.step

    def noted(state: State, actions: np.ndarray) -> Any:
        taken.append(actions)
        return step(state, actions)

    monkeypatch.setattr(elsewhere._simulation, "step", noted)
    seen = set()
    for seed in range(20):
        elsewhere.batch(columns, np.random.default_rng(seed))
        before, everything = taken
        assert mask[np.arange(32), before].all()
        assert len(everything) == mask.size
        seen |= set(before.tolist())
        taken.clear()
    assert seen == set(np.flatnonzero(mask.any(0)).tolist())


# ---------------------------------------------------------------- from end to end


@pytest.mark.parametrize(
    ("num_assets", "settings"),
    [
        (6, {}),
        (6, {"network": {"noisy": False}}),
        (6, {"environment": {"action_table": "quantiles"}, "training": {"counterfactual_actions": 0}}),
        (64, {"training": {"counterfactual_actions": 5}}),
    ],
    ids=["ladder", "epsilon", "taken actions", "many assets"],
)
def test_dqn_trains_in_a_universe_and_takes_no_action_that_cannot_be_traded(
    ray_session: None, num_assets: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    market = universe_market(150, num_assets)
    market.save(tmp_path / "market.npz")
    values = {name: {**section, **settings.get(name, {})} for name, section in dqn_runs.SETTINGS.items()}
    values["network"] = {**settings.get("network", {}), "hidden_sizes": (256, 256)}
    config = DQNRunConfig(seed=1, **values)
    built = dqn.build(config, tmp_path / "market.npz")
    try:
        for _ in range(2):
            built.train()
        environment = built.env_runner.env.env.unwrapped
        table = environment.simulation.action_map
        for episode in built.env_runner.sample(num_timesteps=40, explore=True):
            rows = episode.get_observations()[:-1, 0].astype(int)  # the env runner samples by reference
            mask = table.available(ActionInputs(tradable=market.universe.tradable[rows]))
            assert mask[np.arange(len(episode)), episode.get_actions()].all()
        policy = current_policy(built, config, market)
    finally:
        built.stop()
    decides_for_others(policy, market, tmp_path)


def test_ppo_trains_in_a_universe(ray_session: None, market: MarketData, tmp_path: Path) -> None:
    market.save(tmp_path / "market.npz")
    values = {name: dict(section) for name, section in samples.SETTINGS.items()} | {"network": {}}
    config = PPORunConfig(seed=1, **values)
    built = ppo.build(config, tmp_path / "market.npz")
    try:
        for _ in range(2):
            result = built.train()["learners"][DEFAULT_MODULE_ID]
        assert np.isfinite([result["policy_loss"], result["entropy"], result["mean_kl_loss"]]).all()
        policy = current_policy(built, config, market)
    finally:
        built.stop()
    decides_for_others(policy, market, tmp_path)


def decides_for_others(policy: PortfolioPolicy, market: MarketData, tmp_path: Path) -> None:
    """The policy decides for its market, and for another with more assets, all of which it may hold."""
    policy.save(tmp_path / "policy")
    for each in (market, universe_market(150, market.num_assets + 4, seed=8)):
        policy.require_compatible(each)
        (result,) = backtest(each, each.windows["all"], [policy], DQNRunConfig().environment)
        assert np.isfinite(result.returns).all()
        assert result.weights.shape[1] == each.num_assets + 1
