from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, ConstantMix, EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.reporting.equity_curve import equity_curve
from tests.backtest.hand_made import market_of, random_market


def _size(path: Path) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_the_equity_curve_is_a_png_of_1800_pixels(tmp_path: Path) -> None:
    results = backtest(random_market(), (3, 60), [EqualWeight(), BuyAndHold(), AllCash()], ExecutionConfig())
    equity_curve(results, tmp_path / "equity.png", "Test window")
    assert _size(tmp_path / "equity.png") == (1800, 1120)


@pytest.mark.parametrize("daily", [0.0, 1e-6, 0.5])
def test_flat_and_steep_wealth_can_be_drawn(tmp_path: Path, daily: float) -> None:
    market = market_of(np.full((40, 1), daily))
    strategies = [ConstantMix(np.array([1.0, 0.0]), f"mix {k}") for k in range(9)]
    equity_curve(backtest(market, (3, 40), strategies, ExecutionConfig()), tmp_path / "equity.png")
    assert (tmp_path / "equity.png").is_file()


def test_long_names_are_not_cut_off_at_the_edge(tmp_path: Path) -> None:
    from matplotlib.image import imread

    names = ["a policy", "constant mix of another policy", "a name that takes several lines of the legend by itself"]
    strategies = [ConstantMix(np.array([0.5, 0.5]), name) for name in names]
    market = market_of(np.full((40, 1), 0.01))
    equity_curve(backtest(market, (3, 40), strategies, ExecutionConfig()), tmp_path / "equity.png")
    picture = imread(tmp_path / "equity.png")[..., :3]
    edges = (picture[:, :3], picture[:, -3:], picture[:3], picture[-3:])
    assert all((edge == 1.0).all() for edge in edges)
    assert not (picture == 1.0).all()
