"""APG finds the known optimum with the default settings, and a horizon that is too short does not.

`make learn` runs all of it; `make test-all` runs the short cases that are not marked `learning`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning.certificates import Certificate, trained_policy
from benchmarks.learning.known_optima import costly_regimes, hidden_regimes, kelly, mean_reversion, merton, regimes

SEEDS = (0, 1)
STEPS = 100_000

pytestmark = pytest.mark.usefixtures("ray_session")


def growth_after(certificate: Certificate, folder: Path, seed: int, steps: int, **sections: Any) -> float:
    """The share of the optimal growth that a policy reaches after training."""
    market = certificate.market(seed)
    policy = trained_policy(
        market, folder, seed, steps, algo="apg", **{"environment": certificate.environment, **sections}
    )
    growth, _ = certificate.shares(policy, seed)
    print(f"seed {seed}: {growth:.1%} of the optimal growth")
    return growth


def test_seconds_of_training_find_the_kelly_fraction(tmp_path: Path) -> None:
    assert growth_after(kelly(0.2, 0.58), tmp_path, 0, 40_000) >= 0.97


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("certificate", "least"),
    [
        pytest.param(kelly(0.5, 0.55), 0.95, id="kelly-optimum-0.2"),
        pytest.param(merton(), 0.95, id="merton"),
        pytest.param(regimes(), 0.95, id="observable-regime"),
        pytest.param(hidden_regimes(), 0.90, id="hidden-regimes"),
        pytest.param(mean_reversion(), 0.85, id="mean-reversion"),
    ],
)
def test_apg_reaches_the_optimum(certificate: Certificate, least: float, seed: int, tmp_path: Path) -> None:
    assert growth_after(certificate, tmp_path, seed, STEPS) >= least


SLOW = costly_regimes(0.53, 0.98, 100.0)
"""A trade costs more than a day's edge, and pays after weeks."""


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("training", "is_enough"),
    [
        ({}, True),
        ({"horizon_days": 1}, False),
        ({"horizon_days": 8, "bootstrap": True}, True),
    ],
    ids=["a horizon of 32 days", "one day", "eight days and a critic"],
)
def test_a_trade_that_pays_later_needs_a_horizon_or_a_critic(
    training: dict[str, Any], is_enough: bool, seed: int, tmp_path: Path
) -> None:
    growth = growth_after(SLOW, tmp_path, seed, STEPS, training=training)
    assert growth >= 0.9 if is_enough else growth <= 0.5
