"""A training run from its first iteration to its closing comparison, stopped and killed on the way."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio import load_policy
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import PPORunConfig, ResourceConfig
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import (
    checkpoint_name,
    checkpoints,
    newest_checkpoint,
    read_progress,
    write_checkpoint,
)
from rllib_portfolio.runs.folder import create_run_folder, open_run_folder, require_fresh
from rllib_portfolio.runs.health import Health
from rllib_portfolio.runs.loop import _Run
from rllib_portfolio.runs.loop_state import LoopState
from rllib_portfolio.runs.summary import compare_best_policy
from rllib_portfolio.runs.validation import equal_weight_returns, walk
from rllib_portfolio.statistics.metrics import sharpe_ratio
from tests.runs.test_tracking import assert_same, columns_of, events_of, rows_of
from tests.tiny_runs import (
    COIN,
    IN_CASH,
    STEPS_PER_ITERATION,
    TOTAL_STEPS,
    TinyRun,
    start_run,
    tiny_config,
    tiny_dqn_config,
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run's own comes after it."""


def names(run_dir: Path) -> list[str]:
    return [folder.name for folder in checkpoints(run_dir)]


def deterministic_columns(run_dir: Path) -> list[dict[str, str]]:
    """The rows of progress.csv without their speed."""
    return [
        {name: value for name, value in row.items() if name != "speed/steps_per_second"} for row in rows_of(run_dir)
    ]


def newest_progress(run_dir: Path) -> dict[str, Any]:
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    return {name: value for name, value in read_progress(newest).items() if name != "elapsed_s"}


def newest_weights(run: TinyRun) -> np.ndarray:
    """Return the weights of the policy of the last checkpoint over the test window."""
    newest = newest_checkpoint(run.run_dir)
    assert newest is not None
    (walk,) = backtest(run.market, run.market.windows["test"], [load_policy(newest)], run.config.environment)
    return walk.weights


def assert_same_run(run: TinyRun, reference: TinyRun) -> None:
    """Both ended with the same policy, to the bit, by way of the same iterations."""
    np.testing.assert_array_equal(newest_weights(run), newest_weights(reference))
    assert newest_progress(run.run_dir) == newest_progress(reference.run_dir)
    assert deterministic_columns(run.run_dir) == deterministic_columns(reference.run_dir)
    assert_same(events_of(run.run_dir), columns_of(run.run_dir))


# ---------------------------------------------------------------- checkpoints


def test_checkpoints_come_at_the_first_iteration_at_or_after_each_multiple(run_in_cash: TinyRun) -> None:
    # the untrained network at 0; iterations of 64 steps: 150 -> 192, 300 -> 320, 450 -> 512, 600 -> 640
    assert run_in_cash.written == [checkpoint_name(steps) for steps in (0, 192, 320, 512, 640)]


def test_the_last_checkpoints_and_the_best_are_kept(run_in_cash: TinyRun) -> None:
    assert names(run_in_cash.run_dir) == [checkpoint_name(steps) for steps in (0, 512, 640)]
    assert [read_progress(folder)["steps"] for folder in checkpoints(run_in_cash.run_dir)] == [0, 512, 640]


def test_the_best_checkpoint_is_the_one_with_the_highest_validation_sharpe_ratio(finished_run: TinyRun) -> None:
    scores = dict(columns_of(finished_run.run_dir)["validation/sharpe_ratio"])
    best = max(scores, key=scores.__getitem__)
    progress = newest_progress(finished_run.run_dir)
    assert (progress["best_checkpoint"], progress["best_score"]) == (checkpoint_name(best), scores[best])
    assert checkpoint_name(best) in names(finished_run.run_dir)


