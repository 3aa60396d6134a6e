"""`backtest.py` on run folders: what it prints and writes, and what it refuses."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio import cli
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.cli import report_folder
from rllib_portfolio.errors import ConfigError, MachineError
from rllib_portfolio.market import MarketData
from rllib_portfolio.new_folder import IN_USE
from rllib_portfolio.policies.checkpoint import newest_checkpoint
from rllib_portfolio.policies.ensemble import Ensemble
from rllib_portfolio.runs.subjects import FinishedRun, open_runs, require_comparable, subjects_of
from rllib_portfolio.statistics.overfitting import SharpeSample, deflated_sharpe_ratio
from tests.runs.test_folder_lock import held_by_another
from tests.tiny_runs import TinyRun, edit_settings, start_run, tiny_apg_config


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that `backtest.py` prints on stderr; it must exit with 2 and say nothing else."""
    assert cli.backtest(["--quiet", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def copy_of(run: TinyRun, folder: Path, **settings: Any) -> Path:
    """A copy of a run under other settings, dots written as double underscores."""
    shutil.copytree(run.run_dir, folder)

    def change(values: dict[str, Any]) -> None:
        for name, value in settings.items():
            *sections, setting = name.split("__")
            section = values
            for part in sections:
                section = section[part]
            section[setting] = value

    edit_settings(folder, change)
    return folder


@pytest.fixture
def run_dir(tmp_path: Path, finished_run: TinyRun) -> Path:
    return copy_of(finished_run, tmp_path / "run")


# ---------------------------------------------------------------- whole back-tests


@pytest.mark.ray
def test_a_run_is_judged_printed_and_written(
    tmp_path: Path, run_dir: Path, finished_run: TinyRun, pytestconfig: pytest.Config
) -> None:
    command = [sys.executable, "backtest.py", str(run_dir), "--universe", "two=AAA,BBB", "--start-shift", "5"]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.endswith(" ...")] == []
    assert "%|" not in done.stderr  # no bar without a terminal
    for text in ("PPO policy", "1/N", "buy-and-hold", "minimum variance", "constant mix of PPO policy", " to 1/N"):
        assert text in done.stdout.replace("did not beat 1/N", "lost to 1/N").replace("beat 1/N", "lost to 1/N"), text
    assert "IN-SAMPLE" not in done.stdout
    folder = run_dir / "report"
    record = json.loads((folder / "backtest.json").read_text())
    start, stop = finished_run.market.windows["test"]
    assert record["command"] == f"python backtest.py {run_dir} --universe two=AAA,BBB --start-shift 5"
    assert (record["window"], record["is_in_sample"]) == ("test", False)
    assert (record["first"], record["last"]) == tuple(str(finished_run.market.dates[row]) for row in (start, stop - 1))
    assert record["data_hash"] == finished_run.market.data_hash
    assert {"report.html", "report.csv", "results.json", "cost_curve.csv"} <= set(record["files"])
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {*record["files"], "backtest.json"}
    curve = pd.read_csv(folder / "cost_curve.csv")
    assert set(curve["execution_lag"]) == {0, 1}
    assert set(curve["cost_bps"]) == {0.0, 5.0, 10.0, 25.0, 50.0}
    assert set(curve["impact"]) == {0.0, 0.1}
    assert set(curve["strategy"]) == {"PPO policy", "1/N", "buy-and-hold"}


@pytest.mark.ray
def test_a_run_that_is_training_is_judged_and_its_report_holds_no_claim(run_dir: Path) -> None:
    with held_by_another(run_dir):
        assert cli.backtest([str(run_dir), "--quiet", "--no-costs-table"]) == 0
        record = json.loads((run_dir / "report" / "backtest.json").read_text())
        written = {str(path.relative_to(run_dir / "report")) for path in (run_dir / "report").rglob("*.*")}
        assert written == {*record["files"], "backtest.json"}
        assert (run_dir / IN_USE).is_file()


@pytest.mark.ray
def test_seeds_become_one_subject_on_a_window_that_is_marked_in_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_dir: Path, finished_run: TinyRun
) -> None:
    other = copy_of(finished_run, tmp_path / "other", seed=1)
    output = tmp_path / "report"
    flags = ["--window", "validation", "--no-costs-table", "--quiet", "--output-dir", str(output)]
    assert cli.backtest([str(run_dir), str(other), *flags]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("IN-SAMPLE: the policies were fitted and selected on days up to 2011-11-04, and ")
    assert "(IN-SAMPLE)" in printed.out.replace("\n", " ")
    for text in ("PPO policy, 2 seeds", "PPO policy, seed 0", "PPO policy, seed 1"):
        assert text in printed.out, text
    record = json.loads((output / "backtest.json").read_text())
    assert record["is_in_sample"] is True
    assert record["runs"] == [str(run_dir), str(other)]
    assert "IN-SAMPLE" in (output / "report.html").read_text()
    assert "cost_curve.csv" not in record["files"]
    # A second back-test renews what the first one wrote, and leaves nothing of it.
    stale = output / "stale.csv"
    stale.write_text("old")
    record["files"].append("stale.csv")
    (output / "backtest.json").write_text(json.dumps(record))
    assert cli.backtest([str(run_dir), *flags]) == 0
    assert not stale.exists()
    assert json.loads((output / "backtest.json").read_text())["runs"] == [str(run_dir)]
    assert "PPO policy, 2 seeds" not in (output / "report.html").read_text()


@pytest.mark.ray
def test_the_trials_of_a_search_deflate_the_sharpe_ratio_of_the_validation_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_dir: Path, finished_run: TinyRun
) -> None:
    summary = {"num_trials": 20, "sharpe_variance": 0.5, "periods_per_year": 252}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    flags = ["--no-costs-table", "--quiet", "--tuning", str(tmp_path), "--cost-bps", "50"]  # selection paid 10
    assert cli.backtest([str(run_dir), *flags]) == 0
    capsys.readouterr()
    (run,) = open_runs([run_dir])
    market = run.market
    (walk,) = backtest(market, market.windows["validation"], [run.policy], finished_run.config.environment)
    cash = market.cash_returns[slice(*market.windows["validation"])]
    expected = deflated_sharpe_ratio(SharpeSample.of(walk.returns, cash), 20, 0.5)
    text = (run_dir / "report" / "results.json").read_text()
    assert f'"deflated_sharpe_ratio": {expected!r}' in text


