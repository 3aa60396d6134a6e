from __future__ import annotations

import pytest

from rllib_portfolio.market import MarketData, load_market


@pytest.fixture(scope="session")
def bundled() -> MarketData:
    """The bundled universe with all defaults."""
    return load_market("sp500")