def test_policies_may_be_selected_by_their_information_ratio(finished_run: TinyRun, tmp_path: Path) -> None:
    settings = {
        "schedule.selection_metric": "information_ratio",
        "schedule.total_timesteps": 384,
        "network.architecture": "per_asset",
        "network.hidden_sizes": (8,),
        "resources.learner": "stock",
        "resources.env_runner": "stock",
    }
    run = restart(finished_run, tmp_path / "run").with_settings(settings)
    assert run.train()
    ratios = dict(columns_of(run.run_dir)["validation/information_ratio"])
    sharpes = dict(columns_of(run.run_dir)["validation/sharpe_ratio"])
    assert list(ratios) == [0, 128, 256, 384]
    best = max(ratios, key=ratios.__getitem__)
    progress = newest_progress(run.run_dir)
    assert progress["best_checkpoint"] == checkpoint_name(best)
    assert (progress["best_score"], progress["best_sharpe"]) == (ratios[best], sharpes[best])
    assert run.statuses[-1].best_validation_sharpe == sharpes[best]
    walked = walk(load_policy(run.run_dir), run.market, "validation", run.config)
    equal_weight = equal_weight_returns(run.market, run.config)
    active = walked.returns - equal_weight
    assert ratios[best] == pytest.approx(math.sqrt(252) * active.mean() / active.std(ddof=1), rel=1e-9)


def test_the_best_checkpoint_reproduces_its_validation_score(finished_run: TinyRun) -> None:
    best = newest_progress(finished_run.run_dir)["best_score"]
    record = json.loads((finished_run.run_dir / "results.json").read_text())
    assert record["windows"]["validation"]["strategies"]["PPO policy"]["sharpe_ratio"] == pytest.approx(best, rel=1e-9)


# ---------------------------------------------------------------- what is reported


def test_a_run_reports_every_iteration(finished_run: TinyRun) -> None:
    steps = [status.steps for status in finished_run.statuses]
    assert steps == list(range(0, TOTAL_STEPS + 1, STEPS_PER_ITERATION))
    assert all(status.total_steps == TOTAL_STEPS for status in finished_run.statuses)
    messages = {status.steps: status.message for status in finished_run.statuses if status.message is not None}
    assert list(messages) == [0, 128, 256, 384, 512, 640]
    assert messages[256].startswith("      256 steps: validation Sharpe ")
    assert re.search(r", turnover \d+\.\dx a year( \(best so far\))?$", messages[256])
    best = newest_progress(finished_run.run_dir)["best_checkpoint"]
    last_best = max(steps for steps, message in messages.items() if message.endswith(" (best so far)"))
    assert checkpoint_name(last_best) == best


def test_the_reported_return_is_raw_and_not_missing_after_the_first_episode(run_in_cash: TinyRun) -> None:
    # 20 days of cash at 5 % a year, log(1.05) / 252 a day; reward normalisation would make it about 1
    returns = [status.episode_return for status in run_in_cash.statuses]
    assert all(map(math.isnan, returns[:2]))  # 0 and 16 of an episode's 20 days
    assert returns[2:] == pytest.approx([20 * math.log(1.05) / 252] * 9, rel=1e-6)


def test_an_undefined_validation_score_is_never_the_better_one(run_in_cash: TinyRun) -> None:
    assert newest_progress(run_in_cash.run_dir)["best_checkpoint"] == checkpoint_name(0)
    assert newest_progress(run_in_cash.run_dir)["best_score"] is None
    assert all(math.isnan(status.validation_sharpe) for status in run_in_cash.statuses)
    assert "validation/sharpe_ratio" not in columns_of(run_in_cash.run_dir)
    load_policy(run_in_cash.run_dir)


def test_a_run_stops_early_when_validation_no_longer_improves(ray_session: None, tmp_path: Path) -> None:
    patience, stopped_at = 2, 448
    # evaluations at 0 (the first is the best), 256, 448, 640, 832 ...
    settings = {"schedule.early_stopping_evaluations": patience, "schedule.total_timesteps": 10 * TOTAL_STEPS}
    run = start_run(tmp_path / "run", tiny_config(IN_CASH, settings))
    assert run.train()
    assert run.statuses[-1].steps == stopped_at
    assert run.statuses[-1].message is not None
    assert run.statuses[-1].message.endswith(f"; the last {patience} were not better: training stops early")
    assert names(run.run_dir)[-1] == checkpoint_name(stopped_at)
    assert run.train(resume=True)  # and it stays stopped
    assert run.statuses[-1].steps == stopped_at


# ---------------------------------------------------------------- interruptions


def restart(finished_run: TinyRun, run_dir: Path) -> TinyRun:
    """A fresh folder with the configuration and market of `finished_run`."""
    create_run_folder(run_dir, finished_run.config, finished_run.market)
    return TinyRun(finished_run.config, finished_run.market, run_dir)


