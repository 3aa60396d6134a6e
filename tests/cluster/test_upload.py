"""Tests of the files that `ray job submit --working-dir .` uploads, packed by Ray's own code."""

from __future__ import annotations

import logging
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 5 * 1000 * 1000


def test_the_upload_is_small_and_holds_what_a_run_needs_and_little_else(tmp_path: Path) -> None:
    packaging = pytest.importorskip("ray._private.runtime_env.packaging", reason="Ray moved its packaging")
    packaging.create_package(
        str(ROOT), tmp_path / "package.zip", include_gitignore=True, logger=logging.getLogger("upload")
    )
    files = zipfile.ZipFile(tmp_path / "package.zip").infolist()
    assert sum(file.file_size for file in files) < LIMIT
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "rllib_portfolio", "tune_configs"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    needed = {name for name in tracked if name.split("/")[0] not in ("tests", "benchmarks")}
    assert len(needed) > 100
    sent = {file.filename for file in files}
    assert needed <= sent
    home = {".git", ".venv", ".ci", "benchmarks", "cluster", "docs", "models", "runs", "tests", "README.md"}
    assert {name.split("/")[0] for name in sent} & home == set()
