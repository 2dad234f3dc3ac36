"""Stage folders: whole or not at all, and refused when damaged or mismatched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hidvae.errors import ArtifactError, DataError, FingerprintMismatch, NotTrainedError
from hidvae.store import artifacts, files
from hidvae.store.artifacts import (
    StageFolder,
    check_stage,
    fingerprint_file,
    is_current,
    read_json,
    read_stage,
    write_json,
    write_stage,
)

INPUTS = {"dataset": "a" * 64}
SETTINGS = {"epochs": 3, "dims": (4, 2)}


def write(path: Path, text: str = "content", **changes: Any) -> StageFolder:
    arguments: dict[str, Any] = {
        "stage": "tokenize",
        "config": SETTINGS,
        "inputs": INPUTS,
        "seed": 1,
    }
    with write_stage(path, **(arguments | changes)) as writer:
        (writer.path / "table.txt").write_text(text, encoding="utf-8")
        writer.facts["num_levels"] = 3
        writer.metrics["loss"] = 0.5
    return read_stage(path, produced_by="hidvae tokenize")


def content(path: Path) -> str:
    read_stage(path, produced_by="hidvae tokenize")
    return (path / "table.txt").read_text(encoding="utf-8")


def assert_nothing_half_written(path: Path) -> None:
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_reading_gives_what_was_written(tmp_path: Path) -> None:
    stage = write(tmp_path / "tokenizer")
    assert stage.facts == {"num_levels": 3}
    assert stage.metrics == {"loss": 0.5}
    assert stage.config == {"epochs": 3, "dims": [4, 2]}
    assert stage.manifest["inputs"] == INPUTS
    assert stage.manifest["stage"] == "tokenize"
    assert stage.wall_seconds >= 0
    assert {"python", "torch", "hidvae"} <= set(stage.manifest["versions"])
    assert_nothing_half_written(stage.path)


def test_fingerprint_depends_on_content_only(tmp_path: Path) -> None:
    first = write(tmp_path / "first")
    again = write(tmp_path / "second", seed=2, config={"epochs": 9})
    other = write(tmp_path / "third", "other content")
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_logs_are_checked_but_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    first = write(tmp_path / "first")
    with write_stage(tmp_path / "second", stage="s", config={}, inputs={}) as writer:
        (writer.path / "table.txt").write_text("content", encoding="utf-8")
        (writer.path / "log.csv").write_text("seconds\n1.5\n", encoding="utf-8")
    second = read_stage(tmp_path / "second", produced_by="hidvae tokenize")
    assert second.fingerprint == first.fingerprint
    (second.path / "log.csv").unlink()
    with pytest.raises(ArtifactError, match=r"log.csv"):
        read_stage(second.path, produced_by="hidvae tokenize")


def test_wall_time_of_resumed_attempts_is_added(tmp_path: Path) -> None:
    with write_stage(tmp_path / "tokenizer", stage="s", config={}, inputs={}) as writer:
        writer.seconds_before = 100.0
    assert read_stage(tmp_path / "tokenizer", produced_by="hidvae tokenize").wall_seconds >= 100


def test_error_inside_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer"
    write(path, "old")
    with (
        pytest.raises(KeyboardInterrupt),
        write_stage(path, stage="tokenize", config={}, inputs={}) as writer,
    ):
        (writer.path / "table.txt").write_text("new", encoding="utf-8")
        raise KeyboardInterrupt
    assert content(path) == "old"
    assert_nothing_half_written(path)


def test_error_inside_the_first_attempt_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer"
    with pytest.raises(ZeroDivisionError), write_stage(path, stage="s", config={}, inputs={}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kill_at", [0, 1])
def test_kill_at_either_rename_leaves_one_whole_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    path = tmp_path / "tokenizer"
    write(path, "old")
    renames = 0
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        nonlocal renames
        if Path(source).is_dir():
            if renames == kill_at:
                raise SystemExit("killed")
            renames += 1
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        # A real kill runs no clean-up either:
        patch.setattr(files.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(SystemExit):
            write(path, "new")
    assert content(path) == "old"
    monkeypatch.setattr(files, "_is_abandoned", lambda left: True)  # its process is gone
    write(path, "new")
    assert content(path) == "new"
    assert_nothing_half_written(path)


def test_full_disk_is_one_line_and_leaves_the_old_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer"
    write(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(
            ArtifactError, match="No space left on device.*free some space"
        ) as error:
            write(path, "new")
    assert "\n" not in str(error.value)
    assert content(path) == "old"
    assert_nothing_half_written(path)


def test_full_disk_that_a_library_reports_in_its_own_way_is_one_line_too(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer"
    write(path, "old")
    with (
        pytest.raises(ArtifactError, match=r"No space left on device.*free some space"),
        write_stage(path, stage="tokenize", config={}, inputs={}),
    ):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os 28)")
    assert content(path) == "old"
    assert_nothing_half_written(path)


def test_interrupted_json_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "value.json"
    write_json(file, {"seed": 1})
    with pytest.raises(TypeError):
        write_json(file, {"seed": object()})
    assert read_json(file) == {"seed": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_output_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ArtifactError, match="could not write"):
        write(tmp_path / "file" / "tokenizer")


def test_missing_stage_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotTrainedError, match="run `hidvae tokenize` first"):
        read_stage(tmp_path / "tokenizer", produced_by="hidvae tokenize")


@pytest.mark.parametrize("damage", ["truncate", "delete", "change"])
def test_truncated_missing_or_changed_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "tokenizer").path
    if damage == "truncate":
        (path / "table.txt").write_text("cont", encoding="utf-8")
    elif damage == "change":
        (path / "table.txt").write_text("CONTENT", encoding="utf-8")
    else:
        (path / "table.txt").unlink()
    with pytest.raises(ArtifactError, match=r"table.txt: expected 7 bytes .*; found .*damaged"):
        read_stage(path, produced_by="hidvae tokenize")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"text"', '{"format_version": 99}', "\x00\x01", '{"format_version": 2}']
)
def test_garbage_manifest_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "tokenizer").path
    (path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest.json") as error:
        read_stage(path, produced_by="hidvae tokenize")
    assert "\n" not in str(error.value)
    assert not is_current(path, config=SETTINGS, inputs=INPUTS, seed=1)


def test_other_format_version_names_both(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer").path
    manifest = read_json(path / "manifest.json") | {"format_version": 99}
    write_json(path / "manifest.json", manifest)
    with pytest.raises(ArtifactError, match="expected format version 2, found 99"):
        read_stage(path, produced_by="hidvae tokenize")


def test_other_input_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer").path
    assert read_stage(path, produced_by="hidvae tokenize", expect=INPUTS).facts
    with pytest.raises(FingerprintMismatch, match=r"aaaaaaaa….*bbbbbbbb….*hidvae tokenize"):
        read_stage(path, produced_by="hidvae tokenize", expect={"dataset": "b" * 64})
    with pytest.raises(FingerprintMismatch, match="nothing"):
        read_stage(path, produced_by="hidvae tokenize", expect={"tags": "b" * 64})


def test_current_means_same_settings_inputs_and_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer").path
    same: dict[str, Any] = {"config": SETTINGS, "inputs": INPUTS, "seed": 1}
    assert is_current(path, **same)
    for change in (
        {"config": {"epochs": 4, "dims": (4, 2)}},
        {"inputs": {"dataset": "b" * 64}},
        {"inputs": {}},
        {"inputs": {**INPUTS, "tags": "c" * 64}},
        {"seed": 2},
    ):
        assert not is_current(path, **(same | change)), change
    assert not is_current(tmp_path / "absent", **same)


def test_file_fingerprint_is_its_sha256(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.write_bytes(b"")
    # SHA-256 of nothing
    assert fingerprint_file(file).startswith("e3b0c44298fc1c149afbf4c8996fb924")
    with pytest.raises(DataError, match="cannot be read"):
        fingerprint_file(tmp_path / "absent")


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer").path
    json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    with pytest.raises(ArtifactError, match="no such file"):
        read_json(path / "absent.json")


def test_a_refused_first_stage_leaves_no_empty_run(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError),
        write_stage(tmp_path / "run" / "a", stage="a", config={}, inputs={}),
    ):
        raise DataError("broken")
    assert not (tmp_path / "run").exists()


def test_a_changed_large_file_is_found_by_a_full_check_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_SMALL_FILE", 3)
    path = write(tmp_path / "tokenizer").path
    assert check_stage(path, "hidvae tokenize").facts == {"num_levels": 3}
    (path / "table.txt").write_text("CONTENT", encoding="utf-8")
    read_stage(path, produced_by="hidvae tokenize")
    with pytest.raises(ArtifactError, match=r"table.txt: .*damaged, delete .*hidvae tokenize"):
        check_stage(path, "hidvae tokenize")


def test_a_changed_fingerprint_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer").path
    write_json(path / "manifest.json", read_json(path / "manifest.json") | {"fingerprint": "f"})
    with pytest.raises(ArtifactError, match=r"expected the fingerprint of its files"):
        check_stage(path, "hidvae tokenize")
