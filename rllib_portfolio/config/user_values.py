"""Validation of values that users wrote, with one clear error."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rllib_portfolio.config.consent import is_function_name, require_consent, trust
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.shown_text import NAME_RULE, is_name, quoted

Model = TypeVar("Model", bound=BaseModel)

LARGEST_RATE = 1.0
"""Largest annual rate that is accepted: one above 100 % is probably a percentage that was not divided by 100."""


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build `model` from `values`.

    Args:
        model: The model.
        values: Its settings.
        where: Source of the values, for the error message.

    Raises:
        ConfigError: If a value violates the model; lists every violation.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_violation(item) for item in error.errors()) + f" ({where})") from None


def is_annual_rate(rate: float) -> bool:
    """Return whether a number can be an annual rate as a fraction."""
    return -1.0 < rate <= LARGEST_RATE


def user_path(text: str | Path) -> Path:
    """Return the path that a user wrote, with `~` expanded to the home folder."""
    return Path(os.path.expanduser(text))


def require_annual_rate(rate: float, name: str, where: str, error: type[ValueError] = ConfigError) -> None:
    """Raise an error unless a rate can be an annual rate as a fraction.

    Args:
        rate: The rate, which must be above -1 and at most `LARGEST_RATE`.
        name: Name of the rate, for the error message.
        where: Source of the rate, for the error message.
        error: Class of the error.

    Raises:
        ConfigError: If the rate is out of range. Another `error` replaces this class.
    """
    if not is_annual_rate(rate):
        raise error(
            f"{name} must be an annual rate as a fraction (above -1, at most {LARGEST_RATE:g}), got {rate:g} "
            f"({where}). Divide percentages by 100: 0.02 is 2 % a year."
        )


def require_names(names: Iterable[str], of: str, where: str, error: type[ValueError] = ConfigError) -> None:
    """Raise `error` unless each name can be displayed and used in a file name.

    Args:
        names: The names.
        of: The kind of things that have these names, such as `strategies`, for the error message.
        where: Source of the names, for the error message.
        error: Class of the error.
    """
    for name in names:
        if not is_name(name):
            raise error(f"names of {of} must {NAME_RULE}, got {quoted(name)} ({where}). Rename it.")


def import_function(reference: str, setting: str, known: Sequence[str] = ()) -> Callable[..., Any]:
    """Return a function of the user's.

    Args:
        reference: Its name as `module:function`.
        setting: The setting that names it, for the error message.
        known: Built-in names that the setting also accepts, for the error message.

    Raises:
        ConfigError: If it may not or cannot be imported, or is not a function.
    """
    expected = f"{setting} must be " + ("one of " + ", ".join(known) + ", or " if known else "") + "module:function"
    if not is_function_name(reference):
        raise ConfigError(f"{expected}, got {reference!r}. Correct the name.")
    require_consent({"custom": reference})
    module_name, _, name = reference.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{expected}, got {reference!r} ({error}). Put the module on the Python path.") from None
    if not callable(function):
        raise ConfigError(f"{expected}, got {reference!r}, which is a {type(function).__name__}. Name a function.")
    trust([reference])
    return function  # type: ignore[no-any-return]


_UNION_MEMBER = re.compile(r"constrained-\w+|[\w-]+\[.*\]|str|float|int")
"""Parts that pydantic adds to the location of an error in a union, as in `cost_bps.constrained-float`. They are not
names of settings."""


def _violation(item: Any) -> str:
    """Return one of pydantic's errors as the name of the setting and what is wrong with it."""
    parts = [str(part) for part in item["loc"] if not _UNION_MEMBER.fullmatch(str(part))]
    name = ".".join(parts) or "configuration"
    if item["type"] == "extra_forbidden":
        return f"{name} is not a known setting"
    if item["type"] == "value_error" and not item["loc"]:
        return str(item["ctx"]["error"])
    return f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, got {quoted(item['input'])}"
