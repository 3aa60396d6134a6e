"""Names, cells, paths and settings that are written to deceive a terminal, a page, a spreadsheet or a parser."""

from __future__ import annotations

import argparse
import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from rllib_portfolio.backtest.lineup import walk_lineup
from rllib_portfolio.cli.backtest import _subset
from rllib_portfolio.cli.console import guarded, say, warn
from rllib_portfolio.cli.progress import print_outcome
from rllib_portfolio.config import ExecutionConfig, MarketConfig
from rllib_portfolio.config.files import load_run_config, parse_assignment
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.experiments.search.session import SearchOutcome
from rllib_portfolio.experiments.search.study import open_storage, open_study, study_path, study_url
from rllib_portfolio.market import load_market
from rllib_portfolio.reporting.console import empty_table, wide_console
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.value_series import inputs_of_values
from rllib_portfolio.runs.folder import require_fresh
from tests.backtest.hand_made import Scripted, random_market

ESCAPE, REVERSED, END_OF_LINE = "\x1b[2J", "\u202e", "\n"
DECEPTIVE = [f"A{sign}B" for sign in (ESCAPE, REVERSED, END_OF_LINE, "\r", "\x9b", "\u2066", "\u2028", "\x00")]


def wealth(seed: int = 0) -> pd.Series:
    rng = np.random.default_rng(seed)
    return pd.Series(np.cumprod(1.0 + rng.normal(0.0005, 0.01, 60)), index=pd.bdate_range("2020-01-01", periods=60))


def assert_shown_as_it_is(text: str) -> None:
    assert text.replace("\n", "").isprintable(), ascii(text)


# ---------------------------------------------------------------- names, before the work


@pytest.mark.parametrize("name", [*DECEPTIVE, "A" * 300])
def test_a_strategy_whose_name_deceives_or_is_no_file_name_is_refused_before_the_work(name: str) -> None:
    market, execution = random_market(), ExecutionConfig()
    walked = []

    def rule(view: Any) -> None:
        walked.append(view)

    refused: list[Callable[[], object]] = [
        lambda: walk_lineup(market, (2, 60), execution, [Scripted(rule, name)]),
        lambda: inputs_of_values({name: wealth()}),
        lambda: inputs_of_values({"mine": wealth()}, wealth(1).rename(name)),
        lambda: _subset(f"{name}=A,B"),
    ]
    for walk in refused:
        with pytest.raises(ConfigError, match=r"^names of \w+ must have at most 200 characters") as raised:
            walk()
        assert_shown_as_it_is(str(raised.value))
    assert not walked


@pytest.mark.parametrize("name", [*(name for name in DECEPTIVE if not {"\r", "\x00"} & set(name)), "A" * 300])
def test_a_ticker_that_deceives_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    days = pd.bdate_range("2015-01-01", periods=1200, name="date")
    rng = np.random.default_rng(0)
    prices = 100.0 * np.cumprod(1.0 + rng.normal(0.0005, 0.01, (1200, 2)), axis=0)
    pd.DataFrame(prices, days, [name, "MSFT"]).to_csv(path)
    with pytest.raises(DataError, match=r"^names of columns must have at most 200 characters") as raised:
        load_market(MarketConfig(data=str(path)))
    assert_shown_as_it_is(str(raised.value))
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- the terminal


@pytest.mark.parametrize("text", ["[/]", "[bold]x[/bold]", "[link=x]y[/link]", ":smile:", "\\[x]"])
def test_nothing_that_rich_prints_is_read_as_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = wide_console()
    table = empty_table(f"title {text}", [f"column {text}"])
    table.add_row(f"name {text}", f"cell {text}")
    console.print(table)
    console.print(f"sentence {text}")
    warn(f"warning {text}")
    told = capsys.readouterr().out
    for place in ("title", "column", "name", "cell", "sentence", "warning"):
        assert f"{place} {text}" in told, place


def test_nothing_that_a_command_prints_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(DECEPTIVE)
    console = wide_console()
    table = empty_table(name, [])
    table.add_row(name)
    console.print(table)
    warn(name)
    say(argparse.Namespace(quiet=False), name)
    print_outcome(SearchOutcome({}, (), None, None, 0, ()), Path(f"out{ESCAPE}\udcff"))

    def fail() -> int:
        raise DataError(f"a ticker must be plain, got {name}. Rename it.")

    assert guarded(fail) == 2
    out, err = capsys.readouterr()
    for told in (out, err):
        assert_shown_as_it_is(told)
        assert r"A\x1b[2JB" in told
        assert r"\u202e" in told
    assert r"out\x1b[2J\udcff" in out


