"""Pages as pictures for the documents, through a browser without a window."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 15_000
"""Of page time: charts draw themselves."""


def photograph(page: Path, picture: Path, size: tuple[int, int]) -> None:
    """The top of an HTML page as a PNG of `size` pixels; where no browser is installed, the picture stays as it is."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"{picture} stays as it is: no browser ({', '.join(BROWSERS)}) is installed.")
        return
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={size[0]},{size[1]}",
                f"--virtual-time-budget={PATIENCE_MS}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
        )
