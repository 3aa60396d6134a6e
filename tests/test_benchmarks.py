"""The benchmarks' arithmetic: comparisons are paired, and all sides learn with one network."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks import machine
from benchmarks.evaluation import size_and_power
from benchmarks.throughput import __main__ as throughput
from benchmarks.throughput import tables
from benchmarks.throughput.contenders import CONTENDERS
from benchmarks.throughput.measure import Job
from benchmarks.throughput.network import ActorCritic
from benchmarks.throughput.setting import Setting, market_file


def measurement(
    contender: str, speed: float, repetition: int, part: str = "training", **setting: Any
) -> dict[str, Any]:
    return {
        "part": part,
        "contender": contender,
        "task": "train",
        "setting": dataclasses.asdict(Setting(**setting)),
        "repetition": repetition,
        "steps_per_second": speed,
    }


def results(measurements: list[dict[str, Any]]) -> dict[str, Any]:
    effort = {"repetitions": 3, "measure_s": 1.0}
    started = {"suite": "throughput", "started": "2026-01-01", "machine": machine.description(), "effort": effort}
    return {**started, "core_share": tables.core_share(measurements), "measurements": measurements}


def test_each_contender_is_taken_in_its_fastest_thread_setting_and_failures_are_left_out() -> None:
    found = [measurement("bare", 100.0, 0, num_threads=1), measurement("bare", 150.0, 0, num_threads=2)]
    found.append({**measurement("bare", 0.0, 0, num_threads=4), "error": "died"})
    best = tables.fastest(tables.speeds(found), ["bare"], part="training")
    assert best is not None
    assert list(best) == [150.0]
    assert tables.fastest(tables.speeds(found), ["stock"], part="training") is None


def test_ratios_are_paired_by_repetition() -> None:
    # The machine slows to a half in repetition 1: 200/100 = 2, 100/50 = 2, 300/100 = 3. The medians of the speeds, 200
    # and 100, would hide the 3; pairing across repetitions would give anything from 1 to 6.
    ours = [measurement("ours", speed, i) for i, speed in enumerate([200.0, 100.0, 300.0])]
    bare = [measurement("bare", speed, i) for i, speed in enumerate([100.0, 50.0, 100.0])]
    text = tables.content(results([*ours, *bare]))
    assert "| PPO / bare loop | at least 0.85 | 2 | 2 to 3 | met |" in text
    assert "| bare torch loop (the limit) | 100 | 50 to 100 | 2.00 | 2 to 3 |" in text


def test_targets_compare_with_the_fastest_configuration_of_a_peer() -> None:
    speeds = {"ours": 300.0, "stock": 100.0, "sb3_dummy": 250.0}
    found = [measurement(name, speed, 0) for name, speed in speeds.items()]
    text = tables.content(results([*found, measurement("stock_sync", 150.0, 0, num_threads=2)]))
    assert "| PPO / stock RLlib PPO | at least 2.5 | 2 | 2 to 2 | NOT MET |" in text  # 300 / 150
    assert "| PPO / best Stable-Baselines3 | at least 1.3 | 1.2 |" in text


def test_every_other_repetition_runs_the_other_way_round() -> None:
    cells = throughput.ppo_cells()
    assert throughput.in_order(cells, 1) == throughput.in_order(cells, 0)[::-1]
    assert throughput.in_order(cells, 2) not in (throughput.in_order(cells, 0), throughput.in_order(cells, 1))
    assert set(throughput.in_order(cells, 2)) == set(cells)


@pytest.mark.parametrize("suite", throughput.SUITES)
def test_every_cell_names_a_contender_and_every_part_has_a_title(suite: str) -> None:
    cells = throughput.SUITES[suite]()
    assert {cell.contender for cell in cells} <= set(CONTENDERS)
    assert {cell.part for cell in cells} <= set(tables.TITLES)


def test_the_plain_network_is_the_package_s_network() -> None:
    from ray.rllib.core.columns import Columns

    from rllib_portfolio.modules.actor_critic import LayerNormActorCritic

    setting = Setting(num_assets=3, hidden_sizes=(16, 8))
    plain = ActorCritic(setting)
    module = LayerNormActorCritic(
        observation_space=gym.spaces.Box(-1.0, 1.0, (setting.observation_size,)),
        action_space=gym.spaces.Box(-1.0, 1.0, (setting.action_size,)),
        model_config={"hidden_sizes": setting.hidden_sizes, "initial_log_std": 0.0, "logit_scale": 10.0},
    )
    module.load_state_dict(plain.state_dict())
    observations = torch.from_numpy(np.random.default_rng(0).standard_normal((5, setting.observation_size))).float()
    outputs = module.forward_train({Columns.OBS: observations})
    mean, log_std = outputs[Columns.ACTION_DIST_INPUTS].chunk(2, dim=-1)
    embeddings = plain.embed(observations)
    torch.testing.assert_close(plain.mean(embeddings), mean)
    torch.testing.assert_close(plain.action_log_std().expand_as(mean), log_std)
    torch.testing.assert_close(plain.values(embeddings), module.compute_values({Columns.OBS: observations}))


def test_stable_baselines_trains_the_same_network() -> None:
    from benchmarks.throughput.sb3 import SharedTrunkPolicy

    setting = Setting(num_assets=3, hidden_sizes=(16, 8))
    spaces = (gym.spaces.Box(-1.0, 1.0, (size,)) for size in (setting.observation_size, setting.action_size))
    policy = SharedTrunkPolicy(*spaces, lr_schedule=lambda _: 3e-4, setting=setting)
    plain = policy._layers[0]
    trained = {id(parameter) for group in policy.optimizer.param_groups for parameter in group["params"]}
    in_networks = {id(parameter) for name, parameter in plain.named_parameters() if name != "log_std"}
    assert trained == in_networks | {id(policy.log_std)}
    observations = torch.from_numpy(np.random.default_rng(0).standard_normal((5, setting.observation_size))).float()
    distribution, embeddings = policy.get_distribution(observations).distribution, plain.embed(observations)
    torch.testing.assert_close(distribution.mean, plain.mean(embeddings))
    torch.testing.assert_close(distribution.stddev, plain.action_log_std().exp().expand_as(distribution.mean))
    torch.testing.assert_close(policy.predict_values(observations).squeeze(-1), plain.values(embeddings))


def test_the_bare_loop_bootstraps_at_truncation_and_starts_anew_after_the_step_that_only_resets(tmp_path: Path) -> None:
    from benchmarks.throughput.bare_loop import BareLoop

    setting = Setting(num_assets=2, num_envs=1, rollout_steps=4, hidden_sizes=(8, 8), gamma=0.5, gae_lambda=0.5)
    rewards, values, finished = [1.0, 2.0, 0.0, 3.0], [10.0, 20.0, 40.0, 60.0, 80.0], [False, False, True, False, False]
    # delta_t = r_t + 0.5 V_{t+1} - V_t; the episode ends with step 1, step 2 only resets.
    # A_3 = 3 + 40 - 60 = -17
    # A_1 = 2 + 20 - 20 = 2, A_0 = 1 + 10 - 10 + 0.25 x 2 = 1.5
    bare = BareLoop(setting, market_file(2, tmp_path))
    bare._rewards[:, 0], bare._finished[:, 0] = rewards, finished
    advantages = bare._advantages(np.array(values, dtype=np.float32)[:, None])
    np.testing.assert_allclose(advantages[[0, 1, 3], 0], [1.5, 2.0, -17.0])


def test_a_measurement_is_a_process_of_its_own_and_the_run_becomes_json_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(num_assets=2, num_envs=2, rollout_steps=32, hidden_sizes=(8, 8))
    job = Job("bare", "train", setting, 0.1, 1, market_folder=str(tmp_path))
    assert Job.from_json(json.dumps(dataclasses.asdict(job))) == job
    monkeypatch.setattr(throughput, "SCRATCH", tmp_path / "unfinished")
    effort = {"repetitions": 1, "measure_s": 0.1, "warmup_iterations": 1}
    cells = [throughput.Cell("training", "bare", "train", setting)]
    assert throughput.run("throughput", cells, effort, tmp_path) == 0
    written = json.loads((tmp_path / "throughput.json").read_text())
    (found,) = written["measurements"]
    assert found["steps"] >= 64
    assert found["steps_per_second"] == pytest.approx(found["steps"] / found["seconds"], rel=0.01)
    assert CONTENDERS["bare"].label in tables.content(written)


def test_an_interrupted_run_keeps_what_was_measured_and_leaves_the_committed_results_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> Any:
        yield measurement("ours", 1.0, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(throughput, "SCRATCH", tmp_path / "unfinished")
    monkeypatch.setattr(throughput, "measurements", interrupted)
    with pytest.raises(KeyboardInterrupt):
        throughput.run("dqn", throughput.dqn_cells(), {"repetitions": 1}, tmp_path / "results")
    assert not (tmp_path / "results" / "dqn.json").exists()
    assert len(json.loads((tmp_path / "unfinished" / "dqn.json").read_text())["measurements"]) == 1


def share(test: str, rejected: float, **more: Any) -> dict[str, Any]:
    cell = {"process": "normal", "years": 20, "correlation": 0.9, "num_samples": 2000, "error": 0.005}
    return {"test": test, "rejected": rejected, **cell, **more}


@pytest.mark.parametrize(
    ("test", "rejected", "expected"),
    [
        (size_and_power.BOOTSTRAP, 0.065, True),  # 5 % + 1.5 %
        (size_and_power.BOOTSTRAP, 0.0655, False),
        (size_and_power.MEAN, 0.035, True),
        (size_and_power.MEAN, 0.0345, False),
        (size_and_power.VERDICT, 0.02, True),  # two tests that agree make false claims more rarely
        (size_and_power.VERDICT, 0.0655, False),
    ],
)
def test_a_size_is_within_the_tolerance_whatever_its_error(test: str, rejected: float, expected: bool) -> None:
    assert size_and_power.is_within(share(test, rejected, error=0.1)) is expected


def test_a_quick_simulation_leaves_every_test_of_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_and_power, "LONG", 1)
    monkeypatch.setattr(size_and_power, "POWER_YEARS", (1,))
    monkeypatch.setattr(size_and_power, "QUICK", 0.003)
    assert size_and_power.run(tmp_path, quick=True) == 0
    results = json.loads((tmp_path / "size_and_power.json").read_text())
    names = {size_and_power.HAC, *size_and_power.DECIDING}
    assert {row["test"] for row in results["size"]} == names == {row["test"] for row in results["power"]}


def test_a_measurement_is_of_committed_code_whatever_documents_and_results_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("code.py", "README.md", "benchmarks/results/a.json", "docs/curve.png")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "all of it")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    for path in files[1:]:
        path.write_text("after")
    assert machine.description()["git_is_clean"]
    files[0].write_text("after")
    assert not machine.description()["git_is_clean"]
