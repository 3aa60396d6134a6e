"""The two errors that a user of the package can cause.

ValueError
├── ConfigError   a setting, flag, path or checkpoint that cannot be used
└── DataError     a price table that cannot be used

Every text reads `<name> must <rule>, got <value> (<where>). <what to do>`; the command line prints it as one line.
"""

from __future__ import annotations

import re
from typing import Any


class ConfigError(ValueError):
    """A setting, a flag, a path or a checkpoint that cannot be used as given."""


class DataError(ValueError):
    """A price table that cannot be used as given: names file, column, date or row, and the remedy."""


def one_line(error: BaseException) -> str:
    """An error's class and text without line breaks, for a table or a log."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_UNION_MEMBER = re.compile(r"constrained-\w+|\w+\[.*\]|str")
"""What pydantic adds to the place of an error in a union, as in `cost_bps.constrained-float`: no name of a setting."""


def violation(item: Any) -> str:
    """One of the errors that pydantic lists, as the setting and what is wrong with it."""
    parts = [str(part) for part in item["loc"] if not _UNION_MEMBER.fullmatch(str(part))]
    name = ".".join(parts) or "configuration"
    if item["type"] == "extra_forbidden":
        return f"{name} is not a known setting"
    if item["type"] == "value_error" and not item["loc"]:
        return str(item["ctx"]["error"])
    return f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"
