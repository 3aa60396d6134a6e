"""Floors 1 to 4 and the audit load neither ray nor torch: asked of a fresh interpreter, for every module on the floor.

`lint-imports` checks the same on the source; this sees what third parties drag in.
"""

import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys
root = importlib.import_module(sys.argv[1])
if sys.argv[1] != "rllib_portfolio":
    for module in pkgutil.walk_packages(getattr(root, "__path__", []), root.__name__ + "."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
print(*sorted({"ray", "torch"} & set(sys.modules)))
"""


def printed(pytestconfig: pytest.Config, program: str, *arguments: str) -> list[str]:
    """The words that a program prints in a fresh interpreter."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "rllib_portfolio",
        "rllib_portfolio.config",
        "rllib_portfolio.market",
        "rllib_portfolio.env",
        "rllib_portfolio.policies",
        "rllib_portfolio.statistics",
        "rllib_portfolio.backtest",
        "rllib_portfolio.reporting",
        "rllib_portfolio.audit",
    ],
)
def test_importing_a_lower_floor_loads_neither_ray_nor_torch(module: str, pytestconfig: pytest.Config) -> None:
    assert printed(pytestconfig, IMPORT_ALL, module) == []


def test_the_command_line_answers_a_call_for_help_without_the_libraries_of_the_work(
    pytestconfig: pytest.Config,
) -> None:
    program = (
        "import sys, rllib_portfolio.cli; "
        "print(*sorted({'pandas', 'scipy', 'sklearn', 'skfolio', 'ray', 'torch'} & set(sys.modules)))"
    )
    assert printed(pytestconfig, program) == []


def test_importing_the_package_loads_gymnasium_but_none_of_the_libraries_of_the_work(
    pytestconfig: pytest.Config,
) -> None:
    program = (
        "import sys, rllib_portfolio; import gymnasium; assert rllib_portfolio.ENV_ID in gymnasium.registry; "
        "print(*sorted({'pandas', 'scipy', 'pydantic', 'ray', 'torch'} & set(sys.modules)))"
    )
    assert printed(pytestconfig, program) == []
