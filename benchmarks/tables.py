"""Tables as markdown, and the places in a document that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Title, header, and rows as text, and what a reader has to know of them."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def markdown(found: Iterable[Table]) -> str:
    """Return the tables as markdown, one below the other."""
    blocks = []
    for title, header, rows, note in found:
        lines = [f"**{title}**", "", *map(_markdown_row, [header, ["---", *["---:"] * (len(header) - 1)], *rows])]
        blocks.append("\n".join([*lines, "", note] if note else lines))
    return "\n\n".join(blocks)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def provenance(machine: Mapping[str, Any]) -> str:
    """Return a sentence about the machine and the revision of a measurement."""
    revision = (machine["git_revision"] or "unknown")[:12]
    clean = "" if machine["git_is_clean"] else " with changes that were not committed"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, numpy "
        f"{machine['packages']['numpy']}; revision {revision}{clean}; load average {machine['load_average']}."
    )


def marks(block: str) -> tuple[str, str]:
    """Return the comments that stand before and after a block of a document."""
    return f"<!-- {block}: begin -->", f"<!-- {block}: end -->"


def replaced(text: str, block: str, content: str) -> str:
    """Return the document with `content` between the two marks of `block`.

    Raises:
        ValueError: If a mark is missing.
    """
    first, last = marks(block)
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"README must hold {first} and {last}, got a text without. Put them back.")
    return f"{before}{first}\n{content}\n{last}{after}"