def test_a_stopped_run_continues_as_if_it_had_never_stopped(finished_run: TinyRun, tmp_path: Path) -> None:
    run = restart(finished_run, tmp_path / "run")
    assert not run.stop_at(448)
    assert names(run.run_dir)[-1] == checkpoint_name(448)  # where none was due
    assert [int(row["steps"]) for row in rows_of(run.run_dir)][-1] == 448
    assert run.train(resume=True)
    assert_same_run(run, finished_run)


@pytest.mark.parametrize("killed_at", [0, 7 * STEPS_PER_ITERATION])
def test_a_killed_run_continues_from_its_last_checkpoint(finished_run: TinyRun, tmp_path: Path, killed_at: int) -> None:
    def kill(status: Any) -> None:
        if status.steps == killed_at:
            raise Killed

    run = restart(finished_run, tmp_path / "run")
    with pytest.raises(Killed):
        run.train(on_progress=kill)
    last = newest_checkpoint(run.run_dir)
    saved = 0 if last is None else read_progress(last)["steps"]
    assert last is not None  # that of the untrained network at least
    assert (saved < killed_at) == (killed_at > 0)
    assert (saved == 0) == (killed_at <= STEPS_PER_ITERATION)
    assert int(rows_of(run.run_dir)[-1]["steps"]) == killed_at  # rows that will come again
    assert run.train(resume=True)
    assert run.statuses[0].steps == saved + STEPS_PER_ITERATION
    assert_same_run(run, finished_run)


def test_evaluations_and_checkpoints_do_not_change_the_training(finished_run: TinyRun, tmp_path: Path) -> None:
    seldom = {"schedule.evaluation_interval": 10**6, "schedule.checkpoint_interval": 10**6}
    run = restart(finished_run, tmp_path / "run").with_settings(seldom)
    assert not run.stop_at(256)
    untrained, *trained = rows_of(finished_run.run_dir)
    assert untrained["steps"] == "0"
    for row, reference in zip(rows_of(run.run_dir), trained[:4], strict=True):
        for name in ("training/total_loss", "training/entropy", "training/gradient_norm"):
            assert row[name] == reference[name]


def test_the_untrained_network_is_selected_where_training_makes_it_worse(finished_run: TinyRun, tmp_path: Path) -> None:
    # with so large a step the network trades at random, and each trade costs 5 %
    ruinous = {"training.learning_rate": 1.0, "training.clip": 100.0, "environment.cost_bps": 500.0}
    run = restart(finished_run, tmp_path / "run").with_settings(ruinous)
    assert run.train()
    scores = dict(columns_of(run.run_dir)["validation/sharpe_ratio"])
    assert max(scores, key=scores.__getitem__) == 0
    assert newest_progress(run.run_dir)["best_checkpoint"] == checkpoint_name(0)
    walked = walk(load_policy(run.run_dir), run.market, "validation", run.config)
    start, stop = run.market.windows["validation"]
    assert sharpe_ratio(walked.returns, run.market.cash_returns[start:stop]) == pytest.approx(scores[0], rel=1e-9)


def test_a_market_that_ruins_equal_weights_is_refused_before_anything_of_the_run_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the writer of an open event file would bring the folder back after its removal
    monkeypatch.setattr("rllib_portfolio.runs.loop.Tracker", lambda *arguments, **settings: pytest.fail("opened"))
    ruinous = start_run(tmp_path / "run", tiny_config({**COIN, "environment.impact": 100}))
    with pytest.raises(ConfigError, match=r"^impact must leave wealth positive"):
        ruinous.train()


def test_a_network_behind_a_filter_that_has_seen_nothing_is_no_candidate(finished_run: TinyRun, tmp_path: Path) -> None:
    run = restart(finished_run, tmp_path / "run").with_settings({"market.observation_filter": "running"})
    assert not run.stop_at(128)
    assert [status.steps for status in run.statuses if status.is_evaluated] == [128]


