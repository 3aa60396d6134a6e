"""Consent to import the functions that settings name as `module:function`.

The files of a run, a policy, a search or an analysis may come from a stranger, so that the code that they name must not
run by itself. A command imports only the functions that its user named in this call, with --config, --set or
--trust-custom. In Python, code that names a function thereby consents to its import, and `load_policy` asks for consent
to the functions that a policy's file names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rllib_portfolio.errors import ConfigError

_NAMING = ("reward", "custom")
"""Settings that name functions: `environment.reward` and `market.features.custom`."""


@dataclass(slots=True)
class _Consent:
    """The functions that this process may import, and the file that named each function."""

    trusted: set[str] = field(default_factory=set)
    is_restricted: bool = False
    files: dict[str, str] = field(default_factory=dict)


_current = _Consent()


@contextmanager
def restricted_to(names: Collection[str] | None) -> Iterator[None]:
    """Restrict the whole process to importing trusted functions until the context ends.

    Args:
        names: Trusted functions (`module:function`), or modules with all of their functions; None restricts nothing.
    """
    global _current
    before = _current
    if names is not None:
        _current = _Consent(set(names), is_restricted=True)
    try:
        yield
    finally:
        _current = before


def consented() -> frozenset[str] | None:
    """Return the argument of `restricted_to` that lets another process import the same functions as this one."""
    return frozenset(_current.trusted) if _current.is_restricted else None


def trust(names: str | Iterable[str]) -> None:
    """Allow the import of functions, or of modules with all of their functions, in this process from now on."""
    _current.trusted.update([names] if isinstance(names, str) else names)


def note_file(settings: object, file: Path) -> None:
    """Remember the file that named the functions in some settings, for the error message of a refusal.

    Args:
        settings: Nested settings, as `named_functions` reads them.
        file: The file that holds them.
    """
    for name in named_functions(settings):
        _current.files.setdefault(name, str(file))


def is_function_name(text: str) -> bool:
    """Return whether a text has the form `module:function`. A text in any other form is never imported."""
    module, _, name = text.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), name))


def named_functions(settings: object) -> Iterator[str]:
    """Yield each `module:function` that nested settings name, whether their keys are dotted or not."""
    waiting = deque([(settings, False)])
    while waiting:  # no recursion, since a stranger's file may be nested to any depth
        values, is_name = waiting.popleft()
        if isinstance(values, str):
            if is_name and is_function_name(values):
                yield values
        elif isinstance(values, Mapping):
            waiting.extend((inner, is_name or str(key).split(".")[-1] in _NAMING) for key, inner in values.items())
        elif isinstance(values, list | tuple):
            waiting.extend((inner, is_name) for inner in values)


def require_trusted(names: Iterable[str]) -> None:
    """Raise a `ConfigError` unless all functions are trusted; it names the first untrusted function and its file."""
    for name in names:
        if not {name, name.partition(":")[0]} & _current.trusted:
            raise ConfigError(
                f"a function that saved settings name must be one that you trust, got {name} "
                f"({_current.files.get(name, 'a saved file')}). Read its code, then give --trust-custom {name}, or in "
                f"Python load_policy(..., trust_custom=[{name!r}])."
            )


def require_consent(settings: object) -> None:
    """Raise a `ConfigError` if a command's saved settings name functions that it may not import.

    It is called before the command starts other processes that work for it.
    """
    if _current.is_restricted:
        require_trusted(named_functions(settings))
