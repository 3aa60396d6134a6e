"""The page in a real browser: nothing goes wrong in it, every panel is drawn, and nothing comes from outside.

Screenshots are kept under runs/report, to be looked at.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.evaluation import Report, generate_performance_report
from rllib_portfolio.evaluation.report.lines import MAX_POINTS, drawn_rows, log_ticks
from tests.evaluation.report.browser import SKIP_MESSAGE, figures_of, find_browser, screenshot, visit

SCREENSHOTS = Path(__file__).parents[3] / "runs" / "report"
PANELS = {
    "plot-wealth",
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
    (path,) = whole_report.write(tmp_path_factory.mktemp("page") / "report.html")
    return path


@pytest.fixture
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip(SKIP_MESSAGE)
    return found


def without_scripts(page: Path) -> str:
    return re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL).replace("\u00a0", " ")


def traces_shown(figure: dict[str, Any]) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace.get("visible", True) is True]


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


def test_a_single_trace_that_is_not_drawn_is_seen(browser: str, page: Path, tmp_path: Path) -> None:
    figures = figures_of(page)
    emptied = []
    for panel in ("plot-costs", "plot-weights-0", "plot-sharpe", "plot-crisis-3", "plot-months", "plot-overfitting"):
        trace = traces_shown(figures[panel])[0]
        values = "z" if trace["type"] == "heatmap" else "y"
        trace[values] = []
        emptied.append(panel)
    broken = tmp_path / "broken.html"
    data = '<script type="application/json" id="plots">'
    head, tail = page.read_text().split(data)
    broken.write_text(head + data + json.dumps(figures).replace("</", "<\\/") + tail[tail.index("</script>") :])
    seen = visit(browser, broken, tmp_path / "profile")
    for panel, figure in figures.items():
        assert len(seen.marks[panel]) == len(traces_shown(figure)) - (panel in emptied), panel


def test_a_panel_that_is_not_drawn_and_an_error_are_seen(browser: str, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace('id="plot-rolling"', 'id="plot-elsewhere"'))
    seen = visit(browser, broken, tmp_path / "profile")
    assert seen.marks["plot-elsewhere"] == []
    assert any("Error" in line for line in seen.console)


def test_the_page_is_photographed(browser: str, page: Path, tmp_path: Path) -> None:
    phone = tmp_path / "phone.html"  # a window is never narrower than 500 pixels, a frame may be
    frame = f'<iframe src="{page.as_uri()}" style="width:390px;height:14000px;border:0"></iframe>'
    phone.write_text(f'<!doctype html><body style="margin:0;background:#999">{frame}</body>')
    for device, opened, size in (("desktop", page, (1280, 9000)), ("phone", phone, (500, 14000))):
        target = SCREENSHOTS / f"{device}.png"
        screenshot(browser, opened, tmp_path / device, size, target)
        header = target.read_bytes()[:24]
        assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == size


def test_the_page_of_value_series_draws_all_that_it_has(browser: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2018-01-01", periods=600)
    mine, other, bar = (
        pd.Series(np.cumprod(1.0 + rng.normal(0.0005, 0.01, 600)), index=days, name=name) for name in ("a", "b", "bar")
    )
    generate_performance_report({"a": mine, "b": other}, bar, tmp_path / "mine.html")
    seen = visit(browser, tmp_path / "mine.html", tmp_path / "profile")
    assert seen.console == []
    assert set(seen.marks) == {"plot-wealth", "plot-rolling", "plot-months", "plot-sharpe", "plot-crisis-3"}
    for panel, figure in figures_of(tmp_path / "mine.html").items():
        assert len(seen.marks[panel]) == len(traces_shown(figure)) > 0, panel


def test_the_page_loads_nothing_from_outside(page: Path) -> None:
    text = without_scripts(page)
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,", *re.findall(r'href="(#[^"]*)"', text)]
    assert "@import" not in text
    assert "url(" not in text
    assert "<script src" not in page.read_text()
    assert page.stat().st_size < 8_000_000


def test_the_page_is_made_for_phones_too(page: Path) -> None:
    text = without_scripts(page)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert text.count("<table") == text.count('<div class="scroll"><table')


def test_the_sections_come_in_the_order_that_a_reader_asks_for_them(page: Path) -> None:
    sections = re.findall(r'<section id="(\w+)">', page.read_text())
    order = "clock data returns figures difference all trials costs seeds crises exposure falsify"
    assert sections == order.split()


def test_verdicts_statements_and_names_are_on_the_page_as_text(page: Path, whole_report: Report) -> None:
    text = without_scripts(page)
    assert "<h1>PPO &amp; DQN &lt;walk-forward&gt;</h1>" in text
    assert text.index(escape(whole_report.verdicts["PPO policy"].sentence)) < text.index('<section id="clock">')
    for sentence in whole_report.statements:
        assert escape(sentence) in text
    assert "python backtest.py walk-forward --algo ppo" in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_the_caveats_are_on_the_page(page: Path, whole_report: Report) -> None:
    text = without_scripts(page)
    blocks = whole_report.statistics.block_days
    assert (
        f"histories are drawn in blocks of {blocks} days on average, and a crash that lasted longer is broken" in text
    )
    # PPO, DQN, buy-and-hold, cash, two mixes, and an index where there is one: 5 % of each
    num_rows = len(whole_report.evidence.names) - 1
    assert f"where nothing differs, {0.05 * num_rows:.1f} of {num_rows} rows are claimed to differ by chance" in text
    assert "Not counted: the checkpoints of one run that were compared on its validation window." in text
    assert "until wealth is back at its peak since that first close; an older, higher peak does not count." in text
    assert f"Daily returns after costs on {whole_report.evidence.days}." in text
    assert "pooled" not in text[: text.index('<section id="figures">')]


def test_of_many_verdicts_the_first_are_shown_and_the_others_folded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = np.cumprod(1.0 + rng.normal(0.0005, 0.01, (60, 7)), axis=0)
    generate_performance_report({f"number {k}": paths[:, k] for k in range(6)}, paths[:, 6], tmp_path / "many.html")
    text = without_scripts(tmp_path / "many.html")
    assert text.count('class="verdict') == 6
    folded = text[text.index("<summary>2 more verdicts</summary>") : text.index("</details>")]
    assert [f"number {k}:" in folded for k in range(6)] == [False] * 4 + [True] * 2


def test_what_is_missing_is_said_in_its_place(tmp_path: Path) -> None:
    values = np.cumprod(1.0 + np.random.default_rng(0).normal(0.0005, 0.01, 100))
    generate_performance_report({"alone": values}, output_path=tmp_path / "alone.html")
    text = without_scripts(tmp_path / "alone.html")
    for sentence in (
        "There is no verdict: no benchmark was given",
        "Returns from each value to the next, as they came, on 99 days without dates.",
        "Left out: it needs 252 days, and there are 99.",
        "Left out: the series have no dates.",
        "Left out: value series carry no weights.",
        "Left out: no benchmark was given.",
        "Left out: no walks at other costs were given.",
        "Value series have no seeds.",
        "How many were tried is not known",
        "when they decided, what they knew then and what they paid is not known",
    ):
        assert sentence in text


def test_long_lines_are_thinned_but_keep_the_days_that_matter() -> None:
    rows = drawn_rows(8313, [4001, 8000])
    assert len(rows) <= MAX_POINTS + 2
    assert {0, 4001, 8000, 8312} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()
    assert drawn_rows(500, [3]).tolist() == list(range(500))


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [(0.8, 4.0, [1.0, 1.2, 1.5, 2.0, 3.0]), (0.5, 60.0, [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0])],
)
def test_wealth_has_round_ticks(lowest: float, highest: float, expected: list[float]) -> None:
    assert log_ticks(lowest, highest) == pytest.approx(expected)
