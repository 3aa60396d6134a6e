"""The kernel's accounting a second time: slow, obvious, one asset and one day after the other, in exact arithmetic.

Written from the definitions (DESIGN.md section 4), not from the kernel. A float is itself an exact fraction, so all
that may differ is the kernel's own rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import isqrt, sqrt
from typing import NamedTuple

DIGITS = 10**40
"""Precision of the one irrational number of the accounting, the square root in the impact term."""


class Day(NamedTuple):
    """One portfolio after one day."""

    traded: Fraction
    turnover: Fraction
    cost: Fraction
    growth: Fraction
    wealth: Fraction
    drifted: list[Fraction]


def one_day(
    wealth: float | Fraction,
    drifted: Sequence[float | Fraction],
    target: Sequence[float | Fraction],
    returns: Sequence[float],
    rates: Sequence[float | Fraction],
    impact: tuple[float, Sequence[float]] = (0.0, ()),
) -> Day:
    """Trade from `drifted` to `target` weights, pay, earn `returns`, drift.

    Args:
        wealth: V_t.
        drifted: w'_t of the N assets, then cash.
        target: w_t of the N assets, then cash.
        returns: r_{t+1} of the N assets, then cash.
        rates: Cost of each asset as a fraction; cash trades free of cost.
        impact: k, and the daily volatility of each asset.
    """
    moves = [abs(Fraction(new) - Fraction(old)) for new, old in zip(target, drifted, strict=True)]
    risky_moves = moves[:-1]
    traded = sum(risky_moves, Fraction(0))
    turnover = sum(moves, Fraction(0)) / 2
    cost = Fraction(0)
    for move, rate in zip(risky_moves, rates, strict=True):
        cost += Fraction(rate) * move
    k, volatility = impact
    if k:
        for move, sigma in zip(risky_moves, volatility, strict=True):
            cost += Fraction(k) * Fraction(sigma) * move * square_root(move)
    grown = [Fraction(weight) * (1 + Fraction(r)) for weight, r in zip(target, returns, strict=True)]
    gross = sum(grown, Fraction(0))
    growth = (1 - cost) * gross
    return Day(traded, turnover, cost, growth, Fraction(wealth) * growth, [value / gross for value in grown])


def walk(
    targets: Iterable[Sequence[float] | None],
    returns: Iterable[Sequence[float]],
    rates: Sequence[float | Fraction],
    volatility: Iterable[Sequence[float]] | None = None,
    k: float = 0.0,
) -> Iterator[Day]:
    """Days from wealth 1, all cash. A target of None holds the drifted weights, which trades nothing."""
    wealth, drifted = Fraction(1), [Fraction(0)] * len(rates) + [Fraction(1)]
    days = zip(targets, returns, strict=True)
    sigmas = iter(volatility) if volatility is not None else None
    for target, day_returns in days:
        impact = (k, next(sigmas)) if sigmas is not None else (0.0, ())
        day = one_day(wealth, drifted, drifted if target is None else target, day_returns, rates, impact)
        wealth, drifted = day.wealth, day.drifted
        yield day


def square_root(value: Fraction) -> Fraction:
    """The square root to 40 digits: sqrt(n / d) = sqrt(n d) / d."""
    product = value.numerator * value.denominator
    return Fraction(isqrt(product * DIGITS**2), value.denominator * DIGITS)


def differential_sharpe(returns: Iterable[float], decay: float, second_moment: float) -> Iterator[float]:
    """Yield the derivative of the Sharpe ratio of the decayed moments with respect to the weight of the new return.

    D_t = dS/d eta at eta = 0, with S(eta) = a / sqrt(b - a^2), a = A + eta (R - A), b = B + eta (R^2 - B): the
    definition that Moody and Saffell expand to first order, here as a central difference.
    """
    first, second = 0.0, second_moment
    for r in returns:

        def sharpe(eta: float, a: float = first, b: float = second, r: float = r) -> float:
            mean, square = a + eta * (r - a), b + eta * (r * r - b)
            return mean / sqrt(square - mean**2)

        yield (sharpe(1e-5) - sharpe(-1e-5)) / 2e-5
        first, second = first + decay * (r - first), second + decay * (r * r - second)
