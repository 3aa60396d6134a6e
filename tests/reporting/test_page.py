"""The page in a real browser: nothing goes wrong in it, every panel is drawn, and nothing comes from outside.

Screenshots are kept under runs/report, to be looked at.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.plot_style import MAX_POINTS, drawn_rows, log_ticks
from rllib_portfolio.reporting.report import Report
from rllib_portfolio.reporting.value_series import inputs_of_values
from tests.reporting.browser import SKIP_MESSAGE, figures_of, find_browser, measured, print_to_pdf, screenshot, visit

SCREENSHOTS = Path(__file__).parents[2] / "runs" / "report"
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


@pytest.mark.parametrize("size", [(1400, 900), (390, 844)])
def test_the_equity_curve_is_on_the_first_screen_and_the_caveats_below(
    browser: str, page: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    asked = """["plot-wealth", "data"].map(id => document.getElementById(id).getBoundingClientRect())
        .map(box => [box.top, box.bottom])"""
    (top, bottom), (caveats, _) = measured(browser, page, tmp_path / "seen", asked, size)
    axis_of_wealth = bottom - 0.34 * (bottom - top)  # below it there is the drawdown
    assert 0 < top < axis_of_wealth < size[1]
    if size[0] > 1000:
        assert bottom < size[1]
    assert caveats > bottom


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


def test_the_browsers_print_cuts_no_table_and_no_plot(browser: str, page: Path, tmp_path: Path) -> None:
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("pdftotext is not installed (Debian: apt-get install poppler-utils)")
    print_to_pdf(browser, page, tmp_path / "profile", tmp_path / "page.pdf")
    command = [reader, "-bbox", str(tmp_path / "page.pdf"), "-"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    sheets = re.findall(r'<page width="([\d.]+)" height="([\d.]+)">(.*?)</page>', found, re.DOTALL)
    words = re.compile(r'<word xMin="([\d.-]+)" yMin="[\d.-]+" xMax="([\d.-]+)" yMax="[\d.-]+">(.*?)</word>')
    texts = []
    for width, height, body in sheets:
        assert float(width) > float(height)
        places = words.findall(body)
        assert places
        assert min(float(left) for left, _, _ in places) >= 0.0
        assert max(float(right) for _, right, _ in places) <= float(width)
        texts.append(" ".join(word for _, _, word in places))
    (losses,) = [text for text in texts if "Losses and tails" in text]
    for word in ("kurtosis", "constant mix of DQN policy", "buy-and-hold"):  # the last column, the last row
        assert word in losses
    (wealth,) = [text for text in texts if "Wealth and drawdown" in text]
    assert "Drawdown" in wealth
    assert {"2000", "2005", "2010", "2015", "2020"} <= set(wealth.split())  # the axis to its end
    (active,) = [text for text in texts if "Weights of PPO policy minus those of 1/N" in text]
    assert re.search(r"cash [+−]\d", active)  # the legend at the foot of the plot
    headings = re.findall(r"<h2>(.*?)</h2>", without_scripts(page))
    assert all(any(heading in text for text in texts) for heading in headings)


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


def test_the_page_of_value_series_draws_all_that_it_has(browser: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2018-01-01", periods=600)
    mine, other, bar = (
        pd.Series(np.cumprod(1.0 + rng.normal(0.0005, 0.01, 600)), index=days, name=name) for name in ("a", "b", "bar")
    )
    generate_performance_report({"a": mine, "b": other}, bar, tmp_path / "mine.html")
    seen = visit(browser, tmp_path / "mine.html", tmp_path / "profile")
    assert seen.console == []
    assert set(seen.marks) == {
        "plot-wealth",
        "plot-relative",
        "plot-rolling",
        "plot-months",
        "plot-sharpe",
        "plot-crisis-3",
    }
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
    order = "wealth verdict data clock active returns figures difference all trials costs seeds crises exposure falsify"
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
    num_rows = len(whole_report.inputs.names) - 1
    assert f"where nothing differs, {0.05 * num_rows:.1f} of {num_rows} rows are claimed to differ by chance" in text
    assert "Not counted: the checkpoints of one run that were compared on its validation window." in text
    assert "one less the one-sided p-value of a true Sharpe ratio of at most 0" in text
    assert "one less the one-sided p-value of a true one of at most that bar" in text
    assert not re.search(r"would be above|true Sharpe &gt; 0|probability that its true", text)
    assert "until wealth is back at its peak since that first close; an older, higher peak does not count." in text
    assert f"Daily returns after costs on {whole_report.inputs.days}." in text
    assert "pooled" not in text[: text.index('<section id="figures">')]


def test_of_many_verdicts_the_first_are_shown_and_the_others_folded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = np.cumprod(1.0 + rng.normal(0.0005, 0.01, (60, 7)), axis=0)
    generate_performance_report({f"number {k}": paths[:, k] for k in range(6)}, paths[:, 6], tmp_path / "many.html")
    text = without_scripts(tmp_path / "many.html")
    assert text.count('class="verdict') == 6
    folded = text[text.index("<summary>2 more verdicts</summary>") : text.index("</details>")]
    assert [f"number {k} " in folded for k in range(6)] == [False] * 4 + [True] * 2
    assert [f"number {k}: " in text[: text.index("<nav>")] for k in range(6)] == [True] * 4 + [False] * 2


def test_what_is_missing_is_said_in_its_place(tmp_path: Path) -> None:
    values = np.cumprod(1.0 + np.random.default_rng(0).normal(0.0005, 0.01, 100))
    generate_performance_report({"alone": values}, output_path=tmp_path / "alone.html")
    text = without_scripts(tmp_path / "alone.html")
    for sentence in (
        "There is no verdict: no benchmark was given",
        "Returns from each value to the next, as they came, on 99 days without dates.",
        "The rolling Sharpe ratio is left out: it needs 252 days, and there are 99.",
        "The series have no dates: crises, monthly returns and dates of drawdowns are left out.",
        "Value series carry no weights: turnover, costs, concentration and active share are left out.",
        "No benchmark was given: information ratio, alpha, beta, difference tests and verdicts are left out.",
        "How many were tried is not known",
        "costs, execution lag, survivorship and the rule that made them are not known here",
    ):
        assert sentence in text
    sections = re.findall(r'<section id="(\w+)">', text)
    assert sections == ["wealth", "verdict", "data", "figures", "trials", "falsify"]
    assert re.findall(r'<a href="#(\w+)">', text) == sections
    assert not re.search(r"</h[23]>\s*(</section>|</div>|<h[23]>)", text)


def test_long_lines_are_thinned_but_keep_the_days_that_matter() -> None:
    rows = drawn_rows(8313, [4001, 8000])
    assert len(rows) <= MAX_POINTS + 2
    assert {0, 4001, 8000, 8312} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()
    assert drawn_rows(500, [3]).tolist() == list(range(500))


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0.93, 1.17, [0.95, 1.0, 1.05, 1.1, 1.15]),
        (0.8, 4.0, [1.0, 1.2, 1.5, 2.0, 3.0]),
        (0.5, 60.0, [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]),
    ],
)
def test_wealth_has_round_ticks(lowest: float, highest: float, expected: list[float]) -> None:
    assert log_ticks(lowest, highest) == pytest.approx(expected)
