"""The pages of a search: what they draw, by hand and in a real browser, and what they say where there is nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.experiments.search.plots import write_plots
from tests.experiments.search.studies import DQN_SPACE, searched_study, study_of, trial_of
from tests.reporting.browser import SKIP_MESSAGE, figures_of, find_browser, visit

NAMES = ("optimization_history", "param_importances", "parallel_coordinate", "slice")
BAR = 0.5
"""The validation Sharpe ratio of 1/N."""

RATE, SIZES = "training.learning_rate", "network.hidden_sizes"


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    """DQN's space has it all: a logarithmic axis, fractions, whole numbers, choices of numbers and of lists."""
    return searched_study(60, DQN_SPACE, "dqn")


@pytest.fixture(scope="module")
def pages(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = write_plots(study, "dqn", tmp_path_factory.mktemp("pages"), BAR)
    assert [path.name for path in paths] == [f"dqn_{name}.html" for name in NAMES]
    return dict(zip(NAMES, paths, strict=True))


@pytest.fixture
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip(SKIP_MESSAGE)
    return found


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


def drawn(trials: list[FrozenTrial], folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of all pages by panel."""
    return {
        panel: figure
        for page in write_plots(study_of(trials), "ppo", folder, BAR)
        for panel, figure in figures_of(page).items()
    }


def texts_of(page: Path) -> str:
    return re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)


# ---------------------------------------------------------------- in a browser


def test_every_page_is_drawn_without_a_word_on_the_console(
    browser: str, study: optuna.Study, pages: dict[str, Path], tmp_path: Path
) -> None:
    finished, pruned = num_of(study, TrialState.COMPLETE), num_of(study, TrialState.PRUNED)
    settings = len(DQN_SPACE)
    expected = {
        # plotly.js draws the traces of a figure in their order: finished, pruned, the line, the best one's ring
        "optimization_history": {"plot-history": [finished, pruned, 1, 1, 1]},
        "param_importances": {"plot-importances": [settings]},
        "parallel_coordinate": {"plot-parallel": [1] * finished},
        "slice": {f"plot-slice-{place}": [pruned, finished, 1] for place in range(settings)},
    }
    for name, page in pages.items():
        seen = visit(browser, page, tmp_path / name)
        assert seen.console == [], name
        assert seen.marks == expected[name]


def test_a_page_loads_nothing_but_its_neighbours(pages: dict[str, Path]) -> None:
    for name, page in pages.items():
        text = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
        others = [f"dqn_{other}.html" for other in NAMES if other != name]
        assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,", *others]
        assert "<script src" not in page.read_text()
        assert "url(" not in text


# ---------------------------------------------------------------- what is drawn


def test_the_history_shows_finished_and_pruned_trials_and_the_best_so_far(tmp_path: Path) -> None:
    finished, pruned, line, equal_weight, best = drawn(by_hand(), tmp_path)["plot-history"]["data"]
    assert (finished["x"], finished["y"]) == ([0, 2, 4], [0.25, 1.25, 0.75])
    assert (pruned["x"], pruned["y"]) == ([1], [0.125])
    assert (line["x"], line["y"]) == ([0, 1, 2, 3, 4, 5], [0.25, 0.25, 1.25, 1.25, 1.25, 1.25])
    assert (best["x"], best["y"]) == ([2], [1.25])
    assert (equal_weight["name"], equal_weight["y"]) == ("1/N", [BAR, BAR])
    assert equal_weight["x"][0] < 0.0 < 5.0 < equal_weight["x"][1]
    assert finished["text"][1] == (
        "<b>trial 2, 1.250</b> (finished after 50000 steps)<br>training.learning_rate: 0.001<br>"
        "network.hidden_sizes: [128, 128]"
    )
    assert pruned["text"][0].startswith("<b>trial 1, 0.125</b> (pruned after 15000 steps)")


def test_the_history_begins_where_the_first_trial_has_finished(tmp_path: Path) -> None:
    line = drawn(by_hand()[1:], tmp_path)["plot-history"]["data"][2]
    assert line["y"] == [None, 1.25, 1.25, 1.25, 1.25]


def test_slices_hold_one_nth_inside_their_axis(tmp_path: Path) -> None:
    for figure in (figures_of(path) for path in write_plots(study_of(by_hand()), "ppo", tmp_path, 2.0)[3:]):
        for panel in figure.values():
            (line,) = panel["layout"]["shapes"]
            assert (line["y0"], line["y1"]) == (2.0, 2.0)
            low, high = panel["layout"]["yaxis"]["range"]
            assert low < 0.125 < 2.0 < high


def test_one_nth_without_a_sharpe_ratio_is_left_out(tmp_path: Path) -> None:
    pages = write_plots(study_of(by_hand()), "ppo", tmp_path, None)
    assert [trace["name"] for trace in figures_of(pages[0])["plot-history"]["data"]] == [
        *("finished", "pruned", "best so far", "best")
    ]
    assert "of 1/N" not in texts_of(pages[0])


def test_a_slice_has_the_scale_of_its_setting(tmp_path: Path) -> None:
    figures = drawn(by_hand(), tmp_path)
    pruned, finished, best = figures["plot-slice-0"]["data"]
    assert (finished["x"], finished["y"]) == ([1e-4, 1e-3, 1e-5], [0.25, 1.25, 0.75])
    assert (pruned["x"], best["x"]) == ([1e-5], [1e-3])
    axis = figures["plot-slice-0"]["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["tickvals"] == pytest.approx([1e-5, 1e-4, 1e-3])
    assert axis["ticktext"] == ["1e-5", "1e-4", "0.001"]

    pruned, finished, best = figures["plot-slice-1"]["data"]
    assert list(zip(finished["x"], finished["y"], strict=True)) == [
        ("[128, 128]", 1.25),
        ("[512, 256]", 0.25),
        ("[512, 256]", 0.75),
    ]
    assert [text[:14] for text in finished["text"]] == ["<b>trial 2, 1.", "<b>trial 0, 0.", "<b>trial 4, 0."]
    axis = figures["plot-slice-1"]["layout"]["xaxis"]
    assert axis["categoryarray"] == ["[128, 128]", "[256, 256]", "[512, 256]", "[256, 256, 128]"]
    assert axis["range"] == [-0.5, 3.5]  # no trial drew the last
    assert (pruned["x"], best["x"]) == (["[256, 256]"], ["[128, 128]"])


def test_all_slices_have_the_same_vertical_axis(tmp_path: Path) -> None:
    figures = drawn(by_hand(), tmp_path)
    # from 0.125 (pruned) to 1.25, and 6 % of 1.125 = 0.0675 on both sides
    for panel in ("plot-slice-0", "plot-slice-1"):
        assert figures[panel]["layout"]["yaxis"]["range"] == pytest.approx([0.0575, 1.3175])


def test_numbers_among_choices_stay_in_their_order(study: optuna.Study, pages: dict[str, Path]) -> None:
    panel = f"plot-slice-{list(DQN_SPACE).index('training.batch_size')}"
    figure = figures_of(pages["slice"])[panel]
    assert figure["layout"]["xaxis"]["categoryarray"] == ["8", "16", "32", "64"]
    for trace in figure["data"]:
        assert set(trace["x"]) <= {"8", "16", "32", "64"}


def test_parallel_coordinates_go_through_each_setting_on_its_scale(tmp_path: Path) -> None:
    figure = drawn(by_hand(), tmp_path)["plot-parallel"]
    *lines, _scale = figure["data"]
    # Sharpe ratio 0.25 to 1.25; sizes in the order of the space, of which two are drawn; rate by its power of 10
    assert [line["y"] for line in lines] == [
        pytest.approx([0.0, 1.0, 0.5]),
        pytest.approx([0.5, 1.0, 0.0]),
        pytest.approx([1.0, 0.0, 1.0]),
    ]
    assert lines[0]["customdata"] == [
        ["validation Sharpe ratio", "0.25"],
        ["network.hidden_sizes", "[512, 256]"],
        ["training.learning_rate", "1e-4"],
    ]
    assert figure["layout"]["xaxis"]["ticktext"] == [
        "validation Sharpe<br>ratio",
        "network.<br>hidden_sizes",
        "training.<br>learning_rate",
    ]
    labels = {(tick["x"], tick["y"]): tick["text"] for tick in figure["layout"]["annotations"]}
    assert {place: text for place, text in labels.items() if place[0]} == {
        (1, 0.0): "[128, 128]",
        (1, 1.0): "[512, 256]",
        (2, 0.0): "1e-5",
        (2, 0.5): "1e-4",
        (2, 1.0): "0.001",
    }
    colours = [line["line"]["color"] for line in lines]
    assert len(set(colours)) == 3
    assert lines[-1]["line"]["width"] > max(line["line"]["width"] for line in lines[:-1])


def test_labels_of_parallel_coordinates_do_not_lie_on_each_other(pages: dict[str, Path]) -> None:
    figure = figures_of(pages["parallel_coordinate"])["plot-parallel"]
    for place in range(1 + len(DQN_SPACE)):
        heights = sorted(tick["y"] for tick in figure["layout"]["annotations"] if tick["x"] == place)
        assert heights[0] == 0.0
        assert heights[-1] == 1.0
        assert min(after - before for before, after in pairwise(heights)) > 0.045
    whole = [label.replace("<br>", "") for label in figure["layout"]["xaxis"]["ticktext"]]
    assert whole == ["validation Sharperatio", *sorted(DQN_SPACE)]


def test_importances_find_the_setting_that_matters_and_do_not_change(
    study: optuna.Study, pages: dict[str, Path], tmp_path: Path
) -> None:
    (bars,) = figures_of(pages["param_importances"])["plot-importances"]["data"]
    assert bars["y"][-1] == RATE  # the lowest bar is drawn first
    assert bars["x"] == sorted(bars["x"])
    assert sum(bars["x"]) == pytest.approx(1.0)
    again = write_plots(study, "dqn", tmp_path, BAR)
    assert [page.read_bytes() for page in again] == [page.read_bytes() for page in pages.values()]


def test_a_page_says_what_it_shows_and_how_many_were_tried(tmp_path: Path) -> None:
    page = write_plots(study_of(by_hand()), "ppo", tmp_path, BAR)[0]
    text = " ".join(texts_of(page).split())
    assert text.startswith(
        "PPO search: optimization history PPO search: optimization history Objective: a trial&#x27;s best Sharpe "
        "ratio on the validation window, annualised, after costs. 1.25 best validation Sharpe ratio, trial 2 "
        "0.50 validation Sharpe ratio of 1/N, which needs no training "
        "5 trials: 3 finished, 1 pruned, 1 failed (+1 interrupted) 65 000 environment steps in all"
    )


def test_nothing_is_said_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_plots(study_of(by_hand()), "ppo", tmp_path, BAR)
    write_plots(study_of([]), "ppo", tmp_path, BAR)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- where nothing can be drawn

NONE_FINISHED = "No trial has come to its end"
NO_DIFFERENCE = "Importances need at least two finished trials with different Sharpe ratios."


@pytest.mark.parametrize(
    ("trials", "reasons"),
    [
        (lambda: [], [NONE_FINISHED] * 4),
        (lambda: by_hand()[3:4] + by_hand()[1:2], [NONE_FINISHED] * 4),
        (lambda: by_hand()[:2], ["", NO_DIFFERENCE, "", ""]),
        (lambda: [trial_of({RATE: rate}, 0.5) for rate in (1e-4, 2e-4)], ["", NO_DIFFERENCE, "", ""]),
        (lambda: [trial_of({}, value) for value in (0.25, 0.5)], ["", *["No setting was searched"] * 3]),
        (lambda: [trial_of({RATE: 2.5e-4}, value) for value in (0.25, 0.5)], ["", "No setting explains", "", ""]),
    ],
    ids=["no trials", "none finished", "one finished", "equal values", "no settings", "one value of the setting"],
)
def test_a_page_without_a_figure_says_why(
    trials: Callable[[], list[FrozenTrial]], reasons: list[str], tmp_path: Path
) -> None:
    for page, reason in zip(write_plots(study_of(trials()), "ppo", tmp_path, BAR), reasons, strict=True):
        assert bool(figures_of(page)) == (not reason), page.name
        assert reason in texts_of(page)
