from __future__ import annotations

import subprocess
import sys


def test_importing_the_floor_loads_nothing_heavy() -> None:
    """What takes seconds to import is imported by the functions that need it."""
    program = (
        "import sys, rllib_portfolio.evaluation as e, rllib_portfolio.evaluation.comparison, "
        "rllib_portfolio.evaluation.figures, rllib_portfolio.evaluation.notes; "
        "print(sorted({'ray', 'torch', 'arch', 'cvxpy', 'skfolio', 'matplotlib', 'plotly'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
