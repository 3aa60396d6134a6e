"""The order in which a reader meets the report: what was done, what came out, what it is worth, what would undo it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rllib_portfolio.evaluation.report import falsification, judgement, story
from rllib_portfolio.evaluation.report.markup import Panels

if TYPE_CHECKING:
    from rllib_portfolio.evaluation.report.report import Report

Section = Callable[["Report", Panels], str]

ORDER: tuple[Section, ...] = (
    story.clock,
    story.data,
    story.returns,
    judgement.figures,
    judgement.difference,
    judgement.all_at_once,
    judgement.trials,
    judgement.costs,
    judgement.seeds,
    story.crises,
    judgement.exposure,
    falsification.falsification,
)

CONTENTS = (
    ("clock", "Clock"),
    ("data", "Data"),
    ("returns", "Returns"),
    ("figures", "Figures"),
    ("difference", "Difference"),
    ("all", "All at once"),
    ("trials", "Trials"),
    ("costs", "Costs"),
    ("seeds", "Seeds"),
    ("crises", "Crises"),
    ("exposure", "Exposure"),
    ("falsify", "What would undo it"),
)
