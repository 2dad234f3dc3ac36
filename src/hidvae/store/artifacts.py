"""Stage folders: written whole or not at all, and read only when they match.

A stage writes ``<run>/<name>/`` with a ``manifest.json`` beside ``*.parquet``, ``*.safetensors``
and ``*.json``. The folder is built under a temporary name and renamed when it is complete, so a
killed run leaves either the old stage or the new one. Loading an artifact never runs code.
``check_stage`` compares every file with the hash in the manifest; ``read_stage`` the small ones.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from hidvae.errors import (
    ArtifactError,
    DataError,
    FingerprintMismatch,
    HidvaeError,
    NotTrainedError,
)
from hidvae.store.files import atomic_write, replace_folder, settled, temporary_name

FORMAT_VERSION = 2
"""Of the folders of a run; those of other versions are refused with the command to make them."""
MANIFEST = "manifest.json"
_MANIFEST_KEYS = {"stage", "fingerprint", "inputs", "config", "seed", "facts", "metrics", "files"}
_SMALL_FILE = 1 << 20
"""Bytes of a file up to which reading a stage checks its hash: a few milliseconds."""
_RECORDED_PACKAGES = ("hidvae", "torch", "numpy", "polars", "safetensors", "sentence-transformers")


class Decision(NamedTuple):
    """Something that was chosen for the user: said on the screen, in the report and the manifest.

    Such as "shop.csv: no categories, so items are grouped into clusters".
    """

    text: str
    """What was found and what is done about it."""
    change: str = ""
    """The setting that changes it; empty if none does."""

    @property
    def said(self) -> str:
        """Both in one line."""
        return f"{self.text} ({self.change})" if self.change else self.text


@dataclass
class StageWriter:
    """A stage folder under construction; fill ``path``, ``facts`` and ``metrics``."""

    path: Path
    """Where to write; another name until the folder is whole."""
    output: Path
    """The folder that it becomes."""
    settings: Mapping[str, Any]
    """As the manifest keeps them."""
    inputs: Mapping[str, str]
    """Fingerprint of each input, by name."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the next stages must know (numbers of levels, of items, …); JSON values."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What was measured; JSON values."""
    decisions: list[Decision] = field(default_factory=list)
    """What was chosen for the user."""
    seconds_before: float = 0.0
    """Wall time of earlier attempts that this one resumed."""

    @property
    def checkpoint(self) -> Path:
        """The folder beside it in which a training keeps its checkpoint; gone once it is whole."""
        return self.output.parent / f".{self.output.name}.checkpoint"

    def decide(self, text: str, change: str = "") -> None:
        """Say what was chosen for the user; see ``Decision``."""
        self.decisions.append(Decision(text, change))


@dataclass(frozen=True)
class StageFolder:
    """A whole stage folder on disk."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of the folder's files; logs (``*.csv``) aside."""
        return cast(str, self.manifest["fingerprint"])

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the stage wrote down for the next ones."""
        return cast(Mapping[str, Any], self.manifest["facts"])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the stage measured."""
        return cast(Mapping[str, Any], self.manifest["metrics"])

    @property
    def decisions(self) -> list[Decision]:
        """What the stage chose for the user."""
        return [Decision(**decision) for decision in self.manifest.get("decisions", ())]

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved settings the stage ran with."""
        return cast(Mapping[str, Any], self.manifest["config"])

    @property
    def wall_seconds(self) -> float:
        """Wall time the stage took."""
        return cast(float, self.manifest["wall_seconds"])


@contextlib.contextmanager
def write_stage(
    path: Path,
    *,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    seed: int | None = None,
) -> Iterator[StageWriter]:
    """Build a stage folder; it appears under ``path`` only if the block ends without an error.

    Args:
        path: Final folder; an older one of that name is replaced.
        stage: Name of the stage, kept in the manifest.
        config: Resolved settings, JSON values.
        inputs: Fingerprint of each input, by stage name (or by file for raw data).
        seed: Seed of the stage, where it has one.

    Raises:
        ArtifactError: If the disk is full or the folder cannot be written; nothing is left behind.
    """
    started = time.perf_counter()
    is_first = not path.parent.exists()
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        settled(path)
        temporary.mkdir()
        writer = StageWriter(temporary, path, config, inputs)
        yield writer
        files = describe_files(temporary)
        manifest = {
            "format_version": FORMAT_VERSION,
            "stage": stage,
            "fingerprint": fingerprint_of(files),
            "inputs": dict(inputs),
            "config": dict(config),
            "seed": seed,
            "facts": writer.facts,
            "metrics": writer.metrics,
            "decisions": [decision._asdict() for decision in writer.decisions],
            "files": files,
            "wall_seconds": round(writer.seconds_before + time.perf_counter() - started, 3),
            "versions": library_versions(),
            "machine": describe_machine(),
            "git_commit": git_commit(),
        }
        write_json(temporary / MANIFEST, manifest)
        replace_folder(temporary, path)
        shutil.rmtree(writer.checkpoint, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_first:
            with contextlib.suppress(OSError):  # not there, or no longer empty
                path.parent.rmdir()
        if isinstance(error, HidvaeError) or not (isinstance(error, OSError) or _is_full(error)):
            raise
        reason = os.strerror(errno.ENOSPC) if _is_full(error) else " ".join(str(error).split())
        raise ArtifactError(
            f"could not write {path}: {reason}; free some space or choose another --output, then "
            "run the same command again (no stage was left half-written)"
        ) from error


@contextlib.contextmanager
def scratch_stage(
    path: Path, *, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> Iterator[StageWriter]:
    """``write_stage`` of a process that takes part in a training but writes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        yield StageWriter(Path(folder), path, config, inputs)