@pytest.mark.ray
def test_a_newer_table_is_judged_on_its_new_days(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_dir: Path, finished_run: TinyRun
) -> None:
    known = pd.read_csv(finished_run.config.market.data, index_col=0, parse_dates=True)
    days = pd.bdate_range(known.index[-1], periods=41)[1:]
    newer = pd.concat([known, pd.DataFrame(known.iloc[-40:].to_numpy()[::-1], index=days, columns=known.columns)])
    newer[["CCC", "AAA", "index", "BBB"]].to_csv(tmp_path / "newer.csv", index_label="date")  # in any order of columns
    flags = ["--data-path", str(tmp_path / "newer.csv"), "--no-costs-table", "--cost-bps", "25"]
    assert cli.backtest([str(run_dir), *flags, "--output-dir", str(tmp_path / "new")]) == 0
    record = json.loads((tmp_path / "new" / "backtest.json").read_text())
    assert (record["window"], record["is_in_sample"]) == ("new", False)
    assert (record["first"], record["last"]) == (str(days[0].date()), str(days[-1].date()))
    assert record["execution"]["cost_bps"] == 25.0
    assert "cost_bps is 25, as set on the command line; it was 10.0 in training." in capsys.readouterr().out


@pytest.mark.ray
def test_a_newer_table_of_another_frequency_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_dir: Path, finished_run: TinyRun
) -> None:
    known = pd.read_csv(finished_run.config.market.data, index_col=0, parse_dates=True)
    weekly = known.set_axis(pd.date_range("2010-01-01", periods=len(known), freq="W-FRI"), axis=0)
    weekly.to_csv(tmp_path / "weekly.csv", index_label="date")
    line = refusal(capsys, run_dir, "--data-path", tmp_path / "weekly.csv")
    assert (
        "market.periods_per_year must be within 10 % of the table's rows a year, got 252, and the table has 52" in line
    )


@pytest.mark.ray
def test_a_run_that_was_begun_when_the_year_had_252_rows_by_default_still_opens(run_dir: Path) -> None:
    def as_it_was(values: dict[str, Any]) -> None:
        del values["market"]["accept_moves"]
        values["market"]["periods_per_year"] = 252

    edit_settings(run_dir, as_it_was)
    (run,) = open_runs([run_dir])
    assert (run.config.market.periods_per_year, run.market.periods_per_year) == (252, 252)


