"""An editable install is imported from anywhere; a wheel has the command, the configurations, templates and types."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TEMPLATES = "rllib_portfolio/reporting/templates"
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
SCRIPT = "import site, sys; site.addsitedir(sys.argv[1]); import rllib_portfolio; print(rllib_portfolio.__file__)"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder named as the package, which it holds without its modules, and what the package is built by."""
    folder = tmp_path / "rllib_portfolio"
    (folder / "rllib_portfolio").mkdir(parents=True)
    (folder / "rllib_portfolio" / "__init__.py").touch()
    shutil.copytree(ROOT / TEMPLATES, folder / TEMPLATES)
    (folder / TEMPLATES).with_name("__init__.py").touch()
    shutil.copy(ROOT / "rllib_portfolio" / "py.typed", folder / "rllib_portfolio")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tune_configs", folder / "tune_configs")
    return folder


def built(clone: Path, hook: str, output: Path) -> zipfile.ZipFile:
    output.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, hook, output], cwd=clone, check=True, capture_output=True)
    (wheel,) = output.glob("*.whl")
    return zipfile.ZipFile(wheel)


def test_a_script_in_the_parent_folder_of_the_clone_imports_the_package(clone: Path, tmp_path: Path) -> None:
    site_packages = tmp_path / "site-packages"
    with built(clone, "build_editable", site_packages) as wheel:
        wheel.extractall(site_packages)
    (tmp_path / "script.py").write_text(SCRIPT)
    # -E and -S: without PYTHONPATH and the packages that are installed here, of which this project is one
    command = [sys.executable, "-E", "-S", "script.py", site_packages]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == clone / "rllib_portfolio" / "__init__.py"


def test_a_wheel_has_the_command_and_all_files_that_are_no_modules(clone: Path, tmp_path: Path) -> None:
    with built(clone, "build_wheel", tmp_path / "wheel") as wheel:
        names = wheel.namelist()
        (scripts,) = [wheel.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert "rllib-portfolio = rllib_portfolio.cli:main" in scripts.splitlines()
    assert "rllib_portfolio/py.typed" in names
    installed = [name.partition(".data/data/")[2] for name in names if name.endswith(".yaml")]
    assert {f"{TEMPLATES}/{path.name}" for path in (ROOT / TEMPLATES).iterdir()} <= set(names)
    expected = [f"share/rllib_portfolio/tune_configs/{path.name}" for path in (ROOT / "tune_configs").glob("*.yaml")]
    assert sorted(installed) == sorted(expected)
