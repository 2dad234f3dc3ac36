"""Files and folders that take the place of older ones: whole or not at all, whoever looks on."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hidvae.store import files
from hidvae.store.files import atomic_write, replace_folder, settled, temporary_name


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "text").write_text(text, encoding="utf-8")
    return path


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "odd [1] name*.txt"
    file.write_text("old", encoding="utf-8")
    with atomic_write(file) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert file.read_text(encoding="utf-8") == "old"
    assert file.read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == [file.name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert file.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["text"]


def test_file_and_folder_are_on_the_disk_before_the_new_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (done.append("sync"), fsync(handle)))
    monkeypatch.setattr(files.os, "replace", lambda *p: (done.append("rename"), replace(*p)))
    with atomic_write(tmp_path / "text") as temporary:
        temporary.write_text("new", encoding="utf-8")
    assert done == ["sync", "rename", "sync"]
    done.clear()
    replace_folder(folder(tmp_path / "new", "new"), folder(tmp_path / "stage", "old"))
    # the file and the folder, both renames, the parent
    assert done == ["sync", "sync", "rename", "rename", "sync"]


def test_a_file_system_that_syncs_no_folders_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with atomic_write(tmp_path / "text") as temporary:
        temporary.write_text("new", encoding="utf-8")
    replace_folder(folder(tmp_path / "new", "new"), folder(tmp_path / "stage", "old"))
    assert sorted(os.listdir(tmp_path)) == ["stage", "text"]


def test_what_a_killed_writer_left_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from hidvae.store.files import temporary_name\n"
        "path = temporary_name(Path(sys.argv[1])); path.mkdir(); (path / 'half').touch()\n"
        "print(path, flush=True); sys.stdin.read(1)"
    )
    stage = tmp_path / "stage"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(stage)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    temporary_name(stage)
    assert (left / "half").exists()
    process.kill()
    process.communicate()
    temporary_name(stage)
    assert not left.exists()


def test_a_reader_in_the_middle_of_a_swap_costs_nobody_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames a reader puts the old folder back; the new one still wins."""
    stage, new = folder(tmp_path / "stage", "old"), folder(tmp_path / "new", "new")
    monkeypatch.setattr(files, "_SWAP_SECONDS", 0.0)
    replace, interfered = os.replace, []

    def slow(source: Path, target: Path) -> None:
        if Path(source) == new and not interfered:
            interfered.append(True)
            monkeypatch.setattr(files.os, "replace", replace)
            settled(stage)
            monkeypatch.setattr(files.os, "replace", slow)
            assert (stage / "text").read_text(encoding="utf-8") == "old"
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", slow)
    replace_folder(new, stage)
    assert interfered
    assert (stage / "text").read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == ["stage"]


def test_readers_wait_for_a_swap_that_is_under_way(tmp_path: Path) -> None:
    os.replace(folder(tmp_path / "stage", "old"), tmp_path / ".stage.old")
    new = folder(tmp_path / "new", "new")
    timer = threading.Timer(0.3, lambda: os.replace(new, tmp_path / "stage"))
    timer.start()
    settled(tmp_path / "stage")
    timer.join()
    assert (tmp_path / "stage" / "text").read_text(encoding="utf-8") == "new"


def _replace_often(stage: Path, name: str) -> None:
    for number in range(20):
        temporary = temporary_name(stage)
        folder(temporary, f"{name} {number}")
        replace_folder(temporary, stage)


def test_readers_beside_a_writer_always_find_a_whole_folder(tmp_path: Path) -> None:
    stage = folder(tmp_path / "stage", "first")
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_replace_often, args=(stage, "writer"))
    writer.start()
    while writer.is_alive():
        assert settled(stage).exists() or (tmp_path / ".stage.old").exists()
    writer.join()
    assert writer.exitcode == 0
    assert (stage / "text").read_text(encoding="utf-8") == "writer 19"


def test_what_cannot_be_removed_of_an_older_folder_does_not_stop_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system keeps files that a reader has open."""
    stage = folder(tmp_path / "stage", "first")
    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", lambda *args, **options: None)
        replace_folder(folder(tmp_path / "second", "second"), stage)
        assert (tmp_path / ".stage.old" / "text").exists()
        replace_folder(folder(tmp_path / "third", "third"), stage)
    assert (stage / "text").read_text(encoding="utf-8") == "third"
