"""A headless Chromium without a network: what a page logs, and which of its panels are drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SKIP_MESSAGE = "Chromium is not installed (Debian: apt-get install chromium)"
VOID = frozenset(("meta", "link", "br", "img", "input", "hr"))

DRAWN_CLASSES = frozenset(("trace", "point", "points", "js-line", "js-fill", "heatmaplayer", "hm"))


class Visit(NamedTuple):
    """One visit of a page."""

    console: list[str]
    """What the page logged; errors that nobody caught are logged."""
    marks: dict[str, int]
    """Panel to the lines, areas, bars, points and images that are drawn in it."""


def find_browser() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def visit(browser: str, page: Path, profile: Path) -> Visit:
    """Open a page, let it draw, and look."""
    done = _run(browser, page, profile, "--dump-dom")
    console = re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)
    marks = _Marks()
    marks.feed(done.stdout)
    return Visit(console, marks.found)


def screenshot(browser: str, page: Path, profile: Path, size: tuple[int, int], target: Path) -> None:
    """Write a picture of the page, `size` wide and high."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _run(browser, page, profile, f"--window-size={size[0]},{size[1]}", "--hide-scrollbars", f"--screenshot={target}")


def figures_of(page: Path) -> dict[str, Any]:
    """The plots that a page is to draw, by the id of their panel."""
    found = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    figures: dict[str, Any] = json.loads(found[1])
    return figures


def _run(browser: str, page: Path, profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = (
        "--headless",
        "--no-sandbox",  # CI runs as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",
        f"--user-data-dir={profile}",
    )
    command = [browser, *flags, *arguments, page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


class _Marks(HTMLParser):
    """Counts what is drawn inside each panel: shapes with an outline, and images."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self._panel: str | None = None
        self._depth = 0
        self._layers: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        if tag == "div" and "panel" in classes:
            self._panel, self._depth = attributes["id"], 0
            self.found[str(self._panel)] = 0
            self._layers = []
        if self._panel is None or tag in VOID:
            return
        self._depth += 1
        self._layers.append(bool(DRAWN_CLASSES & set(classes)))
        if any(self._layers) and (attributes.get("d") or (tag == "image" and attributes.get("xlink:href"))):
            self.found[self._panel] += 1

    def handle_endtag(self, tag: str) -> None:
        if self._panel is None or tag in VOID:
            return
        self._depth -= 1
        self._layers.pop()
        if self._depth == 0:
            self._panel = None
