from __future__ import annotations

from rllib_portfolio.backtest.refitting import RefitSchedule
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.reporting.notes import execution_note, refit_notes


def test_limits_impact_and_several_costs_are_told() -> None:
    note = execution_note(
        ExecutionConfig(
            cost_bps=(5.0, 20.0), impact=0.1, execution_lag=0, rebalance_days=5, max_weight=0.2, min_cash=0.05
        )
    )
    assert "pay 5 to 20 bp of the traded amount, impact coefficient 0.1." in note
    limits = "within maximum weight 0.2, minimum cash 0.05 (except for the index"
    assert f"every 5 days, at the close of the decision, {limits}" in note


def test_rows_that_are_fitted_again_are_told_by_their_schedule() -> None:
    monthly = RefitSchedule(21, window_days=0, min_days=0)
    schedules = {
        "1/N monthly": monthly,
        "60/40 with cash": RefitSchedule(21, window_days=0, min_days=0),
        "risk parity": RefitSchedule(),
        "momentum top-5": RefitSchedule(1, 252, 252),
    }
    assert refit_notes(schedules, 1) == (
        "Baselines are refitted (their weights drift in between): 1/N monthly, 60/40 with cash: every 21 days, "
        "rebalanced to fixed weights; risk parity: every 21 days, on the last 756 days (at least 126); momentum top-5: "
        "every day, on the last 252 days.",
    )
    assert refit_notes({}, 1) == ()


def test_rows_are_fitted_at_decisions_alone() -> None:
    # every 4 weeks is asked for, and decisions are 21 weeks apart; 30 days become two decisions, 42 days
    weekly, daily = RefitSchedule(4, 156, 26), RefitSchedule(30, 0, 0)
    (note,) = refit_notes({"minimum variance": weekly, "1/N monthly": daily}, 21)
    assert "minimum variance: every 21 days, on the last 156 days (at least 26)" in note
    assert "1/N monthly: every 42 days, rebalanced to fixed weights" in note
