"""The audit for look-ahead bias of an environment and, optionally, of its policy.

The audit makes four checks: results are deterministic, nothing depends on later prices, the portfolio can hold each
asset alone and cash alone, and every trade is charged. It needs neither ray nor torch. A policy is any `Strategy`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from rllib_portfolio.audit import causality, determinism
from rllib_portfolio.audit.certificate import Certificate, Check
from rllib_portfolio.audit.specimen import Specimen
from rllib_portfolio.env import checker
from rllib_portfolio.env.checker import Counterexample
from rllib_portfolio.market import MarketData

__all__ = ["CHECKS", "Certificate", "Check", "Counterexample", "Specimen", "audit"]

_PACKAGES = ("rllib-portfolio", "numpy", "pandas", "gymnasium", "scikit-learn", "statsmodels", "torch")
UNPROVEN = (
    "The check for look-ahead bias covers the days and strategies that it names. It cannot prove that the prices "
    "themselves, or a user's own columns, were known on their dates."
)


CHECKS: dict[str, Callable[[Specimen], str]] = {
    "determinism": determinism.require_deterministic,
    "no look-ahead bias": causality.require_causal,
    "one-asset portfolios": lambda specimen: checker.require_reachable_corners(specimen.env),
    "costs charged": lambda specimen: checker.require_costs(specimen.env, specimen.seed),
}
"""Functions by the name of the check. Each returns what it covered as text, or raises a `Counterexample`.

Determinism comes first, because values that change by themselves would fail the check for look-ahead bias, too."""


def audit(specimen: Specimen, on_check: Callable[[str], None] = lambda name: None) -> Certificate:
    """Run all checks.

    Args:
        specimen: The market, the environment and the policy to audit.
        on_check: Called with the name of each check before it runs.

    Returns:
        The outcome of each check. If a feature of the user fails, no other check runs, since its market cannot be used.

    Raises:
        ConfigError: If the configuration cannot be used.
        DataError: If the prices cannot be used.
    """
    names = list(CHECKS)
    for name, check in (
        (names[0], determinism.require_deterministic_custom_features),
        (names[1], causality.require_causal_custom_features),
    ):
        try:
            check(specimen)
        except Counterexample as found:
            failed = Check(name, "FAIL", str(found))
            not_run = (Check(other, "not run", f"{name} failed") for other in names if other != name)
            return Certificate((failed, *not_run), _versions())
    checks = []
    for name, run in CHECKS.items():
        on_check(name)
        try:
            checks.append(Check(name, "PASS", run(specimen)))
        except Counterexample as found:
            checks.append(Check(name, "FAIL", str(found)))
    facts = {**_market_facts(specimen.market), **_versions()}
    return Certificate(tuple(checks), facts, (*specimen.market.notes, UNPROVEN))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _market_facts(market: MarketData) -> dict[str, str]:
    """Return the source, the hash and the windows of the data as texts by label."""
    windows = {
        name: f"{market.dates[start]} to {market.dates[stop - 1]}" for name, (start, stop) in market.windows.items()
    }
    return {"data": market.source, "data hash": market.data_hash, **{f"{k} window": v for k, v in windows.items()}}
