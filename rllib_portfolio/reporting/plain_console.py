"""Console of rich for all output, which does not interpret texts: paths and names may contain brackets and colons."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from rllib_portfolio.shown_text import displayable_lines


class PlainConsole(Console):
    """A console that interprets neither markup nor emoji codes, and shows control characters as visible escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a printed text, or the title or a cell of a table, as it is shown."""
        return super().render_str(displayable_lines(text), **options)
