"""The fused PPO learner computes what RLlib's own does, alone and in company."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO

from rllib_portfolio.algorithms.learning.reward_scale import RunningRewardScale
from rllib_portfolio.algorithms.learning.train_batch import Batch
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.algorithms.sampling.env_runner import VectorisedEnvRunner
from rllib_portfolio.algorithms.sampling.seeded_env_runner import ASSET_RETURNS, SeededEnvRunner
from rllib_portfolio.market import MarketData
from tests.algorithms.learning.test_advantages import slow_advantages
from tests.algorithms.sampling.samples import algorithm_config, build_learner, build_runner, flat, sent, weights

LOSSES = {
    "plain": {},
    "clipped values": {"training.value_clip": 0.05},
    "entropy bonus": {"training.entropy_coefficient": 0.1},
    "KL penalty": {"training.use_kl_loss": True, "training.kl_coefficient": 0.5, "training.kl_target": 1e-3},
    "a network that scores each asset": {"network.architecture": "per_asset", "network.hidden_sizes": (8,)},
    "partial trading": {"environment.partial_trading": True},
    "no gradient clipping": {"training.max_gradient_norm": None},
    "tight clipping": {"training.max_gradient_norm": 0.01, "training.clip": 0.01},
    "several settings": {
        "training.value_clip": 0.1,
        "training.entropy_coefficient": 0.03,
        "training.use_kl_loss": True,
        "training.value_coefficient": 0.25,
        "training.learning_rate_end": None,
    },
}
TIMESTEPS = {NUM_ENV_STEPS_SAMPLED_LIFETIME: 99}


@pytest.fixture(scope="module")
def market_path(tiny_market: MarketData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny market with features of ordinary size."""
    path = tmp_path_factory.mktemp("market") / "tiny.npz"
    rng = np.random.default_rng(0)
    features = {name: getattr(tiny_market, name) for name in ("asset_features", "market_features")}
    noise = {name: rng.standard_normal(array.shape, dtype=np.float32) for name, array in features.items()}
    replace(tiny_market, **noise).save(path)
    return path


def sampled(
    market_path: Path, settings: Mapping[str, Any] | None = None, fragments: int = 1
) -> tuple[Any, Any, list[Any]]:
    """A configuration, a runner and the episodes of its last fragment."""
    config = algorithm_config(market_path, settings)
    runner = build_runner(VectorisedEnvRunner, config)
    torch.manual_seed(7)
    for _ in range(fragments):
        episodes = runner.sample()
    return config, runner, episodes


def updated(learner: Any, episodes: Sequence[Any], **kwargs: Any) -> dict[str, Any]:
    """Return a learner's metrics of an update on the episodes, with nested keys joined by a slash."""
    return flat(learner.update(episodes=list(episodes), timesteps=TIMESTEPS, **kwargs))


def for_stock(batch: Batch, num_steps: int) -> MultiAgentBatch:
    """Our batch in the form that RLlib's learner takes."""
    columns = {
        Columns.OBS: batch.observations,
        Columns.ACTIONS: batch.actions,
        Columns.ACTION_LOGP: batch.log_probabilities,
        Columns.ACTION_DIST_INPUTS: batch.distribution_inputs,
        Postprocessing.ADVANTAGES: batch.advantages,
        Postprocessing.VALUE_TARGETS: batch.value_targets,
        WEIGHTS_SEQ_NO: torch.zeros(num_steps),
    }
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=num_steps)


def largest_difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def agreement(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]
) -> float:
    """The cosine between the ways that two learners have gone from `start`."""
    mine, other = (np.concatenate([(of[name] - start[name]).ravel() for name in start]) for of in (ours, theirs))
    return float(mine @ other / (np.linalg.norm(mine) * np.linalg.norm(other)))


def assert_same_way(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]
) -> None:
    """Weights have moved far from `start`, and differ by rounding.

    A parameter whose gradient is itself rounding is moved by Adam a whole step, up or down: not all of them can agree.
    """
    assert largest_difference(ours, start) > 0.01
    assert agreement(ours, theirs, start) > 0.995
    assert np.median(np.concatenate([np.abs(ours[name] - theirs[name]).ravel() for name in ours])) < 1e-5


def number(value: Any) -> float:
    return float(value.peek()) if hasattr(value, "peek") else float(value)


# ---------------------------------------------------------------- the same numbers as RLlib's learner


