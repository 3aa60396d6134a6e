"""A checkpoint is whole or it is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rllib_portfolio.atomic import write_json
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.policies.checkpoint import (
    _digests,
    best_checkpoint,
    checkpoint_name,
    checkpoints,
    keep_best_checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    read_progress,
    write_checkpoint,
)


def write_files(folder: Path) -> None:
    (folder / "rllib").mkdir()
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.json").write_text("{}")
    (folder / "rllib" / "state.pkl").write_bytes(b"weights")


def write(run_dir: Path, steps: int) -> Path:
    return write_checkpoint(run_dir, steps, write_files, {"steps": steps})


def names(run_dir: Path) -> list[str]:
    return [folder.name for folder in checkpoints(run_dir)]


def refusal(checkpoint: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        read_progress(checkpoint)
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith("checkpoint must ")
    assert str(checkpoint) in text
    assert text.endswith("Remove it; the run resumes from the one before.")
    return text


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 640)
    assert checkpoint == tmp_path / "checkpoints" / "step_000000640"
    assert read_progress(checkpoint) == {"steps": 640}
    assert (checkpoint / "rllib" / "state.pkl").read_bytes() == b"weights"


def test_checkpoints_are_ordered_by_steps(tmp_path: Path) -> None:
    for steps in (1_000_000, 64, 999_999):
        write(tmp_path, steps)
    assert names(tmp_path) == ["step_000000064", "step_000999999", "step_001000000"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / checkpoint_name(1_000_000)


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, 64)
    (tmp_path / "checkpoints" / "step_000000064" / "rllib" / "first").touch()
    checkpoint = write_checkpoint(tmp_path, 64, write_files, {"steps": 64, "note": "second"})
    assert read_progress(checkpoint)["note"] == "second"
    assert not (checkpoint / "rllib" / "first").exists()


# ---------------------------------------------------------------- interruptions


def test_a_checkpoint_that_was_interrupted_while_writing_is_never_taken(tmp_path: Path) -> None:
    def killed(folder: Path) -> None:
        write_files(folder)
        raise KeyboardInterrupt

    before = write(tmp_path, 64)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 128, killed, {"steps": 128})
    assert newest_checkpoint(tmp_path) == before
    assert read_progress(before) == {"steps": 64}


def test_an_interrupted_rewrite_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    checkpoint = write(tmp_path, 64)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 64, killed, {"steps": 64, "note": "second"})
    assert read_progress(checkpoint) == {"steps": 64}


def test_unfinished_folders_and_folders_without_a_manifest_are_ignored(tmp_path: Path) -> None:
    whole = write(tmp_path, 64)
    shutil.copytree(whole, whole.with_name("step_000000128.unfinished"))
    shutil.copytree(whole, whole.with_name("step_000000192"))
    (whole.with_name("step_000000192") / "manifest.json").unlink()
    assert checkpoints(tmp_path) == [whole]


def test_a_checkpoint_that_was_interrupted_while_it_was_removed_no_longer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, **options: object) -> None:
        if folder.suffix != ".unfinished":
            (folder / "rllib" / "state.pkl").unlink(missing_ok=True)
            raise KeyboardInterrupt

    for steps in (64, 128, 192):
        write(tmp_path, steps)
    progress = {"steps": 192, "best_checkpoint": checkpoint_name(128)}
    write_checkpoint(tmp_path, 192, write_files, progress)
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune_checkpoints(tmp_path, 2, None)
    assert names(tmp_path) == [checkpoint_name(128), checkpoint_name(192)]
    with pytest.raises(KeyboardInterrupt):
        keep_best_checkpoint(tmp_path)
    assert names(tmp_path) == [checkpoint_name(128)]
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 128)
    assert names(tmp_path) == []


def test_what_killed_processes_left_goes_with_the_next_pruning(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for steps in (64, 128, 192):
        write(tmp_path, steps)
    (folder / checkpoint_name(64) / "manifest.json").unlink()  # as a former version began to remove
    (folder / "step_000000032.removed" / "rllib").mkdir(parents=True)
    (folder / "step_000000256.unfinished").mkdir()
    for foreign in ("notes.unfinished", "step_best", "step_000000064.old"):
        (folder / foreign).mkdir()
    (tmp_path / "thesis").mkdir()
    (folder / "step_000000512.unfinished").symlink_to(tmp_path / "thesis")
    prune_checkpoints(tmp_path, 3, None)
    assert (folder / checkpoint_name(64)).is_dir()  # would be kept, had it its manifest
    prune_checkpoints(tmp_path, 2, None)
    left = {"notes.unfinished", "step_best", "step_000000064.old", checkpoint_name(128), checkpoint_name(192)}
    assert {path.name for path in folder.iterdir()} == left
    assert (tmp_path / "thesis").is_dir()


def test_a_link_in_the_place_of_a_checkpoint_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "checkpoints").mkdir()
    for name in ("step_000000064.unfinished", "step_000000064"):
        (tmp_path / "checkpoints" / name).symlink_to(tmp_path / "thesis")
    checkpoint = write(tmp_path, 64)
    assert not checkpoint.is_symlink()
    assert read_progress(checkpoint) == {"steps": 64}
    assert list((tmp_path / "thesis").iterdir()) == []


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("file", "content", "got"),
    [
        ("rllib/state.pkl", b"Weights", "got a changed file rllib/state.pkl"),
        ("rllib/state.pkl", b"", "got a changed file rllib/state.pkl"),
        ("rllib/state.pkl", None, "got no file rllib/state.pkl"),
        ("progress.json", b'{"steps": 128}', "got a changed file progress.json"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_named(
    tmp_path: Path, file: str, content: bytes | None, got: str
) -> None:
    checkpoint = write(tmp_path, 64)
    (checkpoint / file).unlink()
    if content is not None:
        (checkpoint / file).write_bytes(content)
    assert got in refusal(checkpoint)


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff\xfe\x00"])
def test_a_damaged_manifest_is_told(tmp_path: Path, damage: bytes) -> None:
    checkpoint = write(tmp_path, 64)
    (checkpoint / "manifest.json").write_bytes(damage)
    assert refusal(checkpoint).startswith("checkpoint must have a readable manifest.json, got ")


@pytest.mark.parametrize(
    ("manifest", "got"),
    [
        ("{}", "got an unlisted file policy/policy.json"),
        ("[]", "got ValueError: list instead of a mapping"),
        ('{"progress.json": 1}', "got an unlisted file policy/policy.json"),
        ("[" * 100_000, "got RecursionError: "),
    ],
)
def test_a_manifest_that_does_not_list_everything_is_none(tmp_path: Path, manifest: str, got: str) -> None:
    checkpoint = write(tmp_path, 64)
    (checkpoint / "manifest.json").write_text(manifest)
    assert got in refusal(checkpoint)


def test_a_checkpoint_without_one_of_its_parts_is_not_whole(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 64)
    shutil.rmtree(checkpoint / "rllib")
    write_json(checkpoint / "manifest.json", _digests(checkpoint))
    assert "got no rllib" in refusal(checkpoint)


def test_a_manifest_that_is_gone_makes_no_other_checkpoint_the_best(tmp_path: Path) -> None:
    for steps in (64, 128):
        write_checkpoint(tmp_path, steps, write_files, {"steps": steps, "best_checkpoint": checkpoint_name(steps)})
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert best_checkpoint(tmp_path) == newest
    (newest / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=f"readable manifest.json, got No such file or directory .{newest}"):
        best_checkpoint(tmp_path)


def test_a_file_that_is_removed_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as when a run that trains prunes the checkpoint which a back-test has begun to read
    folder = write_checkpoint(tmp_path, 64, write_files, {"steps": 64, "best_checkpoint": checkpoint_name(64)})
    read_bytes = Path.read_bytes

    def removed(path: Path) -> bytes:
        path.unlink()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", removed)
    with pytest.raises(ConfigError, match=f"must be readable, got No such file or directory .{folder}.*try again"):
        best_checkpoint(tmp_path)


def test_a_best_checkpoint_that_is_gone_is_named(tmp_path: Path) -> None:
    write(tmp_path, 64)
    write_checkpoint(tmp_path, 128, write_files, {"steps": 128, "best_checkpoint": checkpoint_name(64)})
    shutil.rmtree(tmp_path / "checkpoints" / checkpoint_name(64))
    with pytest.raises(ConfigError, match="the checkpoint that was best on validation, got no step_000000064"):
        best_checkpoint(tmp_path)
    keep_best_checkpoint(tmp_path)
    assert names(tmp_path) == [checkpoint_name(128)]  # not even the best is left: nothing is removed


# ---------------------------------------------------------------- pruning


@pytest.mark.parametrize(
    ("best", "kept"),
    [
        (None, [192, 256, 320]),
        (64, [64, 192, 256, 320]),
        (256, [192, 256, 320]),
        (320, [192, 256, 320]),
    ],
)
def test_pruning_keeps_the_last_three_and_the_best(tmp_path: Path, best: int | None, kept: list[int]) -> None:
    for steps in (64, 128, 192, 256, 320):
        write(tmp_path, steps)
    prune_checkpoints(tmp_path, 3, None if best is None else checkpoint_name(best))
    assert names(tmp_path) == [checkpoint_name(steps) for steps in kept]
    for folder in checkpoints(tmp_path):
        read_progress(folder)
