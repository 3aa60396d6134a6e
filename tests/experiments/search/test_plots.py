"""The page of a search: which of Optuna's plots it has, in a real browser too, and what it says where there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.experiments.search.plots import write_plots
from tests.experiments.search.studies import DQN_SPACE, searched_study, study_of, trial_of
from tests.reporting.browser import SKIP_MESSAGE, figures_of, find_browser, visit

NAMES = (
    "optimization-history",
    "parameter-importances",
    "parallel-coordinates",
    "slices",
    "contours",
    "intermediate-values",
    "empirical-distribution",
    "timeline",
)
BAR = 0.5
"""The validation Sharpe ratio of 1/N."""

RATE, SIZES = "training.learning_rate", "network.hidden_sizes"


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    """DQN's space has it all: a logarithmic axis, fractions, whole numbers, choices of numbers and of lists."""
    return searched_study(60, DQN_SPACE, "dqn")


@pytest.fixture(scope="module")
def page(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_plots(study, "dqn", tmp_path_factory.mktemp("page"), BAR)
    assert path.name == "dqn_optimization_history.html"
    return path


def num_of(study: optuna.Study, state: TrialState) -> int:
    return sum(trial.state == state for trial in study.trials)


def by_hand() -> list[FrozenTrial]:
    """Three finished trials, a pruned one between them, a failed and an interrupted one."""
    return [
        trial_of({RATE: 1e-4, SIZES: "[512, 256]"}, 0.25),
        trial_of({RATE: 1e-5, SIZES: "[256, 256]"}, 0.125, TrialState.PRUNED, steps=15_000),
        trial_of({RATE: 1e-3, SIZES: "[128, 128]"}, 1.25, steps=50_000),
        trial_of({RATE: 1e-3, SIZES: "[256, 256]"}, None, TrialState.FAIL),
        trial_of({RATE: 1e-5, SIZES: "[512, 256]"}, 0.75),
        trial_of({RATE: 1e-5, SIZES: "[512, 256]"}, None, TrialState.RUNNING),
    ]


def drawn(trials: list[FrozenTrial], folder: Path, bar: float | None = BAR) -> dict[str, Any]:
    """The figures of a page by the name of the plot."""
    figures = figures_of(write_plots(study_of(trials), "ppo", folder, bar))
    return {panel.removeprefix("plot-"): figure for panel, figure in figures.items()}


def texts_of(page: Path) -> str:
    return re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)


def test_every_plot_is_drawn_without_a_word_on_the_console(study: optuna.Study, page: Path, tmp_path: Path) -> None:
    browser = find_browser()
    if browser is None:
        pytest.skip(SKIP_MESSAGE)
    seen = visit(browser, page, tmp_path / "profile")
    assert seen.console == []
    assert list(seen.marks) == [f"plot-{name}" for name in NAMES]
    marks = {panel.removeprefix("plot-"): counts for panel, counts in seen.marks.items()}
    finished, pruned = num_of(study, TrialState.COMPLETE), num_of(study, TrialState.PRUNED)
    assert marks["optimization-history"] == [finished, 1]
    assert marks["parameter-importances"] == [len(DQN_SPACE)]
    assert marks["parallel-coordinates"] == [1] * finished
    assert marks["slices"] == [finished] * len(DQN_SPACE)
    assert sum(marks["timeline"]) == len(study.trials)
    assert len(marks["intermediate-values"]) == finished + pruned
    assert all(marks.values()), marks


def test_a_page_loads_nothing_and_holds_plotly_once(page: Path) -> None:
    text = page.read_text()
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="([^"]*)"', outside) == ["data:,", *(f"#{name}" for name in NAMES)]
    assert re.findall(r'<section id="([^"]*)"', outside) == list(NAMES)
    assert "<script src" not in text
    assert "url(" not in outside
    assert text.count("plotly.js v") == 1


def test_the_history_shows_finished_trials_the_best_so_far_and_one_nth(tmp_path: Path) -> None:
    figure = drawn(by_hand(), tmp_path)["optimization-history"]
    finished, line = figure["data"][:2]
    assert (finished["x"], finished["y"]) == ([0, 2, 4], [0.25, 1.25, 0.75])
    assert (line["x"], line["y"]) == ([0, 1, 2, 3, 4, 5], [0.25, 0.25, 1.25, 1.25, 1.25, 1.25])
    (bar,) = figure["layout"]["shapes"]
    assert (bar["y0"], bar["y1"]) == (BAR, BAR)


def test_one_nth_without_a_sharpe_ratio_is_left_out(tmp_path: Path) -> None:
    assert "shapes" not in drawn(by_hand(), tmp_path, None)["optimization-history"]["layout"]
    assert "1/N" not in texts_of(tmp_path / "ppo_optimization_history.html")


def test_pruned_trials_are_among_the_intermediate_values(tmp_path: Path) -> None:
    lines = drawn(by_hand(), tmp_path)["intermediate-values"]["data"]
    assert [(line["name"], line["x"], line["y"]) for line in lines] == [
        ("Trial0", [5000, 10_000], [0.0, 0.25]),
        ("Trial1", [5000, 10_000], [-0.125, 0.125]),
        ("Trial2", [5000, 10_000], [1.0, 1.25]),
        ("Trial4", [5000, 10_000], [0.5, 0.75]),
    ]


