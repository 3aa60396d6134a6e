"""Consent to import the functions that settings name as `module:function`.

The files of a run, a policy, a search or an analysis may be a stranger's: what they name must not run by itself. A
command imports only the functions that its user named this time, with --config, --set or --trust-custom. In Python,
code that names a function consents to it, and `load_policy` asks for consent to what a policy's file names.
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
    """What this process may import, and which file named what."""

    trusted: set[str] = field(default_factory=set)
    is_restricted: bool = False
    files: dict[str, str] = field(default_factory=dict)


_current = _Consent()


@contextmanager
def restricted_to(names: Collection[str] | None) -> Iterator[None]:
    """Import no functions but those trusted, in the whole process, until the block ends.

    `names` are functions (`module:function`), or modules for all of their functions; None restricts nothing.
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
    """Return what another process has to be `restricted_to` to import what this one may."""
    return frozenset(_current.trusted) if _current.is_restricted else None


def trust(names: str | Iterable[str]) -> None:
    """Let functions, or modules with all of their functions, be imported in this process from now on."""
    _current.trusted.update([names] if isinstance(names, str) else names)


def note_file(settings: object, file: Path) -> None:
    """Remember which file named these functions, for the message of a refusal."""
    for name in named_functions(settings):
        _current.files.setdefault(name, str(file))


def is_function_name(text: str) -> bool:
    """Return whether a text reads `module:function`: nothing else is ever imported."""
    module, _, name = text.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), name))


def named_functions(settings: object) -> Iterator[str]:
    """Yield each `module:function` that nested settings name, whether their keys are dotted or not."""
    waiting = deque([(settings, False)])
    while waiting:  # no recursion: a stranger's file may be nested as deep as it likes
        values, is_name = waiting.popleft()
        if isinstance(values, str):
            if is_name and is_function_name(values):
                yield values
        elif isinstance(values, Mapping):
            waiting.extend((inner, is_name or str(key).split(".")[-1] in _NAMING) for key, inner in values.items())
        elif isinstance(values, list | tuple):
            waiting.extend((inner, is_name) for inner in values)


def require_trusted(names: Iterable[str]) -> None:
    """Raise a `ConfigError`, which names the first that is not and its file, unless all functions are trusted."""
    for name in names:
        if not {name, name.partition(":")[0]} & _current.trusted:
            raise ConfigError(
                f"a function that saved settings name must be one that you trust, got {name} "
                f"({_current.files.get(name, 'a saved file')}). Read its code, then give --trust-custom {name}, or in "
                f"Python load_policy(..., trust_custom=[{name!r}])."
            )


def require_consent(settings: object) -> None:
    """Raise if a command's saved settings name functions that it may not import: asked before others work for it."""
    if _current.is_restricted:
        require_trusted(named_functions(settings))
