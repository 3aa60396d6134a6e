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
NARROWEST_WINDOW = 500
VOID = frozenset(("meta", "link", "br", "img", "input", "hr"))

TRACE_CLASSES = frozenset(("trace", "hm"))
"""Classes of the group that plotly.js draws one trace into (lines and bars, or a heatmap), but not those of legends."""

NOTHING = ("", "M0,0Z")
"""Outlines of a line or an area without points."""


class Visit(NamedTuple):
    """One visit of a page."""

    console: list[str]
    """Messages that the page logged, uncaught errors included."""
    marks: dict[str, list[int]]
    """Panel to the number of lines, areas, bars, points and images in each of its traces that has any."""


def find_browser() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def visit(browser: str, page: Path, profile: Path, size: tuple[int, int] = (1280, 900)) -> Visit:
    """Open a page in a window of `size`, let it draw, and look."""
    done = _run(browser, page, profile, "--dump-dom", f"--window-size={size[0]},{size[1]}")
    console = re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)
    marks = _Marks()
    marks.feed(done.stdout)
    return Visit(console, {panel: [count for count in counts if count] for panel, counts in marks.found.items()})


def measured(browser: str, page: Path, folder: Path, expression: str, size: tuple[int, int]) -> Any:
    """The value of a JavaScript expression on the drawn page, in a window of `size`; a frame where it is narrow.

    A window of Chromium is never narrower than 500 pixels, a frame may be.
    """
    folder.mkdir(exist_ok=True)
    script = (
        f"<script>addEventListener('load', () => setTimeout(() => console.log(JSON.stringify({expression})), 3000))"
    )
    asked = folder / "asked.html"
    asked.write_text(page.read_text().replace("</body>", f"{script}</script></body>"))
    opened = folder / "frame.html"
    frame = f'<iframe src="{asked.as_uri()}" style="width:{size[0]}px;height:{size[1]}px;border:0"></iframe>'
    opened.write_text(f'<!doctype html><body style="margin:0">{frame}</body>')
    narrow = size[0] < NARROWEST_WINDOW
    done = _run(
        browser, opened if narrow else asked, folder / "profile", "--dump-dom", f"--window-size={size[0]},{size[1]}"
    )
    (line,) = re.findall(r"CONSOLE[^\]]*\] \"(.*)\", source", done.stderr)
    return json.loads(line.replace('\\"', '"'))


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
    """Counts what is drawn inside each trace of each panel: shapes with an outline, and images."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[int]] = {}
        self._panel: str | None = None
        self._inside_trace: list[bool] = []  # of each open element of the panel

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = set((attributes.get("class") or "").split())
        if tag == "div" and "panel" in classes:
            self._panel = str(attributes["id"])
            self.found[self._panel] = []
            self._inside_trace = []
        if self._panel is None or tag in VOID:
            return
        inside = bool(self._inside_trace and self._inside_trace[-1])
        if not inside and classes & TRACE_CLASSES:
            self.found[self._panel].append(0)
            inside = True
        self._inside_trace.append(inside)
        is_image = tag == "image" and bool(attributes.get("xlink:href"))
        if inside and (is_image or (attributes.get("d") or "") not in NOTHING):
            self.found[self._panel][-1] += 1

    def handle_endtag(self, tag: str) -> None:
        if self._panel is None or tag in VOID:
            return
        self._inside_trace.pop()
        if not self._inside_trace:
            self._panel = None
