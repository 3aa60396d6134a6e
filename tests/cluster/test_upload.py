"""What `ray job submit --working-dir .` would send, packed by Ray's own packaging."""

from __future__ import annotations

import logging
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 5 * 1000 * 1000


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packaging = pytest.importorskip("ray._private.runtime_env.packaging", reason="Ray moved its packaging")
    package = tmp_path_factory.mktemp("upload") / "package.zip"
    packaging.create_package(str(ROOT), package, include_gitignore=True, logger=logging.getLogger("upload"))
    return package


def test_the_upload_is_below_five_megabytes(upload: Path) -> None:
    assert upload.stat().st_size < LIMIT
    assert sum(file.file_size for file in zipfile.ZipFile(upload).infolist()) < LIMIT


def test_the_upload_holds_what_a_run_needs(upload: Path) -> None:
    sent = set(zipfile.ZipFile(upload).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "rllib_portfolio", "tune_configs"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    needed = {name for name in tracked if name.split("/")[0] not in ("tests", "benchmarks")}
    assert len(needed) > 100
    assert needed <= sent


def test_the_upload_leaves_the_rest_at_home(upload: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(upload).namelist()}
    home = {".git", ".venv", ".ci", "benchmarks", "cluster", "docs", "models", "runs", "tests", "README.md"}
    assert tops & home == set()
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in zipfile.ZipFile(upload).namelist())
