"""The commands in the files of cluster/ and in docs/cluster.md are ones that Ray and the scripts understand."""

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
PAGE = "cluster.md"


def shell_blocks(markdown: str) -> str:
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE))


def lines_of(name: str) -> list[str]:
    """The shell lines of a file: code blocks, a script, a launcher's commands, a job's entrypoint."""
    if name == PAGE:
        return joined_lines(shell_blocks((ROOT / "docs" / PAGE).read_text()))
    text = (CLUSTER / name).read_text()
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
    for name in (PAGE, "local.sh", "slurm.sh", "aws.yaml", "on-premise.yaml", "rayjob.yaml")
    for words in ray_commands(lines_of(name)) + script_commands(lines_of(name))
]


def test_commands_are_ones_that_ray_and_the_scripts_understand() -> None:
    assert len(COMMANDS) >= 35
    for name, words in COMMANDS:
        try:
            (check_ray if words[0] == "ray" else check_script)(words)
        except click.UsageError as error:
            raise AssertionError(f"{name}: {' '.join(words)}") from error


@pytest.mark.parametrize(
    "line", ["ray job submit --working-dirs .", "ray job submitt --working-dir .", "train.py --nums 4"]
)
def test_a_misspelt_command_is_found(line: str) -> None:
    (words,) = ray_commands([line]) + script_commands([line])
    with pytest.raises(click.UsageError):
        (check_ray if words[0] == "ray" else check_script)(words)


@pytest.mark.parametrize("before", [None, "0" * 64], ids=["no-token", "a-token-for-all-to-read"])
def test_the_command_that_makes_a_token_leaves_it_to_its_user_alone(tmp_path: Path, before: str | None) -> None:
    (command,) = [line for line in lines_of(PAGE) if "get-auth-token" in line]
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