def test_a_step_with_weight_decay_takes_its_share_off_the_matrices_alone(market_path: Path) -> None:
    rate, decay = 0.01, 5.0
    constant = {"training.learning_rate": rate, "training.learning_rate_end": None}
    config, runner, episodes = sampled(market_path, constant)
    with_decay = algorithm_config(market_path, {**constant, "training.weight_decay": decay})
    plain, decayed = (build_learner(FusedPPOLearner, each, runner) for each in (config, with_decay))
    start = weights(plain)
    for learner in (plain, decayed):
        updated(learner, episodes, num_epochs=1)
    without, ended = weights(plain), weights(decayed)
    assert {name for name in start if start[name].ndim > 1}
    for name, before in start.items():
        # AdamW: w - rate * decay * w - (Adam's step, which the size of w has no part in)
        expected = without[name] - (rate * decay * before if before.ndim > 1 else 0.0)
        np.testing.assert_allclose(ended[name], expected, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_updates_end_in_the_weights_of_rllibs_learner(market_path: Path, loss: str) -> None:
    config, runner, episodes = sampled(market_path, LOSSES[loss])
    ours, stock = (build_learner(learner_class, config, runner) for learner_class in (FusedPPOLearner, PPOTorchLearner))
    start = weights(ours)
    assert largest_difference(start, weights(stock)) == 0.0
    for _ in range(2):  # the second starts from moments of Adam, and from a KL coefficient that has moved
        batch, _ = ours._batches.build(episodes)
        reported = updated(ours, episodes, num_epochs=3)
        expected = flat(stock.update(batch=for_stock(batch, 33), timesteps=TIMESTEPS, num_epochs=3))
    assert_same_way(weights(ours), weights(stock), start)
    for name in ("default_optimizer_learning_rate", "curr_entropy_coeff", "curr_kl_coeff"):
        key = f"{DEFAULT_MODULE_ID}/{name}"
        assert (key in expected) == (key in reported)
        if key in expected:
            assert number(reported[key]) == pytest.approx(number(expected[key]), rel=1e-6)


def test_one_step_reports_the_losses_of_rllibs_learner(market_path: Path) -> None:
    settings = LOSSES["several settings"]
    config, runner, episodes = sampled(market_path, settings)
    ours, stock = (build_learner(learner_class, config, runner) for learner_class in (FusedPPOLearner, PPOTorchLearner))
    batch, _ = ours._batches.build(episodes)
    reported = updated(ours, episodes)
    expected = flat(stock.update(batch=for_stock(batch, 33), timesteps=TIMESTEPS))
    names = (
        "policy_loss",
        "vf_loss",
        "vf_loss_unclipped",
        "entropy",
        "mean_kl_loss",
        "total_loss",
        "gradients_default_optimizer_global_norm",
        "module_train_batch_size_mean",
        "num_module_steps_trained",
    )
    for name in names:
        key = f"{DEFAULT_MODULE_ID}/{name}"
        assert number(reported[key]) == pytest.approx(number(expected[key]), rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("loss", ["plain", "several settings"])
def test_everything_that_rllibs_learner_reports_is_reported(market_path: Path, loss: str) -> None:
    config, runner, episodes = sampled(market_path, LOSSES[loss])
    stock_runner = build_runner(SeededEnvRunner, config)
    ours = updated(build_learner(FusedPPOLearner, config, runner), episodes, num_epochs=2, minibatch_size=16)
    stock = updated(
        build_learner(PPOTorchLearner, config, runner), stock_runner.sample(), num_epochs=2, minibatch_size=16
    )
    of_modules = {name for name in stock if name.split("/")[0] in (DEFAULT_MODULE_ID, ALL_MODULES)}
    # What RLlib measures of its connectors, which the fused learner does not have.
    of_connectors = {name for name in of_modules if "connector" in name}
    assert of_modules - of_connectors <= set(ours)
    assert number(ours[f"{DEFAULT_MODULE_ID}/num_module_steps_trained"]) == 66
    assert number(ours[f"{ALL_MODULES}/num_env_steps_trained"]) == 66


def test_value_targets_are_those_of_rllibs_connectors(market_path: Path) -> None:
    config, runner, _ = sampled(market_path, {"training.market_baseline": False})  # RLlib's learner has none
    ours, stock = (build_learner(learner_class, config, runner) for learner_class in (FusedPPOLearner, PPOTorchLearner))
    stock_runner = build_runner(SeededEnvRunner, config)
    for _ in range(3):
        episodes = stock_runner.sample()
        batch, _ = ours._batches.build(episodes)
        theirs = stock._learner_connector(
            rl_module=stock.module, batch={}, episodes=sent(episodes), shared_data={}, metrics=stock.metrics
        )[DEFAULT_MODULE_ID]
        is_step = theirs[Columns.LOSS_MASK]
        for name, column in (
            (Columns.OBS, batch.observations),
            (Columns.ACTIONS, batch.actions),
            (Columns.ACTION_LOGP, batch.log_probabilities),
            (Postprocessing.VALUE_TARGETS, batch.value_targets),
        ):
            torch.testing.assert_close(theirs[name][is_step], column, rtol=1e-5, atol=1e-6)


def test_advantages_are_standardised_over_steps_alone(market_path: Path) -> None:
    config, runner, episodes = sampled(market_path)
    batch, _ = build_learner(FusedPPOLearner, config, runner)._batches.build(episodes)
    assert len(batch.advantages) == 33
    assert float(batch.advantages.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(batch.advantages.std(correction=0)) == pytest.approx(1.0, abs=1e-5)


def test_the_lookback_of_rllibs_episodes_is_not_learned_twice(market_path: Path) -> None:
    settings = {"environment.episode_days": 30}  # the second fragment continues the first's episodes
    config, runner, ours = sampled(market_path, settings, fragments=2)
    stock_runner = build_runner(SeededEnvRunner, config)
    torch.manual_seed(7)
    stock_runner.sample()
    theirs = stock_runner.sample()
    assert theirs[0].observations.lookback > 0
    learner = build_learner(FusedPPOLearner, config, runner)
    for mine, other in zip(learner._batches.build(ours)[0], learner._batches.build(theirs)[0], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_the_market_baseline_changes_advantages_and_value_targets_alone(market_path: Path) -> None:
    config, runner, episodes = sampled(market_path)
    assert ASSET_RETURNS in episodes[0].extra_model_outputs
    learner = build_learner(FusedPPOLearner, config, runner)
    with_baseline, _ = learner._batches.build(episodes)
    learner.config.training(market_baseline=False)
    without, _ = learner._batches.build(episodes)
    changed = {name for name in Batch._fields if not torch.equal(getattr(with_baseline, name), getattr(without, name))}
    assert changed == {"advantages", "value_targets"}


# ---------------------------------------------------------------- the market baseline


NETWORKS = {
    "flat": {},
    "per_asset": {"network.architecture": "per_asset", "network.hidden_sizes": (8,)},
    "partial trading": {"environment.partial_trading": True},
}
NUM_WEIGHTS, NUM_FEATURES = 4, 7  # of tiny_market


def opinionated(market_path: Path, network: str) -> tuple[Any, list[Any]]:
    """A learner and its scaled episodes; its actor holds no uniform portfolio, as a fresh one does whatever it sees."""
    config, runner, episodes = sampled(market_path, NETWORKS[network])
    learner = build_learner(FusedPPOLearner, config, runner)
    with torch.no_grad():
        learner._trained_module.actor[-1].weight.mul_(100.0)
    scale = RunningRewardScale(config.gamma)
    scale.update(episodes)
    return learner, scale.scaled(episodes)


def residuals(values: np.ndarray, regressors: np.ndarray, chunk: np.ndarray) -> np.ndarray:
    """Values less the slopes of their least-squares fit to the steps of other chunks, times the regressors [S, P]."""
    left = values.copy()
    for own in np.unique(chunk):
        design = np.column_stack([np.ones(np.count_nonzero(chunk != own)), regressors[chunk != own]])
        coefficients, *_ = np.linalg.lstsq(design, values[chunk != own], rcond=None)
        left[chunk == own] -= regressors[chunk == own] @ coefficients[1:]
    return left


def mean_action_growth(observations: torch.Tensor, inputs: torch.Tensor, returns: np.ndarray) -> np.ndarray:
    """Log growth [S] of softmax(10 a), a the clipped mean action, 10 the logit scale, or of part of the way to it."""
    exponentials = np.exp(10.0 * np.clip(inputs.chunk(2, dim=1)[0].double().numpy(), -1.0, 1.0))
    weights = exponentials[:, :NUM_WEIGHTS] / exponentials[:, :NUM_WEIGHTS].sum(-1, keepdims=True)
    if exponentials.shape[1] > NUM_WEIGHTS:
        rate, known = exponentials[:, -1:] / (1.0 + exponentials[:, -1:]), observations[:, -NUM_WEIGHTS:].numpy()
        weights = rate * weights + (1.0 - rate) * known
    return np.log1p((weights * returns).sum(-1))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_market_baseline_is_what_two_regressions_explain(market_path: Path, network: str) -> None:
    learner, episodes = opinionated(market_path, network)
    batch, _ = learner._batches.build(episodes)
    module, config = learner._trained_module, learner.config
    returns = np.concatenate([episode.get_extra_model_outputs(ASSET_RETURNS) for episode in episodes]).astype(float)
    chunk = np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes])
    detached = batch.observations.clone()
    for index in range(len(episodes)):
        detached[chunk == index, -NUM_WEIGHTS:] = batch.observations[chunk != index, -NUM_WEIGHTS:].mean(0)
    with torch.no_grad():
        inputs = module.forward_inference({Columns.OBS: detached})[Columns.ACTION_DIST_INPUTS]
        values = [
            module.compute_values({Columns.OBS: torch.from_numpy(episode.get_observations())}).double().numpy()
            for episode in episodes
        ]
    # rewards less what equal weights and the policy, blind to what it holds, explain of them
    rewards = np.concatenate([episode.get_rewards() for episode in episodes]).astype(float)
    equal_weights = np.log1p(returns[:, :-1].mean(1))
    growth = mean_action_growth(detached, inputs, returns)
    corrected = residuals(rewards, np.column_stack([growth, equal_weights]), chunk)
    assert np.abs(corrected - rewards).max() > 0.1
    advantages = slow_advantages(
        np.split(corrected, np.cumsum([len(episode) for episode in episodes])[:-1]),
        [chunk[:-1] for chunk in values],
        [chunk[-1] for chunk in values],
        [False] * len(episodes),
        config.gamma,
        config.lambda_,
    )
    np.testing.assert_allclose(
        batch.value_targets, advantages + np.concatenate([chunk[:-1] for chunk in values]), rtol=1e-4, atol=1e-4
    )
    # advantages less what the mean action that was sampled around explains of them
    growth = mean_action_growth(batch.observations, batch.distribution_inputs, returns)
    left = residuals(np.array(advantages), growth[:, None], chunk)
    np.testing.assert_allclose(batch.advantages, (left - left.mean()) / left.std(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_baseline_of_rewards_does_not_know_who_held_what(market_path: Path, network: str) -> None:
    learner, episodes = opinionated(market_path, network)
    observations = learner._batches.build(episodes)[0].observations
    lengths = [len(episode) for episode in episodes]

    def corrected(columns: slice, order: torch.Tensor) -> np.ndarray:
        """Rewards less their baseline, if the steps of a chunk had each other's observations in some columns."""
        permuted = observations.clone()
        permuted[:, columns] = observations[order, columns]
        return np.concatenate(learner._batches._rewards(episodes, permuted))

    as_they_are = torch.arange(len(observations))
    expected = corrected(slice(None), as_they_are)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        starts = np.cumsum([0, *lengths[:-1]])
        order = torch.cat(
            [start + torch.randperm(n, generator=generator) for start, n in zip(starts, lengths, strict=True)]
        )
        np.testing.assert_allclose(corrected(slice(-NUM_WEIGHTS, None), order), expected, atol=1e-4)
        assert np.abs(corrected(slice(NUM_FEATURES), order) - expected).max() > 0.01  # what else it sees counts


# ---------------------------------------------------------------- minibatches


@pytest.mark.parametrize(("num_steps", "num_minibatches"), [(33, 1), (33, 4), (64, 8), (7, 7)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_minibatches_use_each_step_once(num_steps: int, num_minibatches: int, shuffled: bool) -> None:
    number_of = torch.arange(num_steps, dtype=torch.float32)
    batch = Batch(*([number_of[:, None]] * 2), *([number_of] * 4))
    generator = torch.Generator().manual_seed(0) if shuffled else None
    minibatches = list(batch.minibatches(num_minibatches, generator))
    sizes = [len(minibatch.advantages) for minibatch in minibatches]
    assert len(sizes) == num_minibatches
    assert max(sizes) - min(sizes) <= 1
    seen = torch.cat([minibatch.advantages for minibatch in minibatches])
    assert torch.equal(seen.sort().values, number_of)
    assert torch.equal(seen, number_of) == (not shuffled or num_minibatches == 1)
    for minibatch in minibatches:
        assert torch.equal(minibatch.observations[:, 0], minibatch.value_targets)


def test_shuffling_is_another_each_epoch_and_the_same_each_run(market_path: Path) -> None:
    config, runner, episodes = sampled(market_path)
    ends = []
    for shuffle in (True, True, False):
        learner = build_learner(FusedPPOLearner, config, runner)
        updated(learner, episodes, num_epochs=3, minibatch_size=8, shuffle_batch_per_epoch=shuffle)
        ends.append(weights(learner))
    assert largest_difference(ends[0], ends[1]) == 0.0
    assert largest_difference(ends[0], ends[2]) > 1e-4


def test_the_learning_rate_follows_its_schedule(market_path: Path) -> None:
    config, runner, episodes = sampled(market_path)  # from 0.01 to 0 over 1000 steps
    learner = build_learner(FusedPPOLearner, config, runner)
    reported = updated(learner, episodes)
    key = f"{DEFAULT_MODULE_ID}/default_optimizer_learning_rate"
    assert number(reported[key]) == pytest.approx(0.01 * (1 - 99 / 1000), rel=1e-5)
    assert learner.get_optimizer().param_groups[0]["lr"] == pytest.approx(0.01 * (1 - 99 / 1000), rel=1e-5)


# ---------------------------------------------------------------- gradients that are not finite


def poisoned(episodes: Sequence[Any]) -> list[Any]:
    """Episodes with one log-probability that is not a number: the actor's gradient is none, the critic's is one."""
    spoiled = sent(list(episodes))
    spoiled[0].extra_model_outputs[Columns.ACTION_LOGP].data[2] = np.nan
    return spoiled


@pytest.mark.parametrize("minibatch_size", [None, 8])
def test_an_update_with_a_gradient_that_is_not_finite_is_left_out_and_named(
    market_path: Path, minibatch_size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    config, runner, episodes = sampled(market_path)
    settings = {"num_epochs": 2, "minibatch_size": minibatch_size, "shuffle_batch_per_epoch": True}
    ours, clean = (build_learner(FusedPPOLearner, config, runner) for _ in range(2))
    for learner in (ours, clean):
        updated(learner, episodes, **settings)
    before, optimizer = weights(ours), sent(ours.get_state(components=["optimizer"]))
    with caplog.at_level(logging.ERROR):
        reported = updated(ours, poisoned(episodes), **settings)
    assert largest_difference(weights(ours), before) == 0.0
    np.testing.assert_equal(ours.get_state(components=["optimizer"])["optimizer"], optimizer["optimizer"])
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("The gradient of ")
    assert text.endswith(" was not finite; this update is left out.")
    for name in ("trunk.0.weight", "actor.0.weight", "log_std"):
        assert name in text
    assert "critic" not in text
    assert number(reported[f"{DEFAULT_MODULE_ID}/num_updates_left_out"]) == 1
    # The next update is the one that would have come.
    for learner in (ours, clean):
        updated(learner, episodes, **settings)
    assert largest_difference(weights(ours), weights(clean)) == 0.0


def test_a_first_update_can_be_left_out(market_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A constant learning rate: a schedule goes on with the steps that were sampled, whatever became of them.
    config, runner, episodes = sampled(market_path, {"training.use_kl_loss": True, "training.learning_rate_end": None})
    ours, clean = (build_learner(FusedPPOLearner, config, runner) for _ in range(2))
    with caplog.at_level(logging.ERROR):
        updated(ours, poisoned(episodes))
    assert "left out" in caplog.text
    assert largest_difference(weights(ours), weights(clean)) == 0.0
    for learner in (ours, clean):
        updated(learner, episodes, num_epochs=2)
    assert largest_difference(weights(ours), weights(clean)) == 0.0


def test_a_norm_that_overflows_is_said_to(market_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, runner, episodes = sampled(market_path)
    huge = sent(episodes)
    huge[0].rewards.data[2] = 1e30  # squared, as the critic's gradient is by its norm, more than float32 can hold
    learner = build_learner(FusedPPOLearner, config, runner)
    before = weights(learner)
    with caplog.at_level(logging.ERROR):
        updated(learner, huge)
    assert "not finite" in caplog.text
    assert largest_difference(weights(learner), before) == 0.0


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close(market_path: Path, precision: str) -> None:
    config, runner, episodes = sampled(market_path)
    settings = {"num_epochs": 3, "minibatch_size": 16}  # steps enough to notice one that was left out
    exact = build_learner(FusedPPOLearner, config, runner)
    start = weights(exact)
    updated(exact, episodes, **settings)
    half = build_learner(FusedPPOLearner, config.copy(copy_frozen=False).training(mixed_precision=precision), runner)
    reported = updated(half, episodes, **settings)
    assert all(value.dtype == np.float32 for value in weights(half).values())
    assert 0.99 < agreement(weights(half), weights(exact), start) < 1.0
    assert np.isfinite(number(reported[f"{DEFAULT_MODULE_ID}/total_loss"]))


def test_a_scale_that_overflows_is_lowered_and_its_step_left_out(market_path: Path) -> None:
    config, runner, episodes = sampled(market_path, {"resources.mixed_precision": "fp16"})
    learner = build_learner(FusedPPOLearner, config, runner)
    learner._scaler.load_state_dict(learner._scaler.state_dict() | {"scale": 2.0**120})
    before = weights(learner)
    reported = updated(learner, episodes)
    assert largest_difference(weights(learner), before) == 0.0
    assert learner._scaler.get_scale() == 2.0**119
    assert all(np.isfinite(number(value)) for name, value in reported.items() if "norm" in name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
def test_updates_on_a_gpu_stay_close(market_path: Path, precision: str | None) -> None:
    config, runner, episodes = sampled(market_path)
    settings = {"num_epochs": 3, "minibatch_size": 16}
    on_cpu = build_learner(FusedPPOLearner, config, runner)
    start = weights(on_cpu)
    updated(on_cpu, episodes, **settings)
    gpu_config = config.copy(copy_frozen=False).learners(num_gpus_per_learner=1).training(mixed_precision=precision)
    on_gpu = build_learner(FusedPPOLearner, gpu_config, runner)
    updated(on_gpu, episodes, **settings)
    assert agreement(weights(on_gpu), weights(on_cpu), start) > (0.99 if precision else 0.9999)


# ---------------------------------------------------------------- state and refusals


def test_a_restored_learner_continues_to_the_bit(market_path: Path) -> None:
    settings = {"training.use_kl_loss": True, "training.kl_target": 1e-4}
    config, runner, episodes = sampled(market_path, settings)
    config.training(entropy_coeff=[[0, 0.1], [1000, 0.0]])
    how = {"num_epochs": 2, "minibatch_size": 8, "shuffle_batch_per_epoch": True}
    first = build_learner(FusedPPOLearner, config, runner)
    updated(first, episodes, **how)
    state = sent(first.get_state())
    assert state["update_state"]["kl_coefficient"] != config.kl_coeff
    second = build_learner(FusedPPOLearner, config, runner)
    second.set_state(state)
    for learner in (first, second):
        updated(learner, episodes, **how)
    assert largest_difference(weights(first), weights(second)) == 0.0


# ---------------------------------------------------------------- several learners

RAY_DATA_WARNS = "ignore::DeprecationWarning:ray.data.context"  # of its own options
FIVE = {
    "resources.num_envs_per_env_runner": 5,
    "training.entropy_coefficient": 0.01,
    "training.use_kl_loss": True,
    "training.kl_target": 1e-3,
}
"""Five environments: no two learners can have equally many steps."""
FULL_BATCH = {"num_epochs": 3, "minibatch_size": None, "timesteps": TIMESTEPS}


@pytest.fixture(scope="module")
def two_learners(ray_session: None, market_path: Path) -> Iterator[Any]:
    """An algorithm whose two learners are processes of their own."""
    config = algorithm_config(market_path, FIVE | {"resources.num_learners": 2})
    algorithm = config.build_algo()
    yield algorithm
    algorithm.stop()


def on_each(algorithm: Any, shares: Sequence[Any], function: Callable[[Any, Any], Any]) -> list[Any]:
    """Return the results of a function of a learner and its share, called on all learners at the same time."""
    workers = algorithm.learner_group._workers
    return ray.get([w.apply.remote(function, share) for w, share in zip(workers, shares, strict=True)])


def on_shares(algorithm: Any, shares: Sequence[Any], **settings: Any) -> list[dict[str, np.ndarray]]:
    """The weights of each learner after an update on its own share."""
    on_each(algorithm, shares, lambda learner, share: learner.update(episodes=share, **FULL_BATCH | settings) and None)
    return held_by(algorithm)


def states_of(algorithm: Any) -> list[dict[str, Any]]:
    return [result.get() for result in algorithm.learner_group.foreach_learner(lambda learner: learner.get_state())]


def held_by(algorithm: Any) -> list[dict[str, np.ndarray]]:
    """The weights of each learner."""
    return [state["rl_module"][DEFAULT_MODULE_ID] for state in states_of(algorithm)]


@pytest.mark.filterwarnings(RAY_DATA_WARNS)
def test_a_learner_in_a_process_of_its_own_is_no_other(ray_session: None, market_path: Path) -> None:
    config, runner, episodes = sampled(market_path)
    here = build_learner(FusedPPOLearner, config, runner)
    spec = config.get_multi_rl_module_spec(spaces=runner.get_spaces(), inference_only=False)
    group = LearnerGroup(config=config.copy(copy_frozen=False).learners(num_learners=1), module_spec=spec)
    group.set_state({"learner": sent(here.get_state())})
    for learner in (here, group):
        learner.update(episodes=episodes, **FULL_BATCH)
    there = group.get_weights()[DEFAULT_MODULE_ID]
    group.shutdown()
    assert largest_difference(there, weights(here)) == 0.0


@pytest.mark.filterwarnings(RAY_DATA_WARNS)
def test_two_learners_do_what_one_does_with_the_whole_batch(market_path: Path, two_learners: Any) -> None:
    config, runner, episodes = sampled(market_path, FIVE)
    alone = build_learner(FusedPPOLearner, config, runner)
    start, before = sent(alone.get_state()), weights(alone)
    whole, _ = alone._batches.build(episodes)
    alone.update(episodes=episodes, **FULL_BATCH | {"num_epochs": 1})
    gradient = alone._flat.gradient.numpy().copy()
    alone.set_state(start | {WEIGHTS_SEQ_NO: 0})
    alone.update(episodes=episodes, **FULL_BATCH)
    shares = [episodes[:2], episodes[2:]]
    assert len({sum(map(len, share)) for share in shares}) == 2
    two_learners.learner_group.set_state({"learner": start})
    parts = on_each(two_learners, shares, lambda learner, share: learner._batches.build(share)[0])
    for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces), column, rtol=1e-4, atol=1e-5)
    on_shares(two_learners, shares, num_epochs=1)
    for of_both in on_each(two_learners, shares, lambda learner, share: learner._flat.gradient.numpy()):
        np.testing.assert_allclose(of_both, gradient, rtol=1e-4, atol=1e-5)
    two_learners.learner_group.set_state({"learner": start | {WEIGHTS_SEQ_NO: 0}})
    first, second = on_shares(two_learners, shares)
    assert largest_difference(first, second) == 0.0
    assert_same_way(first, weights(alone), before)
    coefficients = [state["update_state"]["kl_coefficient"] for state in states_of(two_learners)]
    assert coefficients == [alone.get_state()["update_state"]["kl_coefficient"]] * 2
    assert coefficients[0] != config.kl_coeff
    # A bad share of one of them is left out by both.
    for held in on_shares(two_learners, [poisoned(shares[0]), shares[1]]):
        assert largest_difference(held, first) == 0.0


@pytest.mark.filterwarnings(RAY_DATA_WARNS)
def test_two_learners_train_in_an_algorithm(two_learners: Any) -> None:
    # 55 steps, of which RLlib gives each learner half, cutting an episode if need be; minibatches of 8.
    before = two_learners.env_runner.module.get_state()
    before = {name: np.array(value) for name, value in before.items()}
    results = [flat(two_learners.train()) for _ in range(2)]
    trained = [result[f"learners/{ALL_MODULES}/num_env_steps_trained_lifetime"] for result in results]
    assert trained[1] - trained[0] == 55 * 3
    assert np.isfinite(results[-1][f"learners/{DEFAULT_MODULE_ID}/total_loss"])
    sampling = two_learners.env_runner.module.get_state()
    assert largest_difference(sampling, before) > 1e-3
    for held in held_by(two_learners):
        assert largest_difference({name: held[name] for name in sampling}, sampling) == 0.0
