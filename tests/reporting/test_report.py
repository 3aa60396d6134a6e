"""Reports of walks and of value series: what they say, on the screen and in files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from rllib_portfolio.backtest.comparison import verdict
from rllib_portfolio.backtest.lineup import Lineup
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.reporting.console import print_report
from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.report import Report, report_of_walks
from rllib_portfolio.reporting.seed_spread import OVER_DAYS, OVER_FOLDS, find_seed_spread
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.seeds import seed_summary

FEW = BootstrapPlan(num_draws=20)


def values(seed: int) -> pd.Series:
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2019-06-03", periods=300)
    return pd.Series(np.cumprod(1.0 + rng.normal(0.0005, 0.01, 300)), index=days)


def printed(report: Report, width: int = 100) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width))
    return stream.getvalue()


def test_verdicts_are_those_of_the_comparison(whole_report: Report, lineup: Lineup) -> None:
    assert list(whole_report.verdicts) == ["PPO policy", "DQN policy"]
    inputs = whole_report.inputs
    bar = next(walk for walk in lineup.results if walk.name == "1/N")
    expected = verdict(lineup.results[0], bar, inputs.cash_returns)
    judged = whole_report.verdicts["PPO policy"]
    assert (judged.outcome, judged.mean_p_value, judged.sharpe_p_value) == (
        expected.outcome,
        expected.mean_p_value,
        expected.sharpe_p_value,
    )
    assert judged.sentence.startswith(f"On {inputs.days} PPO policy ")


def test_crises_that_began_before_the_training_ended_are_in_sample(whole_report: Report) -> None:
    sample = whole_report.crises.xs("PPO policy", level="strategy")["sample"]
    assert sample.to_dict() == {
        "dot-com": "in-sample",
        "financial crisis": "in-sample",
        "European debt": "out of sample",
        "COVID": "out of sample",
        "rate hikes": "out of sample",
    }


def test_the_search_is_counted(whole_report: Report, context: ReportContext) -> None:
    selection = whole_report.selection
    cash = whole_report.inputs.cash_returns
    assert selection.num_trials == 12
    assert selection.deflated == context.tuning.deflated_sharpe_ratio(context.validation.returns, cash)
    assert selection.overfitting is not None


def test_seeds_are_summed_up_by_their_interquartile_mean(whole_report: Report) -> None:
    report = whole_report
    assert list(report.seed_scores["walk"]) == [f"PPO seed {seed}" for seed in range(4)]
    expected = seed_summary(report.seed_scores["sharpe_ratio"].to_numpy())
    assert report.seeds.loc["PPO policy"].to_dict() == {**expected._asdict(), "basis": OVER_DAYS}


def test_one_seed_has_no_interval(context: ReportContext) -> None:
    one = {"PPO policy": context.seed_walks["PPO policy"][:1]}
    spread = find_seed_spread(replace(context, seed_walks=one), 252.0)
    assert len(spread.scores) == 1
    assert not len(spread.summaries)
    assert spread.statements == (
        "PPO policy has one seed, so the variation between seeds is not known and the interquartile mean over seeds is "
        "left out.",
    )


def test_a_mean_over_seeds_and_folds_comes_before_that_over_seeds(context: ReportContext) -> None:
    # two seeds on two folds, (0.0, 1.0) and (0.2, 1.4): the middle half of 0, 0.2, 1, 1.4 has mean 0.6
    given = seed_summary(np.array([[0.0, 1.0], [0.2, 1.4]]))
    spread = find_seed_spread(replace(context, seed_summaries={"PPO policy": given}), 252.0)
    row = spread.summaries.loc["PPO policy"]
    assert row["interquartile_mean"] == pytest.approx(0.6)
    assert row.to_dict() == {**given._asdict(), "basis": OVER_FOLDS}
    assert spread.statements == ()


def test_without_search_and_seeds_the_omissions_are_stated(short_lineup: Lineup, context: ReportContext) -> None:
    bare = replace(context, tuning=None, validation=None, seed_walks={}, cost_curve=None, sensitivities={})
    report = report_of_walks(short_lineup, context=bare, plan=FEW)
    told = "\n".join(report.statements)
    assert "No tuning record was given" in told
    assert "No back-tests of single seeds were given" in told
    assert report.selection is None
    assert "at other costs" not in printed(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": ("SAC policy",)}, "subjects must be rows of the line-up other than 1/N, got SAC policy"),
        ({"subjects": ("1/N",)}, "subjects must be rows of the line-up other than 1/N, got 1/N"),
        ({"subjects": ()}, "subjects must be rows of the line-up other than 1/N, got none"),
    ],
)
def test_subjects_must_be_rows(lineup: Lineup, context: ReportContext, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        report_of_walks(lineup, context=replace(context, **change), plan=FEW)  # type: ignore[arg-type]


def test_a_line_up_without_equal_weight_or_over_other_days_is_refused(lineup: Lineup, context: ReportContext) -> None:
    without = Lineup(tuple(walk for walk in lineup.results if walk.name != "1/N"), lineup.failures)
    with pytest.raises(ConfigError, match="lineup must hold 1/N"):
        report_of_walks(without, context=context)
    late = tuple(replace(walk, dates=walk.dates + np.timedelta64(7300, "D")) for walk in lineup.results)
    with pytest.raises(ConfigError, match="market must have the days of the back-test"):
        report_of_walks(Lineup(late, lineup.failures), context=context)
    mixed = (lineup.results[0], *late[1:])
    with pytest.raises(ConfigError, match="lineup must be over the same days"):
        report_of_walks(Lineup(mixed, lineup.failures), context=context)


def test_failed_fits_days_that_nobody_walked_and_seeds_over_folds_are_told(
    short_lineup: Lineup, context: ReportContext, tmp_path: Path
) -> None:
    failures = pd.DataFrame({"strategy": ["minimum variance"] * 2, "date": ["2001-01-02", "2001-02-01"], "reason": "x"})
    given = replace(context, seed_summaries={"PPO policy": seed_summary(np.array([[0.0, 1.0], [0.2, 1.4]]))})
    report = report_of_walks(Lineup(short_lineup.results, failures), context=given, plan=FEW)
    told = "Some fits failed; the previous holdings (1/N after a failed first fit) were kept: minimum variance 2 times."
    assert any(sentence.startswith(told) for sentence in report.statements)
    assert any("written as a folder has their dates" in sentence for sentence in report.statements)
    assert (
        "5798 of the 6098 days of the window are missing from the back-test and from all figures." in report.statements
    )
    write_report(report, tmp_path)
    assert len(pd.read_csv(tmp_path / "failed_fits.csv")) == 2
    page = " ".join((tmp_path / "report.html").read_text().split())
    assert "interquartile mean Sharpe ratio 0.60 (" in page
    assert "of 4 runs (one per seed and fold; seeds are resampled within each fold). This is a mean" in page


def test_the_screen_shows_table_verdicts_and_statements_uncut(whole_report: Report) -> None:
    text = printed(whole_report)
    assert "…" not in text
    assert "PPO & DQN <walk-forward>" in text
    for name in whole_report.inputs.names:
        assert f" {name} " in text
    for judged in whole_report.verdicts.values():
        assert judged.sentence in text
    for sentence in whole_report.statements:
        assert f"- {sentence}" in text
    tables = text[: text.index(whole_report.verdicts["PPO policy"].sentence)]
    assert max(len(line) for line in tables.splitlines()) <= 100


def test_a_folder_holds_everything_and_reads_back_exactly(whole_report: Report, tmp_path: Path) -> None:
    written = write_report(whole_report, tmp_path / "out")
    assert all(path.is_file() for path in written)
    names = {str(path.relative_to(tmp_path / "out")) for path in written}
    assert {"report.html", "report.csv", "results.json", "crisis_covid.csv", "cost_curve.csv", "seeds.csv"} <= names
    assert {"returns/ppo-policy.parquet", "weights/ppo-policy.parquet", "returns/1-n.parquet"} <= names
    assert "sensitivity_later-first-days.csv" in names
    table = pd.read_csv(tmp_path / "out" / "report.csv", index_col="strategy")
    for column in ("annual_return", "sharpe_ratio", "sharpe_lower", "mean_p_value", "active_share"):
        assert table[column].equals(whole_report.table[column].astype(float)), column
    walk = whole_report.inputs.walks[0]
    returns = pd.read_parquet(tmp_path / "out" / "returns" / "ppo-policy.parquet")
    assert np.array_equal(returns["return"].to_numpy(), walk.returns)
    assert np.array_equal(returns.index.to_numpy().astype("datetime64[D]"), walk.dates)
    weights = pd.read_parquet(tmp_path / "out" / "weights" / "ppo-policy.parquet")
    assert np.array_equal(weights.to_numpy(), walk.weights)
    assert list(weights.columns) == [f"weight.{asset}" for asset in (*walk.assets, "CASH")]


def test_the_results_are_json_without_nan(whole_report: Report, tmp_path: Path) -> None:
    write_report(whole_report, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    row = whole_report.table.loc["PPO policy"]
    assert record["strategies"]["PPO policy"]["sharpe_ratio"] == row.sharpe_ratio
    assert record["strategies"]["all cash"]["sharpe_ratio"] is None
    assert record["verdicts"]["PPO policy"]["sentence"] == whole_report.verdicts["PPO policy"].sentence
    assert record["selection"]["num_trials"] == 12
    assert record["statements"] == list(whole_report.statements)
    assert len(record["crises"]) == 5 * len(whole_report.inputs.names)


def test_a_csv_path_writes_table_crises_and_notes(tmp_path: Path) -> None:
    table = generate_performance_report({"a": values(0), "b": values(1)}, values(2), tmp_path / "mine.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.csv",
        "mine_crisis_covid.csv",
        "mine_crisis_dot-com.csv",
        "mine_crisis_european-debt.csv",
        "mine_crisis_financial-crisis.csv",
        "mine_crisis_rate-hikes.csv",
        "mine_notes.txt",
    ]
    read = pd.read_csv(tmp_path / "mine.csv", index_col="strategy")
    assert read["sharpe_ratio"].equals(table["sharpe_ratio"])
    covid = pd.read_csv(tmp_path / "mine_crisis_covid.csv", index_col="strategy")
    assert list(covid.index) == ["a", "b", "benchmark"]
    assert covid["total_return"].notna().all()
    nothing = pd.read_csv(tmp_path / "mine_crisis_dot-com.csv", index_col="strategy")
    assert set(nothing["sample"]) == {"no data"}
    notes = (tmp_path / "mine_notes.txt").read_text()
    for sentence in table.attrs["statements"]:
        assert sentence in notes


def test_names_that_look_alike_without_their_signs_have_files_of_their_own(tmp_path: Path) -> None:
    generate_performance_report({"a b": values(0), "A-B": values(1)}, output_path=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "returns").iterdir()) == ["a-b-2.parquet", "a-b.parquet"]
    assert not (tmp_path / "out" / "weights").exists()


def test_other_formats_and_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"output_path must end in \.csv or \.html, or name a folder, got mine\.pdf"):
        generate_performance_report({"a": values(0)}, output_path="mine.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output_path must be writable"):
        generate_performance_report({"a": values(0)}, output_path=tmp_path / "file" / "mine.csv")
