"""Tests of the Makefile and the setup script that install nothing."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository, with none of the settings of a make that runs these tests."""
    environment = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON"}}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def fake_python(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return all printed lines except those that make adds at the end."""
    return [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ***")]


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_pin_is_exact_and_free_of_local_builds() -> None:
    for pin in pins():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin), pin
    assert "torch==2.13.0" in pins()


def test_the_lock_has_the_pins_with_their_hashes() -> None:
    # the command that makes it stands at the top of constraints.txt
    locked = re.findall(
        r"^(\S+==[^ ;]+)[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$",
        (ROOT / "requirements.lock").read_text(),
        re.MULTILINE,
    )

    def normal(pin: str) -> str:
        return re.sub(r"[-_.]+(?=.*==)", "-", pin).lower()

    assert sorted(normal(pin) for pin, _ in locked) == sorted(map(normal, set(pins()) - {"torch==2.13.0"}))
    assert {"pip", "setuptools", "uv"} <= {pin.split("==")[0] for pin, _ in locked}


def test_every_requirement_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
    ]

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    wanted = {normal(re.split(r"[\[<>=~! ]", requirement)[0]) for requirement in requirements}
    assert wanted <= {normal(pin.split("==")[0]) for pin in pins()}


def test_a_missing_python_is_told_in_one_line(tmp_path: Path) -> None:
    done = make("setup", "PYTHON=no-such-python", f"VENV={tmp_path}/venv")
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert line.startswith("error: found no Python as 'no-such-python'. Install Python 3.11 or newer")


def test_a_python_that_is_too_old_is_told_in_one_line(tmp_path: Path) -> None:
    old = fake_python(tmp_path / "python", "echo 3.8")
    done = make("setup", f"PYTHON={old}", f"VENV={tmp_path}/venv")
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert line.startswith(f"error: Python must be 3.11 or newer, got 3.8 ('{old}').")
    assert not (tmp_path / "venv").exists()


def test_a_python_without_ensurepip_is_told_in_one_line(tmp_path: Path) -> None:
    bare = fake_python(tmp_path / "python", 'case "$*" in *ensurepip*) exit 1 ;; *) echo 3.11 ;; esac')
    done = make("setup", f"PYTHON={bare}", f"VENV={tmp_path}/venv")
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert "has no venv module with ensurepip. Install it (Debian, Ubuntu: apt install python3.11-venv)" in line
    assert not (tmp_path / "venv").exists()


# A Python whose venvs hold a pip that fails like the real one does.
FAILING_PIP = """
case "$*" in
*"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*"pip --version"*) ;;
*"pip install"*) cat <<'END'
{log}
END
    exit 1 ;;
*ensurepip*) ;;
*) echo 3.11 ;;
esac"""
NO_NETWORK = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/setuptools/
ERROR: Could not find a version that satisfies the requirement setuptools (from versions: none)
ERROR: No matching distribution found for setuptools"""
NO_SPACE = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("log", "reason"),
    [(NO_NETWORK, "no network, or the package index cannot be reached"), (NO_SPACE, "No space left on device")],
)
def test_a_failed_install_is_told_in_one_line_and_never_taken_for_complete(
    tmp_path: Path, log: str, reason: str
) -> None:
    python, venv = fake_python(tmp_path / "python", FAILING_PIP.format(log=log)), tmp_path / "venv"
    for notice in ("Setting up", "An earlier setup"):  # the second call starts over
        done = make("setup", f"PYTHON={python}", f"VENV={venv}")
        assert done.returncode != 0
        assert done.stdout.startswith(notice)
        (line,) = [line for line in error_lines(done) if line.startswith("error:")]
        assert reason in line
        assert f"pip's log: {venv}/pip.log" in line
        assert (venv / ".installing").exists()
        assert not (venv / ".installed").exists()


def test_a_failed_update_keeps_the_environment(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    fake_python(venv / "bin" / "python", FAILING_PIP.format(log=NO_NETWORK))
    for _ in range(2):
        done = make("setup", "PYTHON=no-such-python", f"VENV={venv}")
        assert done.returncode != 0
        assert done.stdout.startswith("Bringing")
        assert not (venv / ".installing").exists()
        assert not (venv / ".installed").exists()


def test_an_environment_without_pip_is_refused_rather_than_removed(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "notes.txt").touch()
    done = make("setup", f"PYTHON={sys.executable}", f"VENV={venv}")
    assert done.returncode != 0
    (line,) = error_lines(done)
    assert "must hold Python 3.11 or newer and pip, and does not. Remove it with 'make distclean'" in line
    assert (venv / "notes.txt").exists()


def test_setup_runs_once_and_again_when_the_pins_change(tmp_path: Path) -> None:
    stamp, newest = (
        tmp_path / ".installed",
        max((ROOT / f).stat().st_mtime for f in ("pyproject.toml", "constraints.txt", "requirements.lock")),
    )
    stamp.touch()
    os.utime(stamp, (newest + 10, newest + 10))
    assert make("-n", "train", f"VENV={tmp_path}").stdout.split() == [
        f"{tmp_path}/bin/python",
        "train.py",
        "--algo",
        "ppo",
    ]
    os.utime(stamp, (newest - 10, newest - 10))
    assert ".ci/setup" in make("-n", "train", f"VENV={tmp_path}").stdout


def test_clean_keeps_the_environment_and_what_runs_wrote() -> None:
    commands = make("-n", "clean").stdout
    assert "rm -rf .venv" not in commands
    assert "runs" not in commands.replace("-path ./runs", "")
    assert "data" not in commands


@pytest.mark.parametrize("page", ["reference/guarantees.md", "security.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text()))
    files = (path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    there = {name for text in files for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert len(named) > 10
    assert named <= there


def test_every_guarantee_about_a_fault_names_its_tests() -> None:
    def faults(page: str) -> list[str]:
        return re.findall(r"^\| (.+?) \| .*\|$", (ROOT / "docs" / page).read_text(), re.MULTILINE)

    rows = re.findall(r"^\| (?!fault ).*$", (ROOT / "docs" / "reference" / "guarantees.md").read_text(), re.MULTILINE)
    assert faults("reference/guarantees.md") == faults("reliability.md")
    assert len(rows) > 40
    assert all("| `test_" in row for row in rows)


def test_setup_asks_for_the_hash_of_every_package_but_torch_and_what_its_build_brings() -> None:
    installs = re.findall(r"^ *pip_install (.*?) \|\| fail", (ROOT / ".ci" / "setup").read_text(), re.MULTILINE)
    without = [words for words in installs if not re.search(r"--require-hashes|locked\[@\]", words)]
    assert len(installs) - len(without) == 3  # pip, the build tool, the packages
    assert [re.search(r"torch==|unlocked\.txt|-e \.", words) is not None for words in without] == [True, True, True]
    assert "local locked=(--require-hashes " in (ROOT / ".ci" / "setup").read_text()
