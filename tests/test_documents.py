"""The documents: their links lead somewhere, their Python runs, and their commands are ones that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio import cli
from tests.tiny_runs import TinyRun

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
COMMANDS = {"train.py": cli.train, "tune.py": cli.tune, "backtest.py": cli.backtest, "rllib_portfolio.market": cli.data}
SUBCOMMANDS = ("walk-forward", "audit", "validate", "process")


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_to_a_heading(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        if "://" in target:
            continue
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def commands_of(page: Path) -> list[list[str]]:
    """Return the arguments of each command of the project in a page's shell blocks."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    found = [
        re.search(r"\bpython (train\.py|tune\.py|backtest\.py|-m rllib_portfolio\.market)\b.*", line) for line in lines
    ]
    words = [shlex.split(match[0].replace(" -m ", " "), comments=True) for match in found if match]
    return [arguments for _, *arguments in words]


def test_every_flag_in_the_documents_is_one_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    helps: dict[tuple[str, ...], str] = {}
    unknown = []
    for page in PAGES:
        for script, *rest in commands_of(page):
            command = (script, *(word for word in rest[:1] if word in SUBCOMMANDS))
            if command not in helps:
                with pytest.raises(SystemExit, match="0"):
                    COMMANDS[script]([*command[1:], "--help"])
                helps[command] = capsys.readouterr().out
            flags = [word.partition("=")[0] for word in rest if word.startswith("--")]
            unknown += [(page.name, *command, flag) for flag in flags if flag not in helps[command]]
    assert unknown == []
    assert len(helps) >= 6


@pytest.fixture
def known(finished_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that the Python blocks of the documents use: a run, an observation, value series."""
    from rllib_portfolio import load_policy
    from rllib_portfolio.policies.strategy import MarketViewer

    monkeypatch.chdir(tmp_path)
    market = finished_run.market
    view = MarketViewer(market, 1).views(market.windows["test"][0], True, np.eye(market.num_assets + 1)[[-1]])[0]
    days = pd.bdate_range("2020-01-01", periods=300)
    rng = np.random.default_rng(0)
    wealth, other, index = (pd.Series(np.cumprod(1.0 + rng.normal(0.0005, 0.01, 300)), days) for _ in range(3))
    monkeypatch.setattr("rllib_portfolio.load_policy", lambda path: load_policy(finished_run.run_dir), raising=False)
    return {
        "run_dir": finished_run.run_dir,
        "observation": view.observation,
        "view": SimpleNamespace(**{"volatility": market.volatility[-1]}),
        **{"wealth": wealth, "other": other, "index": index},
    }


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, known: dict[str, Any]) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), known)  # the documents' own code


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_ends_in_a_report(tmp_path: Path) -> None:
    page = ROOT / "docs" / "tutorial.md"
    for name in ("train.py", "tune.py", "backtest.py", "tune_configs", "rllib_portfolio"):
        (tmp_path / name).symlink_to(ROOT / name)
    for language, block in re.findall(
        r"^```(python|bash)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL
    ):
        for line in [block] if language == "python" else block.splitlines():
            command = ["-c", line] if language == "python" else shlex.split(line)[1:]
            done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, (line, done.stdout[-2000:], done.stderr[-2000:])
    assert (tmp_path / "runs" / "tutorial" / "report" / "report.html").is_file()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.name)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    folder = [] if script.name in ("sb3_ppo.py", "own_rllib_config.py") else [str(tmp_path / "out")]
    done = subprocess.run([sys.executable, str(script), *folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs() -> None:
    notebook = json.loads((ROOT / "examples" / "from_data_to_report.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    done = subprocess.run([sys.executable, "-c", "\n".join(cells)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    assert "report.html in a browser." in done.stdout