def read_stage(
    path: Path, *, produced_by: str, expect: Mapping[str, str] | None = None
) -> StageFolder:
    """Open a stage folder and check that it is whole and made from the expected inputs.

    Args:
        path: The stage folder.
        produced_by: Command that makes it, for the error's advice (``hidvae embed``).
        expect: Fingerprints its inputs must have, by name.

    Raises:
        NotTrainedError: If the folder is not there.
        ArtifactError: If a file is missing or truncated, or the format version differs.
        FingerprintMismatch: If it was made from other inputs.
    """
    settled(path)
    if not (path / MANIFEST).is_file():
        raise NotTrainedError(f"{path} has no {MANIFEST}: run `{produced_by}` first")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        found = manifest.get("format_version") if isinstance(manifest, dict) else manifest
        raise ArtifactError(
            f"{path / MANIFEST}: expected format version {FORMAT_VERSION}, found {found}; another "
            f"version of hidvae made it; `hidvae run --output {path.parent}` with its --data or "
            "--config makes the run anew"
        )
    if missing := _MANIFEST_KEYS - manifest.keys():
        raise ArtifactError(
            f"{path / MANIFEST}: expected the keys {', '.join(sorted(missing))}, found no such "
            f"keys; the artifact is damaged, delete {path} and run `{produced_by}` again"
        )
    for name in manifest["files"]:
        _check_file(path, name, manifest, produced_by, largest=_SMALL_FILE)
    for name, fingerprint in (expect or {}).items():
        found = manifest["inputs"].get(name)
        if found != fingerprint:
            raise FingerprintMismatch(
                f"{path} was made from {name} {_short(found)}, this one is {_short(fingerprint)}; "
                f"run `{produced_by}` again or pass the matching folder"
            )
    return StageFolder(path, manifest)


def check_stage(path: Path, produced_by: str) -> StageFolder:
    """``read_stage``, with the hash of every file compared, however large.

    Raises:
        NotTrainedError, ArtifactError: As ``read_stage``.
    """
    stage = read_stage(path, produced_by=produced_by)
    for name in stage.manifest["files"]:
        _check_file(path, name, stage.manifest, produced_by)
    # A copy without the log keeps the fingerprint that the other stages were made from.
    expected = stage.manifest.get("fingerprint_of_copy", stage.fingerprint)
    if fingerprint_of(stage.manifest["files"]) != expected:
        raise ArtifactError(
            f"{path / MANIFEST}: expected the fingerprint of its files; found a different one; the "
            f"artifact is damaged, delete {path} and run `{produced_by}` again"
        )
    return stage


def _check_file(
    path: Path, name: str, manifest: Mapping[str, Any], produced_by: str, largest: int | None = None
) -> None:
    """Compare a file with its manifest: its size, and its hash if it is not larger than that."""
    described, file = manifest["files"][name], path / name
    size = file.stat().st_size if file.is_file() else -1
    found = None
    if size != described["bytes"]:
        found = "no such file" if size < 0 else f"{size} bytes"
    elif (largest is None or size <= largest) and fingerprint_file(file) != described["sha256"]:
        found = "others of the same number"
    if found is not None:
        raise ArtifactError(
            f"{file}: expected {described['bytes']} bytes as they were written; found {found}; the "
            f"artifact is damaged, delete {path} and run `{produced_by}` again"
        )


def is_current(
    path: Path, *, config: Mapping[str, Any], inputs: Mapping[str, str], seed: int | None
) -> bool:
    """Whether a whole stage folder with these settings, inputs and seed is already there."""
    try:
        stage = read_stage(path, produced_by="hidvae run", expect=inputs)
    except (ArtifactError, NotTrainedError):
        return False
    same_config = stage.config == json.loads(json.dumps(config))
    return (
        same_config
        and stage.manifest["seed"] == seed
        and set(stage.manifest["inputs"]) == set(inputs)
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        ArtifactError: If it is missing or not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file; run the stage that writes it again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path}: not valid JSON ({error}); delete it and run the stage again"
        ) from error


def fingerprint_file(path: Path) -> str:
    """SHA-256 of a file's contents, read in blocks.

    Raises:
        DataError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    found = {name: _version(name) for name in _RECORDED_PACKAGES}
    known = {name: version for name, version in found.items() if version is not None}
    return {"python": platform.python_version(), **known}


@functools.cache
def _version(package: str) -> str | None:
    """Its version, which a run of all stages asks for ten times; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_machine() -> str:
    """Processor, cores, NVIDIA GPUs and system in one line."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    parts = [processor, f"{os.cpu_count()} cores"]
    for gpu in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        parts += re.findall(r"^Model:\s*(.+?)\s*$", gpu.read_text(encoding="utf-8"), re.MULTILINE)
    return ", ".join([*parts, f"{platform.system()} {platform.machine()}"])


@functools.cache
def git_commit() -> str | None:
    """Commit of the package's checkout, with ``+changes`` if it is modified; None outside git.

    As it was when first asked: a process runs the code that it has loaded.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    here = Path(__file__).resolve().parent
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=here, capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()


def _is_full(error: BaseException) -> bool:
    """Whether the disk is full; safetensors and Polars say so in errors of their own types."""
    return os.strerror(errno.ENOSPC).lower() in str(error).lower()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of every file below a folder, for a manifest."""
    return {
        str(file.relative_to(folder)): {
            "bytes": file.stat().st_size,
            "sha256": fingerprint_file(file),
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def fingerprint_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over the names and contents of described files; logs (``*.csv``) aside."""
    # Logs hold wall times: with them, the same training would never give the same fingerprint.
    content = [
        (name, described["sha256"])
        for name, described in sorted(files.items())
        if not name.endswith(".csv")
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _short(fingerprint: str | None) -> str:
    return "nothing" if fingerprint is None else f"{fingerprint[:8]}…"
