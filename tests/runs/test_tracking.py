"""Tests that TensorBoard events and progress.csv have the same values, also after an interruption."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.runs import tracking
from rllib_portfolio.runs.tracking import Tracker, log_hyperparameters
from tests.tiny_runs import STEPS_PER_ITERATION, TOTAL_STEPS, TinyRun

Scalars = dict[str, list[tuple[int, float]]]


def events_of(run_dir: Path) -> Scalars:
    """Tag to (step, value), as TensorBoard shows them."""
    events = EventAccumulator(str(run_dir))
    events.Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return {tag: points for tag, points in scalars.items() if points}


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def columns_of(run_dir: Path) -> Scalars:
    """The same from progress.csv; empty cells are left out."""
    columns = defaultdict(list)
    for row in rows_of(run_dir):
        for name, value in row.items():
            if name != "steps" and value:
                columns[name].append((int(row["steps"]), float(value)))
    return dict(columns)


def assert_same(events: Scalars, columns: Scalars) -> None:
    assert events.keys() == columns.keys()
    for name, points in events.items():
        assert [step for step, _ in points] == [step for step, _ in columns[name]], name
        assert [value for _, value in points] == pytest.approx([value for _, value in columns[name]], rel=1e-6), name


# ---------------------------------------------------------------- the tracker alone


def test_rows_and_events_say_the_same(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.log(64, {"loss": 0.5})
    tracker.log(128, {"loss": 0.25, "sharpe": -1.0})
    tracker.log(192, {"loss": 0.125})
    tracker.close()
    assert rows_of(tmp_path) == [
        {"steps": "64", "loss": "0.5", "sharpe": ""},
        {"steps": "128", "loss": "0.25", "sharpe": "-1.0"},
        {"steps": "192", "loss": "0.125", "sharpe": ""},
    ]
    assert events_of(tmp_path) == {"loss": [(64, 0.5), (128, 0.25), (192, 0.125)], "sharpe": [(128, -1.0)]}


@pytest.mark.parametrize("resumed_at", [0, 64, 128])
def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path, resumed_at: int) -> None:
    before = Tracker(tmp_path)
    for steps in (64, 128, 192):
        before.log(steps, {"loss": 0.5, "sharpe": 1.0})
    before.close()
    time.sleep(1.0)  # event files are named by the second and then by a count, whose 10 is read before its 9
    after = Tracker(tmp_path, resumed_at=resumed_at)
    for steps in range(resumed_at + 64, 257, 64):
        after.log(steps, {"loss": 0.25, "kl": 0.125})
    after.close()
    expected = [(steps, 0.5 if steps <= resumed_at else 0.25) for steps in (64, 128, 192, 256)]
    assert columns_of(tmp_path)["loss"] == expected
    assert events_of(tmp_path)["loss"] == expected
    assert_same(events_of(tmp_path), columns_of(tmp_path))


@pytest.mark.parametrize(
    "text", [b"steps,loss\n\xff\xfe,1\n", b"loss\n1\n", b"steps,loss\n6x,1\n", b"steps,loss\n6,1,2\n7,1\n"]
)
def test_a_table_that_is_not_ours_is_not_written_over(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "progress.csv").write_bytes(text)
    with pytest.raises(ConfigError, match=r"progress.csv must be the table that the run wrote, got "):
        Tracker(tmp_path, resumed_at=64)
    assert (tmp_path / "progress.csv").read_bytes() == text


def test_a_row_that_a_killed_process_began_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("steps,loss\n64,0.5\n12")
    Tracker(tmp_path, resumed_at=64).close()
    assert rows_of(tmp_path) == [{"steps": "64", "loss": "0.5"}]


# ---------------------------------------------------------------- hyperparameters

GIVEN = {"training.learning_rate": 3e-4, "training.num_epochs": 4, "network.hidden_sizes": "[256, 256]", "noisy": True}


def record_trial(run_dir: Path, learning_rate: float, sharpe: float, steps: int = 128) -> None:
    """A trial from its first row to its last."""
    tracker = Tracker(run_dir)
    tracker.log(64, {"loss": 0.5})
    tracker.log(steps, {"loss": 0.25})
    tracker.close()
    log_hyperparameters(run_dir, GIVEN | {"training.learning_rate": learning_rate}, {"search/sharpe": sharpe}, steps)


def hyperparameters_of(run_dir: Path, metric: str = "search/sharpe") -> dict[str, float | str]:
    """Return the hyperparameters that the HPARAMS tab shows for the start of a run."""
    events = EventAccumulator(str(run_dir))
    events.Reload()
    records = {
        tag: HParamsPluginData.FromString(content) for tag, content in events.PluginTagToContent("hparams").items()
    }
    assert set(records) == {f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info")}
    metrics = records["_hparams_/experiment"].experiment.metric_infos
    assert [found.name.tag for found in metrics] == [metric]
    start = records["_hparams_/session_start_info"].session_start_info
    return {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in start.hparams.items()}


def test_each_trial_has_its_hyperparameters_beside_its_curves(tmp_path: Path) -> None:
    record_trial(tmp_path / "trial_0000", 1e-4, 0.5)
    record_trial(tmp_path / "trial_0001", 1e-3, 0.75)
    for name, learning_rate, sharpe in (("trial_0000", 1e-4, 0.5), ("trial_0001", 1e-3, 0.75)):
        assert hyperparameters_of(tmp_path / name) == {
            "training.learning_rate": learning_rate,
            "training.num_epochs": 4.0,
            "network.hidden_sizes": "[256, 256]",
            "noisy": "true",
        }
        assert events_of(tmp_path / name) == {"loss": [(64, 0.5), (128, 0.25)], "search/sharpe": [(128, sharpe)]}
    assert not [path for path in tmp_path.glob("*/*") if path.is_dir()]  # TensorBoard would show it as another run


# ---------------------------------------------------------------- of a run


def test_a_run_shows_losses_policy_returns_validation_and_speed(finished_run: TinyRun) -> None:
    events = events_of(finished_run.run_dir)
    assert set(events) >= {
        "episode/return",
        "speed/steps_per_second",
        "training/policy_loss",
        "training/value_loss",
        "training/total_loss",
        "training/entropy",
        "training/kl",
        "training/explained_variance",
        "training/gradient_norm",
        "training/learning_rate",
        "training/reward_scale",
        "validation/sharpe_ratio",
        "validation/annual_return",
        "validation/volatility",
        "validation/max_drawdown",
        "validation/daily_turnover",
        "validation/cost_per_year",
    }
    every_iteration = list(range(STEPS_PER_ITERATION, TOTAL_STEPS + 1, STEPS_PER_ITERATION))
    assert [step for step, _ in events["training/total_loss"]] == every_iteration
    assert [step for step, _ in events["validation/sharpe_ratio"]] == [0, 128, 256, 384, 512, 640]
    assert_same(events, columns_of(finished_run.run_dir))


def test_a_failure_of_tensorboard_ends_no_run_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise OSError("no thread")

    folders = tmp_path / "without", tmp_path / "failing"
    for folder in folders:
        folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "SummaryWriter", fail)
        without = Tracker(folders[0])
    failing = Tracker(folders[1])
    monkeypatch.setattr(tracking.SummaryWriter, "add_scalar", fail)
    monkeypatch.setattr(tracking.SummaryWriter, "close", fail)
    for folder, tracker in zip(folders, (without, failing), strict=True):
        for steps in (64, 128):
            tracker.log(steps, {"loss/total": 0.5})
        tracker.close()
        assert [row["steps"] for row in rows_of(folder)] == ["64", "128"]
    assert (
        caplog.messages
        == ["Warning: TensorBoard must work, got OSError: no thread. Training continues without it."] * 2
    )
