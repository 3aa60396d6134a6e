"""cluster/README.md, and the commands in every file of cluster/: what they name exists, what they say is understood."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from tests.cluster.commands import check_ray, check_script, joined_lines, ray_commands, script_commands

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
README = (CLUSTER / "README.md").read_text()


def shell_blocks(markdown: str) -> str:
    return "\n".join(re.findall(r"^```\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE))


def lines_of(name: str) -> list[str]:
    """The shell lines of a file: code blocks, a script, a launcher's commands, a job's entrypoint."""
    text = (CLUSTER / name).read_text()
    if name == "README.md":
        return joined_lines(shell_blocks(text))
    if name == "rayjob.yaml":
        return [yaml.safe_load(text)["spec"]["entrypoint"]]
    if name.endswith(".yaml"):
        config = yaml.safe_load(text)
        return [line for key in ("head", "worker") for line in config[f"{key}_start_ray_commands"]]
    # What local.sh hands to `ray start` stands behind the name of the node; slurm.sh shows its use in a comment.
    text = re.sub(r"start_node (head|\"worker-\$number\")", "ray start", text)
    return joined_lines(re.sub(r"^# +sbatch cluster/slurm.sh ", "", text, flags=re.MULTILINE))


COMMANDS = [
    (name, tuple(words))
    for name in ("README.md", "local.sh", "slurm.sh", "aws.yaml", "on-premise.yaml", "rayjob.yaml")
    for words in ray_commands(lines_of(name)) + script_commands(lines_of(name))
]


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_commands_are_ones_that_ray_and_the_scripts_understand(name: str, words: tuple[str, ...]) -> None:
    if words[0] == "ray":
        check_ray(words)
    else:
        check_script(words)


def test_commands_are_found_in_every_file() -> None:
    count = {name: sum(1 for other, _ in COMMANDS if other == name) for name, _ in COMMANDS}
    assert count["README.md"] >= 20
    assert count["local.sh"] >= 4  # the two kinds of node, what both share, status
    assert count["slurm.sh"] == 3
    assert count["aws.yaml"] == count["on-premise.yaml"] == 4
    assert count["rayjob.yaml"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "ray job submit --working-dirs .",
        "ray job submitt --working-dir .",
        "ray symmetric-run --adress a:1 ",
        "train.py --algo sac",
        "train.py --nums 4",
        "backtest.py walk-forward --fold",
    ],
)
def test_a_misspelt_command_is_found(line: str) -> None:
    commands = ray_commands([line]) + script_commands([line])
    assert commands
    for words in commands:
        with pytest.raises(click.UsageError):
            (check_ray if words[0] == "ray" else check_script)(words)


def test_every_file_that_the_readme_names_exists() -> None:
    named = set(
        re.findall(r"`((?:cluster/)?[\w.-]+\.(?:yaml|yml|sh|json|py|toml|txt)|Dockerfile|\.\w+ignore)`", README)
    )
    named |= set(re.findall(r"\bcluster/[\w.-]*\w", README))
    missing = [name for name in named if not any((folder / name).is_file() for folder in (CLUSTER, ROOT))]
    assert missing == []
    assert len(named) > 12


def test_the_readme_names_every_file_of_the_folder() -> None:
    files = {path.name for path in CLUSTER.iterdir()} - {"README.md", "Dockerfile.dockerignore"}
    assert [name for name in sorted(files) if name not in README] == []


def test_links_within_the_readme_lead_somewhere() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]+)\)", README)
    assert len(links) >= 8
    assert set(links) <= anchors


@pytest.mark.parametrize("before", [None, "0" * 64], ids=["no-token", "a-token-for-all-to-read"])
def test_the_command_that_makes_a_token_leaves_it_to_its_user_alone(tmp_path: Path, before: str | None) -> None:
    (command,) = [line for line in lines_of("README.md") if "get-auth-token" in line]
    token = tmp_path / ".ray" / "auth_token"
    if before is not None:
        token.parent.mkdir()
        token.write_text(before)
        token.chmod(0o644)
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-c", command],
        env=without | {"HOME": str(tmp_path), "PATH": path},
        umask=0o022,
        timeout=120,
        check=True,
    )
    assert (len(token.read_text()), token.stat().st_mode & 0o777) == (64, 0o600)
    assert before in (None, token.read_text())


@pytest.mark.parametrize("variable", ["GCS_PORT", "DASHBOARD_PORT", "CLIENT_PORT", "CLUSTER_DIR", "VENV"])
def test_local_sh_explains_its_variables(variable: str) -> None:
    text = (CLUSTER / "local.sh").read_text()
    usage = text.split('readonly usage="')[1].split('"\n\n')[0]
    assert variable in usage
    assert f"${{{variable}:-" in text
