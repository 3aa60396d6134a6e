"""The page in a real browser: nothing goes wrong in it, every panel is drawn, and nothing comes from outside.

Screenshots are kept under runs/report, to be looked at.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.plot_style import MAX_POINTS, drawn_rows
from rllib_portfolio.reporting.report import Report
from rllib_portfolio.reporting.value_series import inputs_of_values
from tests.reporting.browser import SKIP_MESSAGE, figures_of, find_browser, measured, visit

PANELS = {
    "plot-wealth",
    "plot-relative",
    "plot-active-0",
    "plot-active-1",
    "plot-rolling",
    "plot-months",
    "plot-weights-0",
    "plot-weights-1",
    "plot-sharpe",
    "plot-overfitting",
    "plot-costs",
    "plot-seeds",
    *(f"plot-crisis-{place}" for place in range(5)),
}


@pytest.fixture(scope="module")
def page(whole_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = write_report(whole_report, tmp_path_factory.mktemp("page") / "report.html")
    return path


@pytest.fixture
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip(SKIP_MESSAGE)
    return found


def without_scripts(page: Path) -> str:
    text = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", text)  # as a browser shows it; a space that breaks no line is one, too


def traces_shown(figure: dict[str, Any]) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace.get("visible", True) is True]


@pytest.mark.slow
def test_every_panel_is_drawn_without_a_word_on_the_console(browser: str, page: Path, tmp_path: Path) -> None:
    seen = visit(browser, page, tmp_path)
    assert seen.console == []
    assert set(seen.marks) == PANELS
    for panel, figure in figures_of(page).items():
        shown = traces_shown(figure)
        assert len(seen.marks[panel]) == len(shown) > 0, panel
        # plotly.js draws the traces of each pair of axes in their order; all points of a trace are inside the axes
        if all(trace.get("mode") == "markers" for trace in shown):
            assert seen.marks[panel] == [len(trace["x"]) + ("error_x" in trace) for trace in shown], panel


@pytest.mark.slow
def test_markup_in_names_leaves_every_plot_and_is_shown_as_it_is(browser: str, tmp_path: Path) -> None:
    names = ("<!--<script>", "<b>mine</b> %{y}", "&lt;plain&gt;")
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2019-06-03", periods=300)
    series = {name: pd.Series(np.cumprod(1.0 + rng.normal(0.0005, 0.01, 300)), index=days) for name in names}
    path = tmp_path / "page.html"
    generate_performance_report(series, output_path=path)
    seen = visit(browser, path, tmp_path / "profile")
    assert seen.console == []
    assert {"plot-wealth", "plot-sharpe"} <= set(seen.marks)
    for panel, figure in figures_of(path).items():
        assert len(seen.marks[panel]) == len(traces_shown(figure)) > 0, panel
    script = '[...document.querySelectorAll("#plot-sharpe .ytick")].map(tick => tick.textContent).sort()'
    assert measured(browser, path, tmp_path / "asked", script, (1280, 900)) == sorted(names)


@pytest.mark.slow
def test_a_panel_that_is_not_drawn_and_an_error_are_seen(browser: str, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace('id="plot-rolling"', 'id="plot-elsewhere"'))
    seen = visit(browser, broken, tmp_path / "profile")
    assert seen.marks["plot-elsewhere"] == []
    assert any("Error" in line for line in seen.console)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1400, 900), (390, 844)])
def test_tables_are_as_wide_as_the_page_and_hint_at_what_is_out_of_sight(
    browser: str, page: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    asked = """{page: [document.documentElement.scrollWidth, innerWidth],
        tables: [...document.querySelectorAll("section > .scroll, section > .block > .scroll")].map(each =>
            [each.scrollWidth, each.clientWidth, each.classList.contains("wide"),
             each.querySelector("table").clientWidth, each.parentElement.clientWidth])}"""
    seen = measured(browser, page, tmp_path / "seen", asked, size)
    assert seen["page"][0] <= seen["page"][1]  # the page itself does not scroll sideways
    assert len(seen["tables"]) >= 4
    for content, shown, is_hinted, table, card in seen["tables"]:
        assert is_hinted == (content > shown + 1)
        assert table >= card - 49  # the card's padding
    assert any(is_hinted for _, _, is_hinted, _, _ in seen["tables"]) or size[0] > 1000


def test_the_header_says_when_and_with_what_it_was_made(page: Path, whole_report: Report) -> None:
    text = without_scripts(page)
    facts = re.sub("<[^>]*>", "", text[text.index('<p class="facts">') : text.index('<section id="wealth">')])
    assert re.search(r"Made 20\d\d-\d\d-\d\d", facts)
    assert re.search(r"Revision rllib_portfolio \d+\.\d+\.\d+", facts)
    assert f"Data random walks, {'0' * 12}" in facts
    assert f"Days {whole_report.inputs.days}" in facts
    assert "Universe 4 assets and cash: A, B, C, D" in facts


def test_the_data_hash_of_value_series_is_of_names_days_and_returns() -> None:
    rng = np.random.default_rng(0)
    values = pd.Series(np.cumprod(1.0 + rng.normal(0.0, 0.01, 30)), index=pd.bdate_range("2020-01-01", periods=30))
    changed = values.copy()
    changed.iloc[-1] *= 1.001
    cases = ({"a": values}, {"b": values}, {"a": changed}, {"a": values.shift(1, freq="D")})
    hashes = [inputs_of_values(case).data_hash for case in cases]
    assert len(set(hashes)) == len(cases)
    assert hashes[0] == inputs_of_values({"a": values.copy()}).data_hash


def test_the_page_loads_nothing_from_outside(page: Path) -> None:
    text = without_scripts(page)
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,", *re.findall(r'href="(#[^"]*)"', text)]
    assert "@import" not in text
    assert "url(" not in text
    assert "<script src" not in page.read_text()
    assert page.stat().st_size < 8_000_000


def test_verdicts_statements_and_names_are_on_the_page_as_text(page: Path, whole_report: Report) -> None:
    text = without_scripts(page)
    assert "<h1>PPO &amp; DQN &lt;walk-forward&gt;</h1>" in text
    assert text.index(escape(whole_report.verdicts["PPO policy"].sentence)) < text.index('<section id="clock">')
    for sentence in whole_report.statements:
        assert escape(sentence) in text
    assert "python backtest.py walk-forward --algo ppo" in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_the_page_of_value_series_has_what_they_give_and_says_what_is_missing(tmp_path: Path) -> None:
    paths = np.cumprod(1.0 + np.random.default_rng(0).normal(0.0005, 0.01, (100, 7)), axis=0)
    generate_performance_report({"alone": paths[:, 0]}, output_path=tmp_path / "alone.html")
    text = without_scripts(tmp_path / "alone.html")
    sections = re.findall(r'<section id="(\w+)">', text)
    assert sections == ["wealth", "verdict", "data", "figures", "trials", "falsify"]
    assert re.findall(r'<a href="#(\w+)">', text) == sections
    assert "There is no verdict, because no benchmark was given" in text
    assert "The series have no dates: crises, monthly returns and dates of drawdowns are left out." in text
    generate_performance_report({f"number {k}": paths[:, k] for k in range(6)}, paths[:, 6], tmp_path / "many.html")
    assert without_scripts(tmp_path / "many.html").count('class="verdict') == 6


def test_long_lines_are_thinned_but_keep_the_days_that_matter() -> None:
    rows = drawn_rows(8313, [4001, 8000])
    assert len(rows) <= MAX_POINTS + 2
    assert {0, 4001, 8000, 8312} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()
    assert drawn_rows(500, [3]).tolist() == list(range(500))