@pytest.mark.ray
def test_one_new_day_is_no_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_dir: Path, finished_run: TinyRun
) -> None:
    known = pd.read_csv(finished_run.config.market.data, index_col=0, parse_dates=True)
    day = known.index[-1] + pd.offsets.BDay()
    pd.concat([known, known.iloc[-1:].set_axis([day])]).to_csv(tmp_path / "newer.csv", index_label="date")
    line = refusal(capsys, run_dir, "--data-path", tmp_path / "newer.csv")
    assert line == (
        f"--window must hold at least 2 days, got 1 (new, {day.date()}, {tmp_path}/newer.csv). Give more days."
    )


# ---------------------------------------------------------------- which runs are one subject


@pytest.mark.ray
def test_runs_that_differ_in_more_than_their_seed_are_subjects_of_their_own(
    tmp_path: Path, finished_run: TinyRun, run_dir: Path
) -> None:
    elsewhere = {"market__data": "the same prices.csv", "resources__num_cpus_per_env_runner": 0.5}
    seed = copy_of(finished_run, tmp_path / "seed", seed=7, **elsewhere)
    other = copy_of(finished_run, tmp_path / "slow", training__learning_rate=1e-4)
    first, second = subjects_of(open_runs([run_dir, other, seed]))
    assert first.name == f"PPO policy {run_dir}, 2 seeds"
    assert [policy.name for policy in first.seeds] == [f"PPO policy {run_dir}, seed {number}" for number in (0, 7)]
    assert isinstance(first.strategy, Ensemble)
    assert second.name == f"PPO policy {other}"
    assert second.seeds == ()


@pytest.mark.ray
def test_the_same_seed_twice_is_refused(tmp_path: Path, finished_run: TinyRun, run_dir: Path) -> None:
    again = copy_of(finished_run, tmp_path / "again")
    with pytest.raises(ConfigError, match=r"^runs of one configuration must differ in seed, got seed 0 twice"):
        subjects_of(open_runs([run_dir, again]))


@pytest.mark.ray
def test_seeds_that_were_trained_as_one_program_have_rows_of_their_own(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], price_settings: dict[str, Any]
) -> None:
    settings = {"seed": 3, "resources.num_stacked_seeds": 2, "schedule.total_timesteps": 128}
    stacked = start_run(tmp_path / "stacked", tiny_apg_config(price_settings, settings))
    assert stacked.train()
    assert cli.backtest([str(stacked.run_dir), "--quiet", "--no-costs-table"]) == 0
    printed = capsys.readouterr().out
    for text in ("APG policy, 2 seeds", "APG policy, seed 3", "APG policy, seed 4"):
        assert text in printed, text
    (run,) = open_runs([stacked.run_dir])
    (subject,) = subjects_of([run])
    rows = [subject.strategy, *subject.seeds]
    walks = backtest(
        run.market, run.market.windows["test"], [*rows, run.policy, *run.policy.members], run.config.environment
    )
    for ours, theirs in zip(walks[:3], walks[3:], strict=True):
        np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-9, atol=1e-12)
    others = copy_of(stacked, tmp_path / "others", seed=5)
    (both,) = subjects_of(open_runs([stacked.run_dir, others]))
    assert (both.name, len(both.runs)) == ("APG policy, 4 seeds", 2)
    assert [seed.name for seed in both.seeds] == [f"APG policy, seed {seed}" for seed in (3, 4, 5, 6)]
    common = copy_of(stacked, tmp_path / "common", seed=4)
    with pytest.raises(ConfigError, match=r"must differ in seed, got seed 4 twice \(.*common\)"):
        subjects_of(open_runs([stacked.run_dir, common]))


def changed(run: FinishedRun, **fields: Any) -> FinishedRun:
    return replace(run, market=replace(run.market, **fields))


@pytest.mark.ray
@pytest.mark.parametrize("what", ["prices", "windows", "cash returns", "assets"])
def test_runs_of_another_market_are_refused(run_dir: Path, what: str) -> None:
    (run,) = open_runs([run_dir])
    market: MarketData = run.market
    other = {
        "prices": {"data_hash": "0" * 64},
        "windows": {"windows": {**market.windows, "test": (490, 600)}},
        "cash returns": {"cash_returns": 2.0 * np.asarray(market.cash_returns)},
        "assets": {"assets": ("AAA", "BBB", "ZZZ")},
    }[what]
    with pytest.raises(ConfigError, match=rf"^runs must be of the same market, got {what} .* and .*one by one\.$"):
        require_comparable([run, changed(run, **other)], {})