def test_a_run_that_is_evaluated_once_has_no_other_candidate(finished_run: TinyRun, tmp_path: Path) -> None:
    once = {"schedule.evaluation_interval": TOTAL_STEPS}
    run = restart(finished_run, tmp_path / "run").with_settings(once)
    assert run.train()
    assert [status.steps for status in run.statuses if status.is_evaluated] == [TOTAL_STEPS]
    assert newest_progress(run.run_dir)["best_checkpoint"] == checkpoint_name(TOTAL_STEPS)


def test_another_seed_gives_another_run(finished_run: TinyRun, tmp_path: Path) -> None:
    run = restart(finished_run, tmp_path / "run").with_settings({})
    run.config = run.config.model_copy(update={"seed": 3})
    assert not run.stop_at(STEPS_PER_ITERATION)
    assert deterministic_columns(run.run_dir)[0] != deterministic_columns(finished_run.run_dir)[0]


def test_a_finished_run_can_go_on_for_longer(finished_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(finished_run.run_dir, tmp_path / "run")
    run = TinyRun(finished_run.config, finished_run.market, tmp_path / "run")
    assert run.train(resume=True)
    assert run.statuses == []  # nothing was left to do
    longer = run.with_settings({"schedule.total_timesteps": TOTAL_STEPS + STEPS_PER_ITERATION})
    assert longer.train(resume=True)
    assert [status.steps for status in longer.statuses] == [TOTAL_STEPS + STEPS_PER_ITERATION]


def test_a_run_whose_best_checkpoint_is_gone_finds_a_new_one(
    run_in_cash: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # as after a damaged checkpoint was removed: the one before may name a best one that had made way for it
    shutil.copytree(run_in_cash.run_dir, tmp_path / "run")
    settings = {"schedule.total_timesteps": TOTAL_STEPS + STEPS_PER_ITERATION}
    run = TinyRun(run_in_cash.config, run_in_cash.market, tmp_path / "run").with_settings(settings)
    shutil.rmtree(run.run_dir / "checkpoints" / checkpoint_name(0))
    with pytest.raises(ConfigError, match="the checkpoint that was best on validation, got no step_000000000"):
        load_policy(run.run_dir)
    assert run.train(resume=True)
    assert "step_000000000, the best so far, is gone. The next evaluation is then the best so far." in caplog.text
    assert newest_progress(run.run_dir)["best_checkpoint"] == checkpoint_name(704)
    load_policy(run.run_dir)


def kill(env_runner: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_whose_env_runners_all_fail_goes_on_when_they_are_back(ray_session: None, tmp_path: Path) -> None:
    config = tiny_config(COIN, {"resources.num_env_runners": 1})
    tiny = start_run(tmp_path / "run", config)
    run, notices = _Run(config, tiny.market, tiny.run_dir, resume=False), []
    faults = {3 * STEPS_PER_ITERATION: kill}

    def fail_once(status: Any) -> None:
        if status.notice is not None:
            notices.append(status.notice.split("steps: ")[1])
        if (fault := faults.pop(status.steps, None)) is not None:
            run.algorithm.env_runner_group.foreach_env_runner(fault, local_env_runner=False)

    assert run.loop(fail_once, should_stop=lambda: False)
    assert notices == [
        "1 env runner lost; what it was sampling is not counted; 0 of 1 sample",
        "1 env runner back; 1 of 1 sample",
    ]
    rows = rows_of(tiny.run_dir)
    # no row while nobody samples, and no step of one that was killed
    assert [int(row["steps"]) for row in rows] == [STEPS_PER_ITERATION * (i + 1) for i in range(10)]
    assert float(rows[-1]["env_runners/restarts"]) == 1.0


def test_env_runners_that_are_lost_or_say_nothing_are_told_once_and_so_is_their_return() -> None:
    health = Health(SimpleNamespace(silent_env_runners=()), ResourceConfig(num_env_runners=3))
    told = []
    assert health.notice(2048, {"validation/sharpe_ratio": 1.0}) is None  # the untrained network: nothing samples yet
    for healthy, silent in [(3, ()), (3, (2,)), (3, (2,)), (3, (1, 2)), (2, ()), (3, ()), (3, (3,)), (3, ())]:
        health.algorithm = SimpleNamespace(silent_env_runners=silent, config=SimpleNamespace(sample_timeout_s=20.0))
        told.append((health.notice(2048, {"env_runners/healthy": healthy}) or "").removeprefix("    2,048 steps: "))
    assert told == [
        "",
        "no answer from env runner 2 for 20 s; what was sampled there is not counted; 2 of 3 sample",
        "",
        "no answer from env runners 1, 2 for 20 s; what was sampled there is not counted; 1 of 3 sample",
        "1 env runner lost; what it was sampling is not counted; 2 of 3 sample",
        "1 env runner back; 3 of 3 sample",
        "no answer from env runner 3 for 20 s; what was sampled there is not counted; 2 of 3 sample",
        "all env runners in service answer again; 3 of 3 sample",
    ]


def test_a_clock_that_is_set_back_changes_nothing(
    finished_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(1_900_000_000, 0, -3600))
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    run = start_run(tmp_path / "run", finished_run.config)
    assert run.train()
    monkeypatch.undo()
    assert_same_run(run, finished_run)
    assert deterministic_columns(run.run_dir) == deterministic_columns(finished_run.run_dir)
    elapsed = [status.elapsed_s for status in run.statuses]
    assert elapsed == sorted(elapsed)
    assert all(status.steps_per_second > 0 for status in run.statuses[1:])
    assert_same(events_of(run.run_dir), columns_of(run.run_dir))


# ---------------------------------------------------------------- the run folder


def test_the_record_says_everything_that_the_run_depends_on(finished_run: TinyRun, pytestconfig: pytest.Config) -> None:
    from importlib.metadata import version

    record = json.loads((finished_run.run_dir / "run.json").read_text())
    assert PPORunConfig(**record["config"]) == finished_run.config
    assert record["seed"] == finished_run.config.seed
    assert record["data_hash"] == finished_run.market.data_hash
    assert record["data_source"] == finished_run.config.market.data
    for package in ("ray", "torch", "numpy", "pandas", "gymnasium"):
        assert record["versions"][package] == version(package)
    test_window = record["windows"]["test"]
    start, stop = finished_run.market.windows["test"]
    assert test_window == [str(finished_run.market.dates[start]), str(finished_run.market.dates[stop - 1])]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False
    ).stdout.strip()
    if head:  # the tests may run from a source archive
        assert len(record["git_revision"].removesuffix("-dirty")) == 40


def test_the_resolved_configuration_and_the_market_are_beside_it(finished_run: TinyRun) -> None:
    assert load_run_config(finished_run.run_dir / "config.yaml", {}) == finished_run.config
    config, market = open_run_folder(finished_run.run_dir, {})
    assert config == finished_run.config
    assert market.data_hash == finished_run.market.data_hash
    np.testing.assert_array_equal(market.asset_features, finished_run.market.asset_features)


def test_a_folder_that_holds_something_is_not_written_over(tmp_path: Path) -> None:
    require_fresh(tmp_path / "new")
    require_fresh(tmp_path)
    (tmp_path / "thesis.txt").touch()
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ConfigError, match="output directory must be new or empty"):
            require_fresh(path)


# ---------------------------------------------------------------- the closing comparison


def strict_json(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    result: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return result


def test_the_comparison_is_written_as_json_csv_and_picture(finished_run: TinyRun) -> None:
    record = strict_json(finished_run.run_dir / "results.json")
    table = pd.read_csv(finished_run.run_dir / "results.csv", index_col=["window", "strategy"])
    for window in ("validation", "test"):
        start, stop = finished_run.market.windows[window]
        assert record["windows"][window]["first"] == str(finished_run.market.dates[start])
        assert record["windows"][window]["last"] == str(finished_run.market.dates[stop - 1])
        strategies = record["windows"][window]["strategies"]
        assert next(iter(strategies)) == "PPO policy"
        assert {"1/N", "buy-and-hold", "all cash"} <= set(strategies)
        assert len(strategies) > 4  # the index, too
        for name, row in strategies.items():
            for column, value in row.items():
                written = table.loc[(window, name), column]
                assert value is None if math.isnan(written) else value == pytest.approx(written)
    verdict = record["verdict"]
    assert verdict["outcome"] in ("beats", "no significant difference", "loses")
    assert verdict["sentence"].startswith(f"On the test window ({record['windows']['test']['first']} to ")
    picture = (finished_run.run_dir / "equity_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_what_is_undefined_is_null_in_json(run_in_cash: TinyRun) -> None:
    compare_best_policy(run_in_cash.run_dir, run_in_cash.config, run_in_cash.market)
    strategies = strict_json(run_in_cash.run_dir / "results.json")["windows"]["test"]["strategies"]
    assert strategies["PPO policy"]["sharpe_ratio"] is None
    assert strategies["PPO policy"]["annual_return"] == pytest.approx(0.05)


def test_the_comparison_refuses_another_market(finished_run: TinyRun, tiny_market: MarketData) -> None:
    with pytest.raises(ConfigError, match="assets must be those of training"):
        compare_best_policy(finished_run.run_dir, finished_run.config, tiny_market)


# ---------------------------------------------------------------- one run on the bundled universe


def test_the_bundled_universe_trains(ray_session: None, tmp_path: Path) -> None:
    settings = {"schedule.total_timesteps": STEPS_PER_ITERATION, "schedule.evaluation_interval": 10**6}
    run = start_run(tmp_path / "run", tiny_config(settings))
    assert run.train()
    results = compare_best_policy(run.run_dir, run.config, run.market)
    assert run.market.num_assets == 20
    assert results.dates == {"validation": ("2012-01-03", "2015-12-31"), "test": ("2016-01-04", "2022-12-28")}
    # an almost untrained policy holds the uniform portfolio over 21 assets
    policy, equal_weight = results.tables["test"].iloc[0], results.tables["test"].loc["1/N"]
    assert policy["annual_return"] == pytest.approx(equal_weight["annual_return"], abs=0.02)


# ---------------------------------------------------------------- DQN


@pytest.fixture(scope="module")
def dqn_run(ray_session: None, tmp_path_factory: pytest.TempPathFactory, price_settings: dict[str, Any]) -> TinyRun:
    """A DQN run that came to its end."""
    run = start_run(tmp_path_factory.mktemp("runs") / "dqn", tiny_dqn_config(price_settings))
    assert run.train()
    return run


def test_a_dqn_run_tells_beta_the_buffer_and_the_loss(dqn_run: TinyRun) -> None:
    untrained, *rows = rows_of(dqn_run.run_dir)
    assert untrained["steps"] == "0"
    assert [int(row["steps"]) for row in rows] == list(range(64, TOTAL_STEPS + 1, 64))
    betas = [float(row["replay/beta"]) for row in rows]
    # 0.5 + 0.5 of the share of the run
    assert betas == pytest.approx([0.5 + 0.05 * count for count in range(1, 11)])
    assert float(rows[3]["replay/transitions"]) == 256.0
    for name in ("training/td_loss", "training/q_mean", "training/td_error", "training/gradient_norm"):
        assert np.isfinite(float(rows[-1][name])), name
    assert_same(events_of(dqn_run.run_dir), columns_of(dqn_run.run_dir))


def test_a_stopped_dqn_run_continues_as_if_it_had_not_been(
    dqn_run: TinyRun, tmp_path: Path, price_settings: dict[str, Any]
) -> None:
    run = start_run(tmp_path / "run", tiny_dqn_config(price_settings))
    assert not run.stop_at(320)
    assert run.train(resume=True)
    assert_same_run(run, dqn_run)


def test_a_run_whose_weights_are_not_finite_ends_with_what_was_saved_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise ConfigError("the weights of a policy must be finite, got 1 of log_std that are not")

    monkeypatch.setattr("rllib_portfolio.runs.loop.current_policy", refused)
    run = object.__new__(_Run)
    run.algorithm = run.config = run.market = run.evaluated = None
    run.run_dir, run.state = tmp_path, LoopState(steps=640)
    with pytest.raises(ConfigError, match=r"640 steps\)\. Nothing was saved before\. Start a new run with a lower"):
        run._checkpoint()
    assert list(tmp_path.iterdir()) == []
    write_checkpoint(tmp_path, 64, lambda folder: None, {})
    with pytest.raises(ConfigError, match=r"must be finite, .* The last checkpoint, step_000000064, is from before"):
        run._checkpoint()
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step_000000064"]