# ---------------------------------------------------------------- the page and the spreadsheet


def test_a_script_in_a_name_stays_a_name(tmp_path: Path) -> None:
    name = "<!--<script>"
    generate_performance_report({name: wealth()}, title=f"{name}{ESCAPE}", output_path=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    data = page.partition('<script type="application/json" id="plots">')[2].partition("</script>")[0]
    assert len(data) > 1_000
    assert "<" not in data
    assert name not in page
    assert not set(page.partition("<script")[0]) & {"\x1b", "\u202e"}


def test_no_cell_of_a_table_is_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "+SUM(A1)", "-mine", "@import", "plain", "a = b"]
    table = generate_performance_report({name: wealth(k) for k, name in enumerate(names)}, output_path=tmp_path / "out")
    for path in (tmp_path / "out").glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        for cell in (cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))):
            float(cell)
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["strategy", *(f"'{name}" for name in names[:4]), *names[4:]]
    plain = io.StringIO(table.to_csv())
    assert [row[1:] for row in rows] == [row[1:] for row in csv.reader(plain)]


# ---------------------------------------------------------------- values in errors


class Model(BaseModel):
    value: int


def bomb() -> dict[str, Any]:
    """A few lists that stand for 10^30 values, as `a: &a [...]`, `b: &b [*a, *a ...]` have it."""
    values: list[Any] = ["x"] * 10
    for _ in range(30):
        values = [values] * 10
    return {"value": values}


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))


def test_the_repr_of_a_value_takes_bounded_time_and_room() -> None:
    started = time.process_time()
    for value in (bomb()["value"], "x" * 60_000_000, {"k" * 1000: "v" * 1000}, [[[[[[1]]]]]], np.ones((500, 500))):
        with pytest.raises(ConfigError) as raised:
            validated(Model, {"value": value}, "here")
        assert len(str(raised.value)) < 3_000
        assert str(raised.value).endswith("(here)")
    assert time.process_time() - started < 10.0


ENDLESS = {"lists": BOMB, "maps": MERGED, "self": "a: &a [*a]\n", "deep": f"a: {'[' * 1_000}{']' * 1_000}"}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_yaml_that_unfolds_without_end_is_refused_at_once(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(ConfigError, match=r"config must be a YAML file, got .*\. Correct the file\.$"):
        load_run_config(path, {})
    with pytest.raises(ConfigError, match="--set must give a YAML value"):
        parse_assignment(f"training.gamma={text}")
    assert time.process_time() - started < 10.0


def test_a_huge_cell_is_not_echoed_and_its_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    rows = [f"{day:%Y-%m-%d},{100 + day.day},{200 + day.day}" for day in pd.bdate_range("2020-01-01", periods=20)]
    rows[15] = f"2020-01-22,{'x' * 5_000_000},1"
    path.write_text("\n".join(["date,A,B", *rows]))
    with pytest.raises(DataError) as raised:
        load_market(MarketConfig(data=str(path)))
    text = str(raised.value)
    assert len(text) < 3_000
    assert text.startswith("A must be a number, got 'xxx")
    assert text.endswith("2020-01-22). Correct the cell, or leave it empty and set fill_days.")


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("folder", ["plain", "we?ird", "h#sh", "50%3F", "with space", "lä/ñ", "{x}", "a@b:c"])
def test_a_study_lies_in_the_folder_that_was_named(folder: str, tmp_path: Path) -> None:
    output = tmp_path / folder
    output.mkdir(parents=True)
    open_study(open_storage(study_url(output, "ppo")), "ppo")
    assert study_path(output, "ppo").is_file()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [study_path(output, "ppo")]


def test_a_path_that_is_too_long_is_an_error_of_the_user(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def command() -> int:
        require_fresh(tmp_path / ("a" * 300))
        return 0

    assert guarded(command) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: a path must have names that the file system takes, got '")
    assert told.count("\n") == 1