@pytest.mark.ray
def test_runs_on_other_terms_are_refused_unless_the_command_sets_them(
    tmp_path: Path, finished_run: TinyRun, run_dir: Path
) -> None:
    dear = copy_of(finished_run, tmp_path / "dear", environment__cost_bps=25.0)
    late = copy_of(finished_run, tmp_path / "late", environment__max_weight=0.5)
    runs = open_runs([run_dir, dear])
    with pytest.raises(ConfigError) as refused:
        require_comparable(runs, {})
    assert str(refused.value) == (
        f"runs must trade on the same terms, got cost_bps 10.0 and 25.0 ({run_dir} and {dear}). Give all of them one "
        "--cost-bps."
    )
    assert require_comparable(runs, {"cost_bps": 5.0}).cost_bps == 5.0
    with pytest.raises(ConfigError, match=r"got max_weight 1\.0 and 0\.5 .* Back-test them one by one\.$"):
        require_comparable(open_runs([run_dir, late]), {"cost_bps": 5.0})


# ---------------------------------------------------------------- what can be mended: one line, exit code 2


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    expected = f"RUN_DIR must be a folder that train.py wrote, got {tmp_path}/none, which does not exist. Name another."
    assert refusal(capsys, tmp_path / "none") == expected


def test_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refusal(capsys, tmp_path).startswith("RUN_DIR must be a folder that train.py wrote, got ")


@pytest.mark.ray
def test_a_folder_twice(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    line = refusal(capsys, run_dir, run_dir / ".." / run_dir.name)
    assert line.startswith("RUN_DIR must be given once each, got ")


@pytest.mark.ray
def test_a_damaged_policy(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    for checkpoint in newest.parent.iterdir():
        weights = checkpoint / "policy" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    line = refusal(capsys, run_dir)
    assert line.startswith("checkpoint must be whole, got a changed file policy/weights.safetensors (")
    assert not (run_dir / "report").exists()


@pytest.mark.ray
def test_a_run_without_a_checkpoint(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints")
    assert refusal(capsys, run_dir).startswith("policy must be a run, checkpoint or policy folder, got ")


@pytest.mark.ray
def test_a_damaged_market(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    (run_dir / "market.npz").write_bytes(b"PK")
    assert refusal(capsys, run_dir).startswith("market must be a prepared .npz file, got ")


def test_an_unknown_window_shows_the_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.backtest([str(tmp_path), "--window", "tomorrow"])
    assert raised.value.code == 2
    assert "argument --window: invalid choice: 'tomorrow'" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--window", "new"], "--window must be one that the data have, got new ("),
        (["--cost-bps", "-1"], "cost_bps: input should be greater than or equal to 0, got -1.0"),
        (["--universe", "two"], "--universe must read NAME=A,B,C, got 'two'."),
        (["--universe", "two="], "--universe must read NAME=A,B,C, got 'two='."),
        (["--universe", "two=AAA,ZZZ"], "subsets must name assets of the market, got ZZZ (subset two)."),
        (["--start-shift", "120"], "shifts_days must lie between 0 and 119, got 120"),
        (["--index-path", "index.csv"], "--index-path must come with --data-path, got it alone."),
        (["--data-path", "/none.csv"], "table must be "),
    ],
)
def test_a_flag_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], run_dir: Path, flags: list[str], expected: str
) -> None:
    line = refusal(capsys, run_dir, *flags)
    assert expected in line or (expected == "table must be " and "/none.csv" in line), line
    assert not (run_dir / "report").exists()


@pytest.mark.ray
def test_nothing_foreign_is_written_over(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "report").mkdir()
    (run_dir / "report" / "thesis.txt").write_text("all of it")
    line = refusal(capsys, run_dir)
    assert line.startswith(
        f"--output-dir must be new, empty or an earlier back-test, got {run_dir}/report, which holds"
    )
    assert line.endswith("thesis.txt. Choose another.")
    (tmp_path / "file").touch()
    line = refusal(capsys, run_dir, "--output-dir", tmp_path / "file")
    assert line == f"--output-dir must be a folder, got the file {tmp_path}/file. Choose another."
    line = refusal(capsys, run_dir, "--output-dir", run_dir)
    assert line.startswith(f"--output-dir must be new, empty or an earlier back-test, got {run_dir}, which holds ")


@pytest.mark.parametrize(
    ("command", "flag", "what"), [([], "--output-dir", "report"), (["audit"], "--output", "certificate")]
)
def test_what_is_written_goes_to_no_object_store(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str], flag: str, what: str
) -> None:
    assert cli.backtest([*command, str(tmp_path), flag, "s3://bucket/trial"]) == 2
    assert capsys.readouterr().err == (
        f"error: {flag} must be a path, got the URI s3://bucket/trial. Copy the {what} there when it is written.\n"
    )


