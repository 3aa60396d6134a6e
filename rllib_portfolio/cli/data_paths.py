"""Paths of price tables that stay valid when a later command runs in another folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rllib_portfolio.cli.console import JOB
from rllib_portfolio.config import MarketConfig, RunConfig
from rllib_portfolio.config.market import PATHS_BESIDE_DATA
from rllib_portfolio.config.user_values import user_path


def with_lasting_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with `lasting_path` applied to each table that it names."""
    market = config.market
    beside = {name: path and lasting_path(path) for name in PATHS_BESIDE_DATA for path in [getattr(market, name)]}
    found = {"data": _lasting_data(market.data), **beside}
    return config.model_copy(update={"market": market.model_copy(update=found)})


def lasting_path(path: str) -> str:
    """Return the absolute path of a file or folder; a text that is not such a path is returned unchanged.

    A Ray job works in a temporary copy of its working directory. A path in this copy is returned relative to it,
    because the next job has a copy of its own.
    """
    found = Path(os.path.abspath(user_path(path)))  # `resolve` would follow a link, whose name may have another suffix
    if path == MarketConfig().data or not os.path.exists(found):  # `sp500` is the bundled data, not such a file
        return path
    is_copied = JOB in os.environ and found.is_relative_to(Path.cwd())
    return str(found.relative_to(Path.cwd()) if is_copied else found)


def _lasting_data(data: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(data, str):
        return lasting_path(data)
    table = data.get("table")  # a bootstrap market resamples a table
    return {**data, "table": lasting_path(table)} if isinstance(table, str) else data
