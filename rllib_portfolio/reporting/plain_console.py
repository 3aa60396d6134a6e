"""The only consoles of rich: they take texts as they are, since brackets and colons stand in paths and names."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from rllib_portfolio.shown_text import displayable_lines


class PlainConsole(Console):
    """A console that reads neither markup nor emoji in texts, and shows control characters as visible escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is shown: one that is printed, or the title or a cell of a table."""
        return super().render_str(displayable_lines(text), **options)