def test_a_record_cannot_make_files_elsewhere_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "backtest.json").write_text(json.dumps({"files": ["../thesis.txt"]}))
    with report_folder.renewed(folder, {}):
        pass
    assert (tmp_path / "thesis.txt").exists()
    assert [path.name for path in folder.iterdir()] == ["backtest.json"]


def write_back_test(folder: Path, command: str, *names: str) -> None:
    """A back-test whose files hold its command."""
    with report_folder.renewed(folder, {"command": command}) as unfinished:
        for name in names:
            (unfinished / name).parent.mkdir(exist_ok=True)
            (unfinished / name).write_text(command)


def test_a_complete_back_test_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    write_back_test(folder, "first", "report.html", "returns/a.parquet")
    write_back_test(folder, "second", "report.html", "returns/b.parquet")
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    record = json.loads(files.pop("backtest.json"))
    assert files == {"report.html": "second", "returns/b.parquet": "second"}
    assert record == {"command": "second", "files": ["report.html", "returns/b.parquet"]}
    assert not (folder / ".unfinished").exists()


def test_a_back_test_that_is_interrupted_while_it_is_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    def interrupt() -> None:
        with report_folder.renewed(folder, {"command": "second"}) as unfinished:
            (unfinished / "report.html").write_text("half of")
            raise KeyboardInterrupt

    folder = tmp_path / "report"
    write_back_test(folder, "first", "report.html")
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert (folder / "report.html").read_text() == "first"
    assert json.loads((folder / "backtest.json").read_text())["command"] == "first"
    (folder / ".unfinished").mkdir()
    (folder / ".unfinished" / "report.html").write_text("what kill -9 leaves")
    write_back_test(folder, "third", "report.html")
    assert (folder / "report.html").read_text() == "third"


def test_a_full_disk_is_told_by_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    def fill_up() -> None:
        with report_folder.renewed(tmp_path / "report", {}) as unfinished:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:  # as `Report.write` tells it
                raise MachineError(f"output_path must be writable, got {unfinished}.") from error

    with pytest.raises(MachineError) as raised:
        fill_up()
    assert str(raised.value) == (
        f"--output-dir must be writable, got {tmp_path}/report (No space left on device). Free space on that disk or "
        "repair it, then try again."
    )


@pytest.mark.parametrize("num_moves", range(5))
def test_a_back_test_that_is_interrupted_while_it_takes_over_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_moves: int
) -> None:
    moves = iter(range(num_moves))

    def move(path: Path, target: Path) -> Path:
        if next(moves, None) is None:
            raise KeyboardInterrupt
        return path.rename(target)

    folder = tmp_path / "report"
    write_back_test(folder, "first", "report.html", "report.csv")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", move)
        with pytest.raises(KeyboardInterrupt):
            write_back_test(folder, "second", "report.html", "crisis.csv", "seeds.csv")  # five moves with both records
    write_back_test(folder, "third", "report.html")
    assert {path.name for path in folder.iterdir()} == {"report.html", "backtest.json"}


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ([], ("RUN_DIR [RUN_DIR ...]", "walk-forward", "audit", "examples:", "--window", "in-sample", "--universe")),
        (["audit"], ("backtest.py audit", "no look-ahead bias", "one-asset portfolios", "exit code:", "--set A.B=V")),
    ],
)
def test_help_teaches(capsys: pytest.CaptureFixture[str], words: list[str], texts: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.backtest([*words, "--help"])
    assert raised.value.code == 0
    printed = capsys.readouterr().out
    for text in texts:
        assert text in printed, text
