"""The benchmarks' arithmetic and plumbing; what they measure is nobody's test."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import machine
from benchmarks.evaluation import size_and_power, speed, tables
from benchmarks.throughput import plan, suite, targets
from benchmarks.throughput.contenders import CONTENDERS
from benchmarks.throughput.network import ActorCritic
from benchmarks.throughput.report import content, marks, replaced
from benchmarks.throughput.setting import Setting, market_file
from benchmarks.throughput.stopwatch import Stopwatch, Watched
from benchmarks.throughput.summary import Spread, fastest, ratio, sides
from benchmarks.throughput.worker import Job
from benchmarks.tuning import early_stopping, timing
from benchmarks.tuning import suite as tuning
from benchmarks.tuning import tables as tuning_tables


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
        "peak_memory_mb": 100.0,
    }


def test_a_side_is_summarised_by_median_and_range_and_failures_are_left_out() -> None:
    speeds = [300.0, 100.0, 200.0]
    measurements = [measurement("ours", speed, i) for i, speed in enumerate(speeds)]
    measurements.append({**measurement("ours", 0.0, 3), "error": "died"})
    (side,) = sides(measurements)
    assert side.steps_per_second == Spread(median=200.0, low=100.0, high=300.0, repetitions=3)


def test_each_contender_is_taken_in_its_fastest_thread_setting() -> None:
    found = sides([measurement("bare", 100.0, 0, num_threads=1), measurement("bare", 150.0, 0, num_threads=2)])
    best = fastest(found)
    assert best is not None
    assert best.setting["num_threads"] == 2


def test_ratios_are_paired_by_repetition() -> None:
    # The machine slows to a half in repetition 1: 200/100 = 2, 100/50 = 2, 300/100 = 3. The medians of the speeds, 200
    # and 100, would hide the 3; pairing across repetitions would give anything from 1 to 6.
    ours = [measurement("ours", speed, i) for i, speed in enumerate([200.0, 100.0, 300.0])]
    bare = [measurement("bare", speed, i) for i, speed in enumerate([100.0, 50.0, 100.0])]
    numerator, denominator = sides([*ours, *bare])
    assert ratio(numerator, denominator) == Spread(median=2.0, low=2.0, high=3.0, repetitions=3)


def test_targets_compare_with_the_fastest_configuration_of_a_peer() -> None:
    measurements = [
        measurement("ours", 300.0, 0),
        measurement("stock", 100.0, 0),
        measurement("stock_sync", 150.0, 0, num_threads=2),
        measurement("sb3_dummy", 250.0, 0),
    ]
    rows = {row["name"]: row for row in targets.checked(sides(measurements), {"growth": 0.03}, train_s=180.0)}
    assert rows["PPO / stock RLlib PPO"]["median"] == 2.0  # 300 / 150
    assert rows["PPO / stock RLlib PPO"]["met"] is False  # 2.5 is asked for
    assert rows["PPO / stock RLlib PPO"]["sides"][1] == {"contender": "stock_sync", "num_threads": 2}
    assert rows["PPO / best Stable-Baselines3"]["median"] == 1.2
    assert rows["PPO / bare loop"]["met"] is None
    assert rows["make train, 500000 PPO steps, minutes"]["met"] is True  # 3
    assert rows["growth of peak memory from 200000 to 2 million steps"]["met"] is False


def test_the_targets_of_dqn() -> None:
    replay = {"buffer_mb": 66.0, "observations_mb": 60.0}
    measurements = [
        measurement("dqn_ours", 2000.0, 0, part="dqn"),
        measurement("dqn_stock", 400.0, 0, part="dqn"),
        measurement("dqn_sb3", 4000.0, 0, part="dqn"),
        {**measurement("replay_ours", 4000.0, 0, part="replay"), **replay},
    ]
    rows = {row["name"]: row for row in targets.checked_dqn(sides(measurements))}
    assert rows["DQN updates / stock RLlib DQN"]["median"] == 5.0
    assert rows["DQN updates / stock RLlib DQN"]["met"] is True
    assert rows["DQN updates / Stable-Baselines3 DQN"]["met"] is False  # 0.5
    assert rows["batch of 64 and its new priorities, milliseconds"]["median"] == 0.25
    assert rows["memory of a full buffer / its observations"]["median"] == 1.1


def test_every_other_repetition_runs_the_other_way_round() -> None:
    cells = plan.full_parts()["training"].cells
    assert plan.in_order(cells, 1) == plan.in_order(cells, 0)[::-1]
    assert plan.in_order(cells, 2) not in (plan.in_order(cells, 0), plan.in_order(cells, 1))
    assert set(plan.in_order(cells, 2)) == set(cells)


def test_time_in_an_inner_function_does_not_count_for_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Program:
        def outer(self) -> None:
            wait(1.0)
            self.inner()
            wait(2.0)

        def inner(self) -> None:
            wait(10.0)

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now)
    stopwatch = Stopwatch()
    stopwatch.attach([Watched("outside", Program, "outer"), Watched("inside", Program, "inner")])
    Program().outer()
    assert stopwatch.seconds == {"outside": 3.0, "inside": 10.0}


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
    torch.testing.assert_close(plain.value(embeddings), module.compute_values({Columns.OBS: observations}))


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
    torch.testing.assert_close(policy.predict_values(observations).squeeze(-1), plain.value(embeddings))


def test_the_loops_bootstrap_at_truncation_and_start_anew_after_the_step_that_only_resets(tmp_path: Path) -> None:
    from benchmarks.throughput.bare_loop import BareLoop
    from benchmarks.throughput.cleanrl_style import CleanRLStyle

    setting = Setting(num_assets=2, num_envs=1, rollout_steps=4, hidden_sizes=(8, 8), gamma=0.5, gae_lambda=0.5)
    rewards, values, finished = [1.0, 2.0, 0.0, 3.0], [10.0, 20.0, 40.0, 60.0, 80.0], [False, False, True, False, False]
    # delta_t = r_t + 0.5 V_{t+1} - V_t; the episode ends with step 1, step 2 only resets.
    # A_3 = 3 + 40 - 60 = -17
    # A_1 = 2 + 20 - 20 = 2, A_0 = 1 + 10 - 10 + 0.25 x 2 = 1.5
    bare = BareLoop(setting, market_file(2, tmp_path))
    bare._rewards[:, 0], bare._finished[:, 0] = rewards, finished
    advantages = bare._advantages(np.array(values, dtype=np.float32)[:, None])
    np.testing.assert_allclose(advantages[[0, 1, 3], 0], [1.5, 2.0, -17.0])

    cleanrl = CleanRLStyle(setting, market_file(2, tmp_path))
    cleanrl.rewards[:, 0], cleanrl.values[:, 0] = torch.tensor(rewards), torch.tensor(values[:-1])
    cleanrl.dones[:, 0] = torch.tensor(finished[:-1]).float()
    cleanrl.agent.get_value = lambda _: torch.tensor([values[-1]])  # type: ignore[method-assign]
    np.testing.assert_allclose(cleanrl.advantages()[[0, 1, 3], 0], [1.5, 2.0, -17.0])


def test_a_worker_measures_the_bare_loop_and_the_run_becomes_json_picture_and_readme(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    setting = Setting(num_assets=2, num_envs=2, rollout_steps=32, hidden_sizes=(8, 8))
    job = Job("bare", "train", setting, 0.1, 1, with_components=True, market_folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.throughput.worker", json.dumps(dataclasses.asdict(job))],
        cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["steps"] >= 64
    assert answer["peak_memory_mb"] > 50
    assert sum(answer["components_us"].values()) == pytest.approx(1e6 / answer["steps_per_second"], rel=0.01)

    cell = {"part": "training", "contender": "bare", "task": "train", "setting": dataclasses.asdict(setting)}
    results = suite.Results("throughput", parts={"training": "PPO"}, effort=dataclasses.asdict(plan.QUICK))
    results.measurements.append({**cell, "repetition": 0, **answer})
    results.sign(["training"])
    suite.write(results.as_json(), tmp_path)
    written = json.loads((tmp_path / "throughput.json").read_text())
    assert {"machine", "hyperparameters", "targets", "summary", "measurements"} <= set(written)
    assert {"name", "median", "range", "met"} <= set(written["targets"][0])
    assert (tmp_path / "throughput.png").stat().st_size > 1000
    begin, end = marks("throughput")
    assert CONTENDERS["bare"].label in replaced(f"a {begin} old {end} z", "throughput", content(written))


def test_parts_measured_anew_replace_those_of_an_earlier_run_and_say_so() -> None:
    def results(revision: str, speed: float, *parts: str) -> suite.Results:
        made = suite.Results(
            "throughput", {part: part for part in parts}, effort={}, machine={"git_revision": revision}
        )
        made.measurements += [measurement("ours", speed, 0, part=part) for part in parts]
        made.sign(parts)
        return made

    earlier = results("a", 1.0, "training", "sampling").as_json()
    merged = results("b", 2.0, "sampling")
    merged.keep(earlier, suite.SUITES["throughput"])
    speeds = {m["part"]: m["steps_per_second"] for m in merged.as_json()["measurements"]}
    assert speeds == {"training": 1.0, "sampling": 2.0}
    assert list(merged.parts) == ["training", "sampling"]
    assert {part: signed["git_revision"] for part, signed in merged.measured.items()} == {
        "training": "a",
        "sampling": "b",
    }


@pytest.mark.parametrize("parts", [plan.full_parts(), plan.quick_parts(), plan.dqn_parts()])
def test_every_cell_names_a_contender(parts: dict[str, plan.Part]) -> None:
    assert {cell.contender for part in parts.values() for cell in part.cells} <= set(CONTENDERS)


MACHINE = {
    "processor": "P",
    "cores": 2,
    "system": "S",
    "python": "3.11",
    "packages": {"numpy": "2.4"},
    "git_revision": "a" * 40,
    "git_is_clean": True,
    "load_average": 0.5,
}


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


def test_the_targets_of_evaluation_are_seconds() -> None:
    seconds = {"metrics": 1.0, "rolling": 20.0, "bootstrap": 38.5, "confidence set": 500.0}
    figures, baselines = speed.targets(seconds, 180.0)
    assert (figures["seconds"], figures["at_most_s"], figures["met"]) == (59.5, 60.0, True)
    assert (baselines["at_most_s"], baselines["met"]) == (180.0, False)  # under, not at


def test_results_of_evaluation_become_tables_between_their_marks() -> None:
    settings = {"level": 0.05, "tolerance": 0.015, "power_at_difference": 0.5, "bootstrap_resamples": 79}
    simulated = {
        "suite": "size_and_power",
        "machine": MACHINE,
        "settings": settings,
        "size": [share(size_and_power.VERDICT, 0.041), share(size_and_power.BOOTSTRAP, 0.09)],
        "power": [share(size_and_power.HAC, 0.6, theory=0.608), share(size_and_power.VERDICT, 0.55, theory=0.608)],
        "overfitting": {"noise": {"num_matrices": 100, "mean": 0.49, "error": 0.01}},
    }
    text = tables.content(simulated)
    assert "| verdict | normal | 20 | 0.9 | 2000 | 4.1% | 0.5% |  |" in text
    assert "| Sharpe, bootstrap | normal | 20 | 0.9 | 2000 | 9.0% | 0.5% | OUTSIDE |" in text
    assert "| Sharpe, HAC | normal | 20 | 0.9 | 2000 | 60.0% | 0.5% | 60.8% |" in text
    assert "| verdict | normal | 20 | 0.9 | 2000 | 55.0% | 0.5% |  |" in text  # the theory is of a Sharpe test
    walk = {"rows": 15, "days": 9, "first_day": "F", "last_day": "L", "failed_fits": 1, "seconds": 9.0}
    timed = {
        "suite": "evaluation_speed",
        "machine": MACHINE,
        "size": {"strategies": 15, "days": 9, "draws": 5},
        "seconds": {"metrics": 1.5},
        "baselines": walk,
        "targets": [{"name": "back-test of the baselines", "at_most_s": 180.0, "seconds": 200.0, "met": False}],
    }
    assert "| back-test of the baselines | 180 | 200 | NOT MET |" in tables.content(timed)
    # medians 2 and 6; the ratio is of pairs and comes with the file
    page = {"days": 8313, "seconds": {"ours": [1.0, 2.0, 4.0], "quantstats": [5.0, 6.0, 9.0]}, "ratio_median": 2.5}
    sheet = {"suite": "tear_sheet", "machine": MACHINE, "quantstats": "0.0.86", "rows": [page]}
    assert "| 8313 | 2.00 | 6.00 | 2.50 |" in tables.content(sheet)


def trial_times(started_s: float, ended_s: float, *reports: tuple[float, int, float]) -> timing.TrialTimes:
    return timing.TrialTimes(started_s, [timing.Report(*each) for each in reports], ended_s)


TRIAL_TIMES = {
    # Between the reports 7 s, of which 4 s are training: an evaluation takes 3 s.
    "trial_0000": trial_times(2.0, 16.0, (8.0, 100, 2.0), (15.0, 200, 6.0)),
    "trial_0001": trial_times(3.0, 12.0, (11.0, 100, 5.0)),  # one report: what an evaluation takes is not known
}


def test_the_time_of_a_search_is_shared_out_to_training_evaluation_setup_and_idle_places() -> None:
    assert TRIAL_TIMES["trial_0000"].evaluation_s == 3.0
    # 2 places x 20 s. Training 6 + 5, evaluation 2 x 3, trials 14 + 9 of which 23 - 11 - 6 are setup, idle 40 - 23.
    found = timing.shares(list(TRIAL_TIMES.values()), wall_s=20.0, num_slots=2)
    assert found == timing.Shares(training=11 / 40, evaluation=6 / 40, setup=6 / 40, idle=17 / 40)
    assert found.overhead == pytest.approx(29 / 40)
    assert timing.throughput(list(TRIAL_TIMES.values())) == 300 / 14  # from 2 s to 16 s


def searches() -> list[dict[str, Any]]:
    """Ours finds 2 points less, 1 more, 3 more; in 0.5, 0.7 and 0.6 of the steps."""
    ours = [(0.88, 500), (0.91, 700), (0.93, 600)]
    rows = [
        {"side": early_stopping.OURS, "share": share, "sharpe": 2.5, "steps": steps, "pruned": 9}
        for share, steps in ours
    ]
    rows += [{"side": early_stopping.RANDOM, "share": 0.9, "sharpe": 2.4, "steps": 1000, "pruned": 0} for _ in ours]
    return [{"repetition": i % 3, **row} for i, row in enumerate(rows)]


def test_early_stopping_is_compared_within_repetitions() -> None:
    found = early_stopping.comparison(searches())
    assert [row["share"] for row in found] == pytest.approx([-0.02, 0.01, 0.03])
    assert [row["steps"] for row in found] == [0.5, 0.7, 0.6]
    assert early_stopping.medians(searches()) == pytest.approx({"share": 0.01, "sharpe": 0.1, "steps": 0.6})


@pytest.mark.parametrize("invested", [1.0, 0.3])
def test_the_best_sharpe_ratio_is_that_of_the_asset_with_the_odds_on_its_side(invested: float) -> None:
    def better(observations: Any) -> Any:  # they begin with the regime, one-hot: the number of the better asset
        return np.column_stack([invested * observations[:, :2], np.full(len(observations), 1.0 - invested)])

    market = early_stopping.regimes(early_stopping.MOVE, early_stopping.ODDS)
    assert early_stopping.sharpe_share(better, market, seed=0, num_envs=2) == pytest.approx(1.0)
    worse = lambda observations: better(1.0 - observations)  # noqa: E731
    assert early_stopping.sharpe_share(worse, market, seed=0, num_envs=2) == pytest.approx(-1.0)


def test_results_of_tuning_become_targets_and_tables() -> None:
    settings = {"num_samples": 50, "max_steps": 50_000}
    speeds = {"4 at a time": 850.0, "one after another": 1000.0}
    shares = dataclasses.asdict(timing.shares(list(TRIAL_TIMES.values()), wall_s=20.0, num_slots=2))
    parts = {
        "early-stopping": {"settings": settings, "rows": searches()},
        "concurrency": {
            "settings": settings,
            "rows": [{"name": name, "steps_per_second": speed, "wall_s": 9.0} for name, speed in speeds.items()],
        },
        "overhead": {"settings": settings, "slots": 2, "wall_s": 20.0, "shares": shares},
    }
    targets = tuning.targets(parts)
    assert [(row["measured"], row["met"]) for row in targets] == [
        (0.01, True),
        (0.6, True),
        (0.85, True),
        (0.725, False),  # 29 / 40
    ]
    assert tuning.targets({"concurrency": parts["concurrency"]}) == targets[2:3]  # of what was measured
    machine = {"machine": MACHINE}
    text = tuning_tables.content({"targets": targets, "parts": {name: machine | part for name, part in parts.items()}})
    assert "| environment steps / those of random search | at most 0.65 | 0.600 | met |" in text
    assert "| share of a search's time that is not training | at most 0.15 | 0.725 | NOT MET |" in text
    assert "| 2 | 93.0% | 90.0% | 2.50 | 2.40 | 600 | 1,000 | 0.60 | 9 |" in text
    assert "| median | 91.0% | 90.0% | 2.50 | 2.40 | 600 | 1,000 | 0.60 | 9 |" in text
    assert "| 4 at a time | 850 | 9 |" in text
    assert "| training | 27.5% |" in text


def test_the_readme_has_marks_for_every_suite(pytestconfig: pytest.Config) -> None:
    readme = (pytestconfig.rootpath / "benchmarks" / "README.md").read_text()
    for name in (*suite.SUITES, *bench.SINGLE.values()):
        assert "found it" in replaced(readme, name, "found it")
    with pytest.raises(ValueError, match="README must hold <!-- nothing: begin -->"):
        replaced(readme, "nothing", "")


def test_a_quick_simulation_leaves_every_test_of_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_and_power, "LONG", 1)
    monkeypatch.setattr(size_and_power, "POWER_YEARS", (1,))
    monkeypatch.setattr(size_and_power, "QUICK", 0.003)
    assert size_and_power.run(tmp_path, quick=True) == 0
    results = json.loads((tmp_path / "size_and_power.json").read_text())
    names = {size_and_power.HAC, *size_and_power.DECIDING}
    assert {row["test"] for row in results["size"]} == names == {row["test"] for row in results["power"]}
    assert "OUTSIDE" in tables.content(results)  # six samples say nothing, and the tables hide nothing


def test_an_interrupted_run_leaves_the_committed_results_alone(tmp_path, monkeypatch) -> None:
    def interrupted(*arguments: object) -> list[dict[str, object]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(suite, "PARTIAL", tmp_path / "partial")
    monkeypatch.setattr(suite.launch, "measure_part", interrupted)
    monkeypatch.setattr(suite.launch, "market_folder", lambda: nullcontext(tmp_path))
    code = suite.run(suite.SUITES["dqn"], quick=False, only=[], repetitions=None, output=tmp_path / "results")
    assert code == 130
    assert not (tmp_path / "results").exists()
    assert (tmp_path / "partial" / "dqn.json").is_file()


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
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    for path in files[1:]:
        path.write_text("after")
    assert machine.description()["git_is_clean"]
    files[0].write_text("after")
    assert not machine.description()["git_is_clean"]
