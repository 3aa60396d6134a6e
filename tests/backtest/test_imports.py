from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_importing_the_floor_loads_nothing_heavy() -> None:
    """Packages that take seconds to import are imported by the functions that need them."""
    program = (
        "import sys, rllib_portfolio.backtest.lineup, rllib_portfolio.backtest.sensitivity, rllib_portfolio.reporting, "
        "rllib_portfolio.reporting.equity_curve, rllib_portfolio.reporting.notes; "
        "print(sorted({'ray', 'torch', 'arch', 'cvxpy', 'skfolio', 'matplotlib', 'plotly'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
