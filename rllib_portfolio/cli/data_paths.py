"""Where a configuration finds its tables, put so that another command finds them from another folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rllib_portfolio.cli.console import JOB
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.user_values import user_path


def with_lasting_paths(config: RunConfig) -> RunConfig:
    """The configuration with the path of each table that it names as `lasting_path` puts it."""
    market = config.market
    found = {"data": _lasting_data(market.data), "index_path": market.index_path and lasting_path(market.index_path)}
    return config.model_copy(update={"market": market.model_copy(update=found)})


def lasting_path(path: str) -> str:
    """The path of a file as every folder of this machine knows it; what is the path of no file stays as it is.

    A Ray job works in a copy of its working directory that goes away with it. Files in there are named from there: the
    next job has its own copy.
    """
    found = Path(
        os.path.abspath(user_path(path))
    )  # not `resolve`: the name of a link says what kind of file it leads to
    if not (found.suffix and os.path.isfile(found)):  # a file `sp500` is not what `sp500` means
        return path
    is_copied = JOB in os.environ and found.is_relative_to(Path.cwd())
    return str(found.relative_to(Path.cwd()) if is_copied else found)


def _lasting_data(data: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(data, str):
        return lasting_path(data)
    table = data.get("table")  # of a bootstrap
    return {**data, "table": lasting_path(table)} if isinstance(table, str) else data
