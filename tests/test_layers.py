"""The lower layers and the audit load neither ray nor torch: asked of a fresh interpreter, for every module there.

`lint-imports` checks the same on the source; this sees what third parties drag in.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import prepare_market
from rllib_portfolio.policies.ensemble import Ensemble
from tests.market.tables import random_table
from tests.policies.tiny_policies import CONFIG, policy_for

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    root = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(root, "__path__", []), root.__name__ + "."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
print(*sorted({"ray", "torch"} & set(sys.modules)))
"""


def printed(pytestconfig: pytest.Config, program: str, *arguments: str) -> list[str]:
    """The words that a program prints in a fresh interpreter."""
    command = [sys.executable, "-W", "always", "-c", program, *arguments]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning, neither Python's nor of a log
    return done.stdout.split()


def test_importing_the_lower_floors_loads_neither_ray_nor_torch(pytestconfig: pytest.Config) -> None:
    layers = ("config", "market", "env", "policies", "statistics", "backtest", "reporting", "audit")
    assert printed(pytestconfig, IMPORT_ALL, *(f"rllib_portfolio.{name}" for name in layers)) == []


BACKTEST = """
import sys
from pathlib import Path
import numpy as np
from rllib_portfolio import load_policy
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.ensemble import Ensemble
market = MarketData.load(Path(sys.argv[1], "market.npz"))
policies = [load_policy(Path(sys.argv[1], name)) for name in ("plain", "filtered")]
policies[1].name = "filtered"
walks = backtest(market, market.windows["test"], [*policies, Ensemble(policies, "both")], ExecutionConfig())
np.save(Path(sys.argv[1], "weights.npy"), [walk.weights for walk in walks])
print(*sorted({"ray", "torch", "scipy", "sklearn", "skfolio", "plotly"} & set(sys.modules)))
"""


def test_saved_policies_decide_in_a_back_test_without_ray_and_torch(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    market = prepare_market(random_table(600), CONFIG)
    market.save(tmp_path / "market.npz")
    policy = policy_for(market)
    num_inputs = len(policy.spec.observation_names)
    filtered = policy_for(market, observation_mean=[0.1] * num_inputs, observation_std=[2.0] * num_inputs)
    filtered.name = "filtered"
    policy.save(tmp_path / "plain")
    filtered.save(tmp_path / "filtered")
    assert printed(pytestconfig, BACKTEST, str(tmp_path)) == []
    strategies = [policy, filtered, Ensemble([policy, filtered], "both")]
    walks = backtest(market, market.windows["test"], strategies, ExecutionConfig())
    np.testing.assert_array_equal(np.load(tmp_path / "weights.npy"), [walk.weights for walk in walks])


def test_the_command_that_back_tests_runs_loads_neither_ray_nor_torch(pytestconfig: pytest.Config) -> None:
    program = (
        "import sys, rllib_portfolio.cli.backtest, rllib_portfolio.runs.subjects, rllib_portfolio.cli.evaluation; "
        "print(*sorted({'ray', 'torch'} & set(sys.modules)))"
    )
    assert printed(pytestconfig, program) == []


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