def test_contours_are_of_the_most_important_settings(page: Path) -> None:
    figures = figures_of(page)
    ranked = figures["plot-parameter-importances"]["data"][0]["y"][::-1]
    axes = figures["plot-contours"]["layout"]
    titles = {axis["title"]["text"] for name, axis in axes.items() if name[1:5] == "axis" and "title" in axis}
    assert {title for title in titles if title} == set(ranked[:4])
    assert ranked[0] == RATE


def test_the_same_study_gives_the_same_plots(study: optuna.Study, page: Path, tmp_path: Path) -> None:
    first, again = figures_of(page), figures_of(write_plots(study, "dqn", tmp_path, BAR))
    for figures in (first, again):
        del figures["plot-timeline"]  # a trial that runs ends now
    assert again == first


def test_a_page_says_what_it_shows_and_how_many_were_tried(tmp_path: Path) -> None:
    text = " ".join(texts_of(write_plots(study_of(by_hand()), "ppo", tmp_path, BAR)).split())
    assert text.startswith(
        "PPO search PPO search Objective: a trial&#x27;s best Sharpe ratio on the validation window, annualised, after "
        "costs. Best validation Sharpe ratio: 1.25 (trial 2) 1/N, which needs no training: 0.50 "
        "Trials: 3 finished, 1 pruned, 1 failed, 1 interrupted Environment steps in all: 65,000"
    )


def test_markup_in_names_choices_and_errors_is_shown_as_it_is(tmp_path: Path) -> None:
    name, choice = "training.<b>rate</b>%{x}", '<a href="x">'
    space = {name: FloatDistribution(0.0, 1.0), "reward": CategoricalDistribution([choice, "plain"])}
    trials = [
        trial_of({name: place / 10, "reward": (choice, "plain")[place % 2]}, place * 0.1, space=space, error="<i>lost")
        for place in range(6)
    ]
    page = write_plots(study_of(trials), "ppo", tmp_path, BAR)
    told = json.dumps(figures_of(page))
    assert len(figures_of(page)) == len(NAMES)
    assert "&lt;b&gt;rate&lt;/b&gt;%&#123;x}" in told
    assert "&lt;a href=&#34;x&#34;&gt;" in told
    for markup in ("<b>", "<a ", "<i>", "%{x}</b>", "%{x}&"):
        assert markup not in told, markup
    alone = write_plots(study_of([trial_of({name: 0.5}, 1.0, space=space)]), "ppo", tmp_path, BAR)
    assert "Only training.&lt;b&gt;rate&lt;/b&gt;%&#123;x} was searched" in alone.read_text()


def test_nothing_is_said_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_plots(study_of(by_hand()), "ppo", tmp_path, BAR)
    write_plots(study_of([]), "ppo", tmp_path, BAR)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- where nothing can be drawn

NONE_FINISHED = "No trial has finished"
NO_DIFFERENCE = "Importances need at least two finished trials with different Sharpe ratios."
NO_PAIR = f"Only {RATE} was searched"
NO_VALUES = "Contours need two settings with"
NONE = "No setting was searched"


@pytest.mark.parametrize(
    ("trials", "reasons"),
    [
        (lambda: [], [*[NONE_FINISHED] * 5, "No trial has been evaluated", NONE_FINISHED, "No trial has started"]),
        (lambda: by_hand()[3:4] + by_hand()[1:2], [*[NONE_FINISHED] * 5, "", NONE_FINISHED, ""]),
        (lambda: by_hand()[:2], ["", NO_DIFFERENCE, "", "", NO_VALUES, "", "", ""]),
        (
            lambda: [trial_of({RATE: rate}, 0.5) for rate in (1e-4, 2e-4)],
            ["", NO_DIFFERENCE, "", "", NO_PAIR, *3 * [""]],
        ),
        (lambda: [trial_of({}, value) for value in (0.25, 0.5)], ["", *4 * [NONE], "", "", ""]),
        (
            lambda: [trial_of({RATE: 2.5e-4}, value) for value in (0.25, 0.5)],
            ["", "No setting explains", "", "", NO_PAIR, "", "", ""],
        ),
    ],
    ids=["no trials", "none finished", "one finished", "equal values", "no settings", "one value of the setting"],
)
def test_a_plot_that_cannot_be_drawn_is_a_sentence_that_says_why(
    trials: Callable[[], list[FrozenTrial]], reasons: list[str], tmp_path: Path
) -> None:
    page = write_plots(study_of(trials()), "ppo", tmp_path, BAR)
    figures = figures_of(page)
    sections = re.findall(r"<section.*?</section>", page.read_text(), re.DOTALL)
    for name, section, reason in zip(NAMES, sections, reasons, strict=True):
        assert (f"plot-{name}" in figures) == (not reason), name
        assert reason in section, name
