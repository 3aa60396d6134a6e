"""Safe display of texts from outside (names, cells, paths, errors of libraries) on a terminal or a page."""

from __future__ import annotations

import re
import reprlib

LONGEST_NAME = 200
"""Most characters of a name. The file named after it also has a suffix, and file systems allow 255 bytes."""
LONGEST_ERROR = 2_000

_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters, such as terminal escapes and line breaks
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # reversal of the text, invisible characters
    "\u2028\u2029\ud800-\udfff]"  # line separators; surrogates that stand for bytes of a path which are not text
)
_CUT = " ... [{:,} characters] ... "


def displayable(text: str, longest: int | None = None) -> str:
    r"""Return a text with each invisible or control character replaced by a visible escape, such as `\x1b` or `\n`.

    Args:
        text: Any text.
        longest: Number of characters to keep of a longer text, half of them from its start and half from its end.
    """
    if longest is not None and len(text) > longest + len(_CUT):
        half = longest // 2
        text = f"{text[:half]}{_CUT.format(len(text) - 2 * half)}{text[-half:]}"
    return _UNSHOWABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def displayable_lines(text: str) -> str:
    """Return a text of several lines after `displayable` was applied to each line."""
    return "\n".join(map(displayable, text.split("\n")))


def is_name(text: str) -> bool:
    """Return whether a text can name a strategy or an asset: it can be displayed unchanged and used in a file name."""
    return len(text) <= LONGEST_NAME and displayable(text) == text


NAME_RULE = f"have at most {LONGEST_NAME} characters, none of them a control character"


_QUOTES = reprlib.Repr()
_QUOTES.maxlevel = 4
_QUOTES.maxlist = _QUOTES.maxtuple = _QUOTES.maxdict = _QUOTES.maxset = _QUOTES.maxfrozenset = 20
_QUOTES.maxstring = _QUOTES.maxlong = _QUOTES.maxother = 200


def quoted(value: object) -> str:
    """Return the repr of a value on one line, shortened if the value is long, deep or wide, so that it is fast."""
    return displayable(" ".join(_QUOTES.repr(value).split()), LONGEST_ERROR)
