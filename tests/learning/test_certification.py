"""What the certification's runs are held to: targets, seeds, comparisons with peers, and the documents' tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import documents
from benchmarks.learning import certification
from benchmarks.learning.known_optima import EXAMS
from benchmarks.learning.tables import Runs, certificates, collected, comparisons, is_met, peers, short, to_ninety
from benchmarks.machine import RESULTS, ROOT


def test_every_block_of_the_documents_has_a_builder_and_every_builder_a_place() -> None:
    texts = [(ROOT / name).read_text() for name in documents.DOCUMENTS]
    begun = {
        line.removeprefix("<!-- ").removesuffix(": begin -->")
        for text in texts
        for line in text.splitlines()
        if line.endswith(": begin -->")
    }
    assert begun == set(documents.BLOCKS)


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_the_documents_hold_what_the_committed_results_say(name: str) -> None:
    text = (ROOT / name).read_text()
    assert documents.filled(text, RESULTS) == text


def run_of(growth: float, gaps: list[float], processor: str = "P") -> dict[str, Any]:
    """A run whose gap is closed so far after 100, 200 ... steps, a second of processor time for each 100."""
    curve = [{"steps": 100 * i, "cpu_s": float(i), "growth": growth, "gap": gap} for i, gap in enumerate(gaps, start=1)]
    final = {"growth": growth, "gap": gaps[-1], "shortfall_bp": 1.0, "z_uniform": 0.0, "shortfall_in_errors": 0.5}
    return {"processor": processor, "curve": curve, "final": final}


def runs_of(*seeds: dict[str, Any]) -> Runs:
    return Runs(300, {str(seed): run for seed, run in enumerate(seeds)})


def row(table: Any, first: str) -> list[str]:
    (found,) = (cells for cells in table.rows if cells[0].startswith(first))
    return list(found)


def test_the_steps_to_ninety_per_cent_are_those_of_the_first_point_above_it() -> None:
    runs = runs_of(run_of(0.99, [0.5, 0.9, 0.95]), run_of(0.99, [0.95, 0.8, 0.97]), run_of(0.8, [0.1, 0.2, 0.3]))
    assert runs.steps_to() == [200, 100, math.inf]


def test_a_market_is_met_by_its_median_seed() -> None:
    good = runs_of(run_of(0.98, [0.9]), run_of(0.97, [0.86]), run_of(0.5, [0.1]))
    cells = row(certificates({("ppo", "kelly-0.8"): good}), "Kelly, optimum 0.8")
    assert cells[1:7] == ["PPO", "growth 97%, gap 85%", "97.0% (50.0% to 98.0%)", "86.0% (10.0% to 90.0%)", "3", "met"]
    bad = runs_of(run_of(0.98, [0.9]), run_of(0.96, [0.86]), run_of(0.5, [0.1]))
    assert row(certificates({("ppo", "kelly-0.8"): bad}), "Kelly, optimum 0.8")[6] == "NOT MET"


def test_every_seed_stays_inside_sampling_error_where_nothing_is_to_be_gained() -> None:
    def verdict(exam: str, **figures: float) -> str:
        restless = run_of(0.9, [0.1])
        restless["final"] |= figures
        runs = runs_of(run_of(0.9, [0.1]), run_of(0.9, [0.1]), restless)
        return row(certificates({("ppo", exam): runs}), EXAMS[exam].title)[6]

    assert verdict("noise") == verdict("costs") == "met"
    assert verdict("noise", z_uniform=2.1) == "NOT MET"
    assert verdict("noise", shortfall_in_errors=2.1) == "NOT MET"
    assert verdict("costs", shortfall_in_errors=2.1) == "NOT MET"


def test_runs_made_for_a_market_speak_for_an_algorithm_where_there_are_enough() -> None:
    def certified(**found: Runs) -> str:
        return row(short({(name.replace("_", "-"), "merton"): runs for name, runs in found.items()}), "Merton")[3]

    def three(growth: float) -> Runs:
        return runs_of(*[run_of(growth, [0.9])] * 3)

    assert certified(dqn=three(0.9)).startswith("90.0%")
    assert certified(dqn=three(0.9), dqn_long=three(0.95)).startswith("95.0%")
    assert certified(dqn=three(0.9), dqn_long=three(0.95), dqn_rare=three(0.8)).startswith("80.0%")
    assert certified(dqn=three(0.9), dqn_long=runs_of(run_of(0.93, [0.9]))).startswith("90.0%")


def test_one_seed_with_a_loss_fails_where_losses_are_rare() -> None:
    runs = runs_of(run_of(0.9, [0.9]), run_of(-0.01, [0.8]), run_of(0.95, [0.9]))
    assert not is_met("crash", EXAMS["crash"], runs)
    assert is_met("mean-reversion", EXAMS["mean-reversion"], runs)


def test_runs_on_seeds_that_something_was_chosen_on_are_not_counted(tmp_path: Path) -> None:
    values = {"steps": 300, "seeds": {"0": run_of(0.5, [0.1]), "20": run_of(0.9, [0.9])}}
    certification.run_file("ppo", "merton", tmp_path).write_text(json.dumps(values))
    certification.run_file("ppo-sb3", "merton", tmp_path).write_text(json.dumps(values))
    found = collected(tmp_path)
    assert list(found["ppo", "merton"].seeds) == ["20"]
    assert list(found["ppo-sb3", "merton"].seeds) == ["0", "20"]


def test_our_runs_have_seeds_that_nothing_was_chosen_on() -> None:
    def seeds(*arguments: str) -> dict[str, list[int]]:
        chosen = certification.parser().parse_args(["--exams", "regimes", *arguments])
        return {name: list(found) for name, _, found, _ in certification.jobs(chosen)}

    assert seeds()["ppo"] == [20, 21, 22, 23, 24]
    assert seeds()["dqn"] == list(range(20, 30))
    assert seeds()["dqn-rllib"] == [0, 1, 2]
    assert seeds("--seeds", "2")["dqn"] == [20, 21]


def test_the_interval_of_a_difference_is_welchs() -> None:
    ours = runs_of(run_of(0.99, [0.9]), run_of(0.98, [0.9]), run_of(0.97, [0.9]))
    theirs = runs_of(run_of(0.95, [0.9]), run_of(0.93, [0.9]))
    # Means 0.98 and 0.94; squared errors 1e-4 / 3 and 2e-4 / 2, together 1.333e-4: t = 0.04 / 0.01155 = 3.46.
    # Degrees of freedom 1.333e-4^2 / ((1e-4 / 3)^2 / 2 + 1e-8) = 1.68: quantile 5.18, two-sided p of t 0.094.
    cells = row(peers({("ppo", "merton"): ours, ("ppo-sb3", "merton"): theirs}, "ppo"), "Merton")
    assert cells[4:6] == ["+4.0 (-2.0 to +10.0)", "0.094"]
    assert cells[6:] == ["not run", "-", "-"]
    same, rounded = runs_of(*[run_of(1.0, [0.9])] * 3), runs_of(*[run_of(1.0 + 4e-9, [0.9])] * 2)
    cells = row(peers({("ppo", "merton"): same, ("ppo-sb3", "merton"): rounded}, "ppo"), "Merton")
    assert cells[4:6] == ["same", "1.000"]


def test_a_peer_that_falls_shorter_is_behind_where_nothing_is_to_be_gained() -> None:
    def shortfalls(*basis_points: float) -> Runs:
        found = [run_of(0.9, [0.1]) for _ in basis_points]
        for one, value in zip(found, basis_points, strict=True):
            one["final"]["shortfall_bp"] = value
        return runs_of(*found)

    # Theirs less ours: 2 and 3, mean 2.5, standard error 0.5, 12.706 * 0.5 = 6.35.
    runs = {("dqn", "costs"): shortfalls(1.0, 1.0), ("dqn-sb3", "costs"): shortfalls(3.0, 4.0)}
    assert row(peers(runs, "dqn"), "costs above the edge")[4] == "+2.50 (-3.85 to +8.85) bp"


def test_a_difference_from_a_peer_is_held_against_all_comparisons_of_both_algorithms() -> None:
    def differing(*points: float) -> tuple[Runs, Runs]:
        ours = runs_of(*(run_of(0.9 + 0.01 * point, [0.9]) for point in points))
        return ours, runs_of(*(run_of(0.9, [0.9]) for _ in points))

    # t = 2 sqrt 3 / 0.2 = 17.3, two-sided p on two degrees of freedom 0.0033; t = 2 sqrt 3 / 0.5 = 6.93, 0.0202.
    clear, near = differing(1.8, 2.0, 2.2), differing(1.5, 2.0, 2.5)
    runs = {}
    for algo, exam, (ours, theirs) in (("ppo", "merton", clear), ("ppo", "regimes", near), ("dqn", "merton", near)):
        runs |= {(algo, exam): ours, (f"{algo}-rllib", exam): theirs}
    found = comparisons(runs)
    assert [one.p_value for one in found.values()] == pytest.approx([0.0033, 0.0202, 0.0202], abs=5e-5)
    # Holm: three times the smallest, twice the next, and the last at least as much as that.
    assert [one.adjusted_p_value for one in found.values()] == pytest.approx([0.0100, 0.0404, 0.0404], abs=1e-4)
    table = peers(runs, "ppo")
    assert "over all 3 comparisons of both algorithms" in table.note
    assert row(table, "Merton")[7:] == ["+2.0 (+1.5 to +2.5)", "0.010 *"]
    two_more = {("dqn", name): near[0] for name in ("regimes", "kelly-1")}
    two_more |= {("dqn-sb3", name): near[1] for name in ("regimes", "kelly-1")}
    assert row(peers(runs | two_more, "ppo"), "two observable regimes")[8] == "0.081"  # 4 * 0.0202: no claim any more


def test_seconds_are_compared_on_one_processor_alone() -> None:
    ours = runs_of(run_of(0.99, [0.5, 0.95]), run_of(0.99, [0.95], "Q"))
    theirs = runs_of(run_of(0.99, [0.5, 0.5, 0.95]))
    cells = row(to_ninety({("ppo", "merton"): ours, ("ppo-sb3", "merton"): theirs}, "ppo"), "Merton")
    assert cells[1:] == ["0 k", "2.0", "2 of 2", "0 k", "3.0", "1 of 1"]
