"""What a search leaves as pages: history, importances, parallel coordinates and slices, each a file of its own.

OUTPUT/<algo>_optimization_history.html   OUTPUT/<algo>_param_importances.html
OUTPUT/<algo>_parallel_coordinate.html    OUTPUT/<algo>_slice.html

Nothing is loaded from anywhere; the report's style sheet and script serve here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.atomic import whole_file
from rllib_portfolio.experiments.search.figures import (
    SHARPE,
    NothingToDrawError,
    Study,
    history,
    importances,
    parallel_coordinates,
    slices,
)
from rllib_portfolio.experiments.search.outputs import STATES, searched_settings
from rllib_portfolio.experiments.search.study import ENDED
from rllib_portfolio.reporting.page import Panels, document

OBJECTIVE = "Objective: a trial's best Sharpe ratio on the validation window, annualised, after costs."
BIAS = (
    "The best of many trials is chosen on the days that it is judged by here, so that its Sharpe ratio is too high. "
    "Fresh seeds and days that no trial has seen tell what it is worth."
)
AXIS_WIDTH = 112
"""Pixels of each axis of the parallel coordinates, below which the figure is scrolled."""


class Plot(NamedTuple):
    """One page: a part of its file's name, its title, how to read it, and what draws it, or says why it cannot."""

    stem: str
    title: str
    reading: str
    draw: Callable[[Study, Panels], str]


def write_plots(study: optuna.Study, algo: str, output: Path, equal_weight_sharpe: float | None) -> tuple[Path, ...]:
    """Write the four pages of a search, `<algo>_<plot>.html`.

    A plot that cannot be made leaves a page that says why.

    Args:
        study: A study that maximises; its values are validation Sharpe ratios.
        algo: For names and titles.
        output: The folder.
        equal_weight_sharpe: The value of 1/N on the same days, which every page shows beside the best; None where it
            is undefined.

    Returns:
        The paths, the history first.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    paths = []
    for plot in PLOTS:
        path = output / _file_name(plot, algo)
        with whole_file(path) as file:
            file.write_text(_page(plot, study, trials, algo, equal_weight_sharpe), encoding="utf-8")
        paths.append(path)
    return tuple(paths)


# ---------------------------------------------------------------- the plots


def _history(study: Study, panels: Panels) -> str:
    return panels.plot("history", history(study))


def _importances(study: Study, panels: Panels) -> str:
    return panels.plot("importances", importances(study))


def _parallel(study: Study, panels: Panels) -> str:
    width = AXIS_WIDTH * (1 + len(study.settings))
    panel = panels.plot("parallel", parallel_coordinates(study))
    return f'<div class="scroll"><div style="min-width:{width}px">{panel}</div></div>'


def _slices(study: Study, panels: Panels) -> str:
    """A card for each setting."""
    cards = (
        f"<div><h3>{escape(name)}</h3>{panels.plot(f'slice-{place}', figure)}</div>"
        for place, (name, figure) in enumerate(slices(study).items())
    )
    return f'<div class="cards">{"".join(cards)}</div>'


PLOTS = (
    Plot(
        "optimization_history",
        "Optimization history",
        "A point is a trial, in the order of their start; pruned ones stand at the best that they reached before they "
        "were stopped. The line is the best finished trial so far, the dotted one is 1/N.",
        _history,
    ),
    Plot(
        "param_importances",
        "Parameter importances",
        "How much of the differences between finished trials each setting explains (functional ANOVA on a random "
        "forest). With few trials it is a hint; and what was pruned is not in it, so that a setting whose bad values "
        "were all stopped early seems less important than it is.",
        _importances,
    ),
    Plot(
        "parallel_coordinate",
        "Parallel coordinates",
        "A line is a finished trial, the darker the better, through the value of each of its settings; the best one "
        "stands out. Pruned trials are left out.",
        _parallel,
    ),
    Plot(
        "slice",
        "Slices",
        "Each setting against the Sharpe ratio; the later a finished trial, the darker. Grey rings are pruned trials, "
        "at the best that they reached; the best trial has a ring of its own, and the dotted line is 1/N.",
        _slices,
    ),
)


# ---------------------------------------------------------------- the page


def _page(
    plot: Plot, study: optuna.Study, trials: list[FrozenTrial], algo: str, equal_weight_sharpe: float | None
) -> str:
    panels = Panels()
    body = _body(plot, study, trials, panels, equal_weight_sharpe)
    title = f"{algo.upper()} search: {plot.title[0].lower()}{plot.title[1:]}"
    tiles = _tiles(trials, equal_weight_sharpe)
    header = f"<h1>{escape(title)}</h1>{_paragraph(OBJECTIVE, 'soft')}{tiles}{_links(plot, algo)}"
    return document(title, header, f"<section>{body}</section>", _paragraph(BIAS), panels)


def _paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>'


def _body(
    plot: Plot, study: optuna.Study, trials: list[FrozenTrial], panels: Panels, equal_weight_sharpe: float | None
) -> str:
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    settings = searched_settings(finished)
    try:
        if not finished:
            raise NothingToDrawError("No trial has come to its end, so that there is nothing to draw.")
        if not settings and plot.draw is not _history:
            raise NothingToDrawError("No setting was searched, so that there is nothing to compare.")
        drawn = plot.draw(Study(study, trials, settings, study.best_trial, equal_weight_sharpe), panels)
    except NothingToDrawError as reason:
        return _paragraph(str(reason))
    return f"{_paragraph(plot.reading, 'soft small')}{drawn}"


def _tiles(trials: Sequence[FrozenTrial], equal_weight_sharpe: float | None) -> str:
    """Return tiles with the best Sharpe ratio, that of 1/N, and the numbers of trials and of environment steps."""
    counts = {state: sum(trial.state == state for trial in trials) for state in STATES}
    ended, others = (
        ", ".join(f"{count} {STATES[state]}" for state, count in counts.items() if count and (state in ENDED) == wanted)
        for wanted in (True, False)
    )
    steps = sum(trial.user_attrs.get("steps", 0) for trial in trials)
    tiles = [
        (
            f"{sum(counts[state] for state in ENDED)}",
            f"trials: {ended or 'none'}" + (f" (+{others})" if others else ""),
        ),
        (f"{steps:,}".replace(",", " "), "environment steps in all"),
    ]
    if equal_weight_sharpe is not None:
        tiles.insert(0, (f"{equal_weight_sharpe:.2f}", f"{SHARPE} of 1/N, which needs no training"))
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if finished:
        best = max(finished, key=lambda trial: trial.values[0])
        tiles.insert(0, (f"{best.values[0]:.2f}", f"best {SHARPE}, trial {best.number}"))
    cells = (f'<div class="tile"><b>{figure}</b><span>{text}</span></div>' for figure, text in tiles)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _links(shown: Plot, algo: str) -> str:
    """To the other pages, which lie beside this one."""
    links = (f'<a href="{escape(_file_name(plot, algo))}">{plot.title}</a>' for plot in PLOTS if plot is not shown)
    return f"<nav>{''.join(links)}</nav>"


def _file_name(plot: Plot, algo: str) -> str:
    return f"{algo}_{plot.stem}.html"
