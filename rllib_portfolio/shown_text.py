"""Texts from outside (names, cells, paths, errors of libraries) as they may be shown on a terminal or a page."""

from __future__ import annotations

import re
import reprlib

LONGEST_NAME = 200
"""Characters of a name; its file has a suffix, and file systems take 255 bytes."""
LONGEST_ERROR = 2_000

_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: escape sequences of terminals, ends of lines
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # reverse the text around them, or are invisible
    "\u2028\u2029\ud800-\udfff]"  # ends of lines; bytes of a path that are no text
)
_CUT = " ... [{:,} characters] ... "


def displayable(text: str, longest: int | None = None) -> str:
    r"""Return a text with each character that is not for readers as a visible escape, such as `\x1b` or `\n`.

    Args:
        text: Any text.
        longest: Characters to keep; of a longer text, the first half and the last half of so many.
    """
    if longest is not None and len(text) > longest + len(_CUT):
        half = longest // 2
        text = f"{text[:half]}{_CUT.format(len(text) - 2 * half)}{text[-half:]}"
    return _UNSHOWABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def displayable_lines(text: str) -> str:
    """Return a text of several lines, each of them displayable."""
    return "\n".join(map(displayable, text.split("\n")))


def is_name(text: str) -> bool:
    """Return whether a text can name a strategy or an asset: it is shown as it is, and files can be named after it."""
    return len(text) <= LONGEST_NAME and displayable(text) == text


NAME_RULE = f"have at most {LONGEST_NAME} characters, none of them a control character"


_QUOTES = reprlib.Repr()
_QUOTES.maxlevel = 4
_QUOTES.maxlist = _QUOTES.maxtuple = _QUOTES.maxdict = _QUOTES.maxset = _QUOTES.maxfrozenset = 20
_QUOTES.maxstring = _QUOTES.maxlong = _QUOTES.maxother = 200


def quoted(value: object) -> str:
    """Return the repr of a value in one line, cut where it is long, deep or wide, so that it takes little time."""
    return displayable(" ".join(_QUOTES.repr(value).split()), LONGEST_ERROR)
