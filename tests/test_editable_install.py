"""A script beside a clone imports the package, although the clone's folder has the package's name."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
SCRIPT = "import site, sys; site.addsitedir(sys.argv[1]); import rllib_portfolio; print(rllib_portfolio.__file__)"


def test_a_script_in_the_parent_folder_of_the_clone_imports_the_package(tmp_path: Path) -> None:
    clone, site_packages = tmp_path / "rllib_portfolio", tmp_path / "site-packages"
    package = clone / "rllib_portfolio" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    site_packages.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, site_packages], cwd=clone, check=True, capture_output=True)
    (wheel,) = site_packages.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site_packages)
    (tmp_path / "script.py").write_text(SCRIPT)
    # -S: without the packages that are installed here, of which this project is one
    command = [sys.executable, "-S", "script.py", site_packages]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == package
