"""Optuna's plots of a search on one self-contained page: OUTPUT/<algo>_optimization_history.html."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna import visualization
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.atomic import whole_file
from rllib_portfolio.experiments.search.outputs import STATES, searched_settings
from rllib_portfolio.experiments.search.study import STEPS
from rllib_portfolio.reporting.page import Panels, document, literal_text
from rllib_portfolio.reporting.plot_style import layout

SHARPE = "validation Sharpe ratio"
OBJECTIVE = "Objective: a trial's best Sharpe ratio on the validation window, annualised, after costs."
BIAS = (
    "The best of many trials was selected on the same days, so its Sharpe ratio here is too high. Fresh seeds and days "
    "that no trial has used show its true performance."
)
IMPORTANCE_SEED = 0
"""Seed of the random forest behind the importances, so that a study always gives the same page."""
NUM_CONTOUR_SETTINGS = 4
"""Number of settings in the contour plot, the most important ones. The size of the page grows with its square."""
COLUMN_WIDTH = 190
"""Pixels per setting in a plot that shows settings side by side. A plot wider than the window can be scrolled."""


class NothingToDrawError(Exception):
    """A plot cannot be drawn; the message is a sentence that says why."""


class Plot(NamedTuple):
    """One plot of the page.

    Attributes:
        title: Its heading.
        reading: A sentence that says how to read the plot.
        draw: Returns Optuna's figure of a study, or raises `NothingToDrawError`.
        num_settings: Number of searched settings that finished trials must have; None if no finished trial is needed.
        height: Its height in pixels.
        most_columns: Most settings that it shows side by side; 0 if its width does not depend on their number.
    """

    title: str
    reading: str
    draw: Callable[[optuna.Study], Any]
    num_settings: int | None = 0
    height: int = 420
    most_columns: int = 0


def write_plots(study: optuna.Study, algo: str, output: Path, equal_weight_sharpe: float | None) -> Path:
    """Write `<algo>_optimization_history.html` with all plots of a search.

    A plot that cannot be drawn is replaced by a sentence that says why.

    Args:
        study: A study that maximises validation Sharpe ratios.
        algo: Name of the algorithm, for the file's name and the title.
        output: The folder.
        equal_weight_sharpe: Sharpe ratio of 1/N on the same days; None if it is undefined.

    Returns:
        The path of the page.
    """
    panels = Panels()
    with _silent_optuna():
        shown = _with_literal_texts(study)
        body = "".join(_section(plot, shown, panels, equal_weight_sharpe) for plot in PLOTS)
    title = f"{algo.upper()} search"
    links = "".join(f'<a href="#{_anchor(plot)}">{plot.title}</a>' for plot in PLOTS)
    header = (
        f'<h1>{escape(title)}</h1><p class="soft">{escape(OBJECTIVE)}</p>'
        f'<p class="facts">{_facts(shown.trials, equal_weight_sharpe)}</p><nav>{links}</nav>'
    )
    path = output / f"{algo}_optimization_history.html"
    with whole_file(path) as file:
        file.write_text(document(title, header, body, f"<p>{escape(BIAS)}</p>", panels), encoding="utf-8")
    return path


# ---------------------------------------------------------------- the plots


def _history(study: optuna.Study) -> Any:
    figure = visualization.plot_optimization_history(study, target_name=SHARPE)
    return figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})


def _importances(study: optuna.Study) -> Any:
    importances = _importance_of_settings(study)
    evaluator = FanovaImportanceEvaluator(seed=IMPORTANCE_SEED)
    figure = visualization.plot_param_importances(study, evaluator=evaluator, target_name=SHARPE)
    return figure.update_layout(height=140 + 34 * len(importances)).update_yaxes(title=None)


def _contour(study: optuna.Study) -> Any:
    finished = _finished(study)
    several = [
        name
        for name in searched_settings(finished)
        if len({str(trial.params[name]) for trial in finished if name in trial.params}) > 1
    ]
    if len(several) < 2:
        raise NothingToDrawError("Contours need two settings with several values in the finished trials.")
    try:
        importances = _importance_of_settings(study)
    except NothingToDrawError:
        importances = {}
    several.sort(key=lambda name: -importances.get(name, 0.0))
    return visualization.plot_contour(study, several[:NUM_CONTOUR_SETTINGS], target_name=SHARPE)


def _intermediate_values(study: optuna.Study) -> Any:
    if not any(trial.intermediate_values for trial in study.trials):
        raise NothingToDrawError("No trial has been evaluated, so there is nothing to draw.")
    figure = visualization.plot_intermediate_values(study)
    return figure.update_layout(xaxis_title="environment steps", yaxis_title=SHARPE)


def _timeline(study: optuna.Study) -> Any:
    if not any(trial.datetime_start for trial in study.trials):
        raise NothingToDrawError("No trial has started, so there is nothing to draw.")
    return visualization.plot_timeline(study)


PLOTS = (
    Plot(
        "Optimization history",
        "Each point is a finished trial, in the order of their start. The line is the best Sharpe ratio so far. Pruned "
        "trials are left out.",
        _history,
    ),
    Plot(
        "Parameter importances",
        "Share of the differences between finished trials that each setting explains (functional ANOVA on a random "
        "forest). With few trials this is only a rough indication. Pruned trials are left out, so a setting whose bad "
        "values were all stopped early seems less important than it is.",
        _importances,
        num_settings=1,
    ),
    Plot(
        "Parallel coordinates",
        "Each line is a finished trial and passes through the values of its settings; better trials are darker.",
        partial(visualization.plot_parallel_coordinate, target_name=SHARPE),
        num_settings=1,
        most_columns=sys.maxsize,
    ),
    Plot(
        "Slices",
        "The Sharpe ratio of finished trials by each setting; later trials are darker.",
        partial(visualization.plot_slice, target_name=SHARPE),
        num_settings=1,
        most_columns=sys.maxsize,
    ),
    Plot(
        "Contours",
        f"The Sharpe ratio over pairs of settings, for at most the {NUM_CONTOUR_SETTINGS} most important settings. The "
        "points are the finished trials.",
        _contour,
        num_settings=2,
        height=760,
        most_columns=NUM_CONTOUR_SETTINGS,
    ),
    Plot(
        "Intermediate values",
        "Each line is the Sharpe ratio of a trial, pruned ones included, at its evaluations.",
        _intermediate_values,
        num_settings=None,
    ),
    Plot(
        "Empirical distribution",
        "The share of finished trials whose Sharpe ratio is at most the value on the horizontal axis.",
        partial(visualization.plot_edf, target_name=SHARPE),
    ),
    Plot("Timeline", "Start, end and final state of each trial.", _timeline, num_settings=None),
)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _require(study: optuna.Study, num_settings: int) -> None:
    """Raise a `NothingToDrawError` unless a trial has finished and at least `num_settings` settings were searched."""
    finished = _finished(study)
    if not finished:
        raise NothingToDrawError("No trial has finished, so there is nothing to draw.")
    settings = searched_settings(finished)
    if not settings and num_settings:
        raise NothingToDrawError("No setting was searched, so there is nothing to compare.")
    if len(settings) < num_settings:
        raise NothingToDrawError(f"Only {settings[0]} was searched, so there is no pair of settings to draw.")


def _importance_of_settings(study: optuna.Study) -> dict[str, float]:
    """Return the share of the differences between finished trials that each setting explains, the largest first."""
    if len({trial.value for trial in _finished(study)}) < 2:
        raise NothingToDrawError("Importances need at least two finished trials with different Sharpe ratios.")
    try:
        return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=IMPORTANCE_SEED))
    except RuntimeError:  # no tree of the forest finds a setting to split on
        raise NothingToDrawError("No setting explains why the finished trials' Sharpe ratios differ.") from None


# ---------------------------------------------------------------- the page


def _section(plot: Plot, study: optuna.Study, panels: Panels, equal_weight_sharpe: float | None) -> str:
    head = f'<section id="{_anchor(plot)}"><h2>{plot.title}</h2>'
    try:
        if plot.num_settings is not None:
            _require(study, plot.num_settings)
        figure = plot.draw(study)
    except NothingToDrawError as reason:
        return f"{head}<p>{reason}</p></section>"  # its names are escaped already
    if plot.draw is _history and equal_weight_sharpe is not None:
        figure.add_hline(equal_weight_sharpe, line_dash="dot", line_width=1.4, annotation_text="1/N")
    figure.update_xaxes(automargin=True).update_yaxes(automargin=True)
    drawn = json.loads(figure.to_json())
    ours = {name: value for name, value in drawn["layout"].items() if name not in ("template", "title", "width")}
    panel = panels.plot(
        _anchor(plot), {"data": drawn["data"], "layout": layout(ours.pop("height", plot.height), **ours)}
    )
    if plot.most_columns:
        width = COLUMN_WIDTH * (1 + min(plot.most_columns, len(searched_settings(study.trials))))
        panel = f'<div class="scroll"><div style="min-width:{width}px">{panel}</div></div>'
    return f'{head}<p class="soft small">{escape(plot.reading)}</p>{panel}</section>'


def _anchor(plot: Plot) -> str:
    return plot.title.lower().replace(" ", "-")


def _facts(trials: Sequence[FrozenTrial], equal_weight_sharpe: float | None) -> str:
    """Return the best Sharpe ratio, that of 1/N, and the numbers of trials and of environment steps."""
    facts = []
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if finished:
        best = max(finished, key=lambda trial: trial.values[0])
        facts.append(f"Best {SHARPE}: <b>{best.values[0]:.2f}</b> (trial {best.number})")
    if equal_weight_sharpe is not None:
        facts.append(f"1/N, which needs no training: <b>{equal_weight_sharpe:.2f}</b>")
    counts = {word: sum(trial.state == state for trial in trials) for state, word in STATES.items()}
    facts.append(f"Trials: {', '.join(f'{count} {word}' for word, count in counts.items() if count) or 'none'}")
    facts.append(f"Environment steps in all: {sum(trial.user_attrs.get(STEPS, 0) for trial in trials):,}")
    return "".join(f"<span>{fact}</span> " for fact in facts)


# ---------------------------------------------------------------- the study


def _with_literal_texts(study: optuna.Study) -> optuna.Study:
    """Return a copy of the study with escaped names, choices and errors, since plotly.js reads markup in texts."""
    copy = optuna.create_study(study_name=literal_text(study.study_name), direction="maximize")
    for trial in sorted(study.get_trials(), key=lambda trial: trial.number):
        trial.distributions = {literal_text(name): _literal(kind) for name, kind in trial.distributions.items()}
        trial.params = {literal_text(name): _literal(value) for name, value in trial.params.items()}
        trial.user_attrs = {name: _literal(value) for name, value in trial.user_attrs.items()}
        copy.add_trial(trial)
    return copy


def _literal(value: Any) -> Any:
    if isinstance(value, CategoricalDistribution):
        return CategoricalDistribution([_literal(choice) for choice in value.choices])
    return literal_text(value) if isinstance(value, str) else value


@contextmanager
def _silent_optuna() -> Iterator[None]:
    """Suppress Optuna's messages on the terminal, since the page gives the same information."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
