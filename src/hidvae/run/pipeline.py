"""The stages in order, each a function from folders to a folder.

``STAGES`` is the pipeline: which folder a stage writes, which folders it reads, and on which
settings it depends. ``run_pipeline`` makes what is missing or out of date and skips the rest;
``run_stage`` makes one stage from the folders that are there. What a stage does is written in its
own module.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hidvae.config import Config, load_config
from hidvae.data.prepare import prepare, raw_fingerprints
from hidvae.errors import ArtifactError, ConfigError, FingerprintMismatch
from hidvae.evaluation.evaluate_run import evaluate_run, evaluation_settings
from hidvae.features.embed import embed, embed_inputs
from hidvae.features.tags.tag import tag, tag_settings
from hidvae.log import in_stage
from hidvae.ranking.fusion import choose_fusion
from hidvae.retriever.train_retriever import train_retriever
from hidvae.store.artifacts import StageFolder, is_current, read_json, read_stage, write_json
from hidvae.tokenizer.encode import encode_catalogue, ids_file_inputs
from hidvae.tokenizer.train_tokenizer import train_tokenizer
from hidvae.training.loggers import check_loggers
from hidvae.training.runtime import alone, process_rank

logger = logging.getLogger(__name__)

CONFIG = "config.json"
_SECONDS_BETWEEN_LOOKS = 0.2
Folders = Mapping[str, StageFolder]


@dataclass(frozen=True)
class Stage:
    """One folder of a run and how it is made."""

    folder: str
    """Name of the folder under the run."""
    command: str
    """``hidvae`` command that makes it; tokenize makes two."""
    needs: tuple[str, ...]
    """Folders it reads; their fingerprints are its inputs."""
    settings: Callable[[Config], Mapping[str, Any]]
    """The settings that change its result, as its manifest keeps them."""
    is_seeded: bool
    """Whether RunConfig.seed changes its result."""
    make: Callable[[Config, Folders, Path], StageFolder]
    """Write the folder from the settings and the folders it needs."""
    is_parallel: bool = False
    """Whether the processes that torchrun started make it together; else the first one does."""


_LEARNED_FROM = ("dataset", "embeddings", "tags")

STAGES = (
    Stage(
        folder="dataset",
        command="prepare",
        needs=(),
        settings=lambda config: asdict(config.dataset),
        is_seeded=False,
        make=lambda config, folders, output: prepare(config.dataset, output),
    ),
    Stage(
        folder="embeddings",
        command="embed",
        needs=("dataset",),
        settings=lambda config: asdict(config.embedding),
        is_seeded=False,
        make=lambda config, folders, output: embed(config.embedding, folders["dataset"], output),
    ),
    Stage(
        folder="tags",
        command="tag",
        needs=("dataset", "embeddings"),
        settings=lambda config: tag_settings(config.tags, config.llm, config.embedding),
        is_seeded=False,
        make=lambda config, folders, output: tag(
            config.tags,
            config.llm,
            config.embedding,
            folders["dataset"],
            folders["embeddings"],
            output,
        ),
    ),
    Stage(
        folder="tokenizer",
        command="tokenize",
        needs=_LEARNED_FROM,
        settings=lambda config: asdict(config.tokenizer),
        is_seeded=True,
        make=lambda config, folders, output: train_tokenizer(
            config.tokenizer,
            config.run,
            folders["dataset"],
            folders["embeddings"],
            folders["tags"],
            output,
        ),
        is_parallel=True,
    ),
    Stage(
        folder="semantic_ids",
        command="tokenize",
        needs=("tokenizer", *_LEARNED_FROM),
        settings=lambda config: asdict(config.tokenizer),
        is_seeded=False,
        make=lambda config, folders, output: encode_catalogue(
            folders["tokenizer"],
            folders["dataset"],
            folders["embeddings"],
            folders["tags"],
            output,
        ),
    ),
    Stage(
        folder="retriever",
        command="train",
        needs=(*_LEARNED_FROM, "semantic_ids"),
        settings=lambda config: asdict(config.retriever),
        is_seeded=True,
        make=lambda config, folders, output: train_retriever(
            config.retriever,
            config.run,
            folders["dataset"],
            folders["embeddings"],
            folders["tags"],
            folders["semantic_ids"],
            output,
        ),
        is_parallel=True,
    ),
    Stage(
        folder="fusion",
        command="train",
        needs=(*_LEARNED_FROM, "semantic_ids", "retriever"),
        settings=lambda config: asdict(config.graph),
        is_seeded=True,
        make=lambda config, folders, output: choose_fusion(
            config.graph, config.run, folders, output
        ),
    ),
    Stage(
        folder="evaluation",
        command="evaluate",
        needs=(*_LEARNED_FROM, "tokenizer", "semantic_ids", "retriever", "fusion"),
        settings=lambda config: evaluation_settings(config.evaluation, config.sasrec),
        is_seeded=True,
        make=lambda config, folders, output: evaluate_run(
            config.evaluation, config.run, config.sasrec, folders, wall_seconds(folders), output
        ),
    ),
)
COMMANDS = tuple(dict.fromkeys(stage.command for stage in STAGES))


def run_pipeline(
    config: Config, output: Path, until: str | None = None, reuse: Sequence[Path] = ()
) -> dict[str, StageFolder]:
    """Run the stages in order, skipping those whose settings, inputs and seed are unchanged.

    Args:
        config: Settings of all stages; stored as ``config.json``.
        output: The run; its folders are made as needed.
        until: Last command to run, all by default.
        reuse: Other runs; a stage that one of them has with the same settings, inputs and seed is
            copied instead of made.

    Returns:
        The stage folders by name.

    Raises:
        ConfigError: If there is no command ``until``.
        MissingExtraError: If a logger's package is not installed.
        HidvaeError: Whatever a stage finds wrong.
    """
    if until is not None and until not in COMMANDS:
        raise ConfigError(f"until: expected one of {', '.join(COMMANDS)}; found {until!r}")
    check_loggers(config.run.loggers)
    commands = COMMANDS if until is None else COMMANDS[: COMMANDS.index(until) + 1]
    folders: dict[str, StageFolder] = {}
    for stage in STAGES:
        if stage.command in commands:
            folders[stage.folder] = _make_or_skip(stage, config, folders, output, reuse)
            if not stage.needs:  # tables that are refused leave nothing behind
                _store_config(config, output)
    return folders


def run_stage(command: str, config: Config, output: Path) -> dict[str, StageFolder]:
    """Run one command on a run whose earlier stages are there.

    Raises:
        NotTrainedError: If an earlier stage has not been run; says which to run.
        FingerprintMismatch: If an earlier stage was made from other inputs than those there now.
        HidvaeError: Whatever the stage finds wrong.
    """
    stages = [stage for stage in STAGES if stage.command == command]
    made = {stage.folder for stage in stages}
    needed = {name for stage in stages for name in stage.needs} - made
    folders = open_folders(output, needed)
    if needed:  # before a training, so that the bare command goes on with it
        _store_config(config, output)
    for stage in stages:
        folders[stage.folder] = _make_or_skip(stage, config, folders, output)
    if not needed:  # tables that are refused leave nothing behind
        _store_config(config, output)
    return folders


def open_folders(output: Path, names: set[str] | None = None) -> dict[str, StageFolder]:
    """Open stage folders of a run, checked to be whole and made from one another.

    Args:
        output: The run.
        names: Folders to open, all by default.

    Raises:
        NotTrainedError: If one is not there.
        ArtifactError: If one is damaged, or was made from other inputs than those there now.
    """
    folders: dict[str, StageFolder] = {}
    for stage in STAGES:
        if names is None or stage.folder in names:
            folders[stage.folder] = read_stage(
                output / stage.folder,
                produced_by=f"hidvae {stage.command}",
                expect={name: folders[name].fingerprint for name in stage.needs if name in folders},
            )
    return folders


def resolve_config(
    output: Path,
    data: Path | None = None,
    files: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    *,
    is_fresh: bool = False,
) -> Config:
    """Settings of a command: the run's own (or the defaults), files, ``--set``, then ``--data``.

    Args:
        output: The run, whose ``config.json`` is the base if it is there.
        data: Folder of tables; the demo as source gives way to it.
        files: gin files.
        overrides: ``name=value`` bindings.
        is_fresh: Start from the defaults even if the run has settings.

    Raises:
        ConfigError: If a setting is unknown or out of range.
    """
    stored = output / CONFIG
    base = None
    if stored.is_file() and not is_fresh:
        base = Config.from_json(read_json(stored))
    config = load_config(files, overrides, base)
    if data is None:
        return config
    source = "folder" if config.dataset.source == "demo" else config.dataset.source
    dataset = replace(config.dataset, source=source, folder=str(data))
    return replace(config, dataset=dataset)


def copy_tokenizer(source: Path, output: Path) -> None:
    """Copy a run's folders up to its semantic IDs, so that another retriever can use them.

    Raises:
        FingerprintMismatch: If ``output`` already holds other semantic IDs.
        NotTrainedError: If ``source`` has no semantic IDs yet.
    """
    folders = open_folders(source, {*_LEARNED_FROM, "tokenizer", "semantic_ids"})
    for name, folder in folders.items():
        target = output / name
        if target.exists():
            found = read_stage(target, produced_by="hidvae tokenize").fingerprint
            if found != folder.fingerprint:
                raise FingerprintMismatch(
                    f"{target} differs from {folder.path}; choose another --output or delete it"
                )
            continue
        _copy_folder(folder.path, target)
    if not (output / CONFIG).is_file() and (source / CONFIG).is_file():
        shutil.copyfile(source / CONFIG, output / CONFIG)


def wall_seconds(folders: Folders) -> dict[str, float]:
    """Wall time by command of the folders that are there."""
    seconds: dict[str, float] = {}
    for stage in STAGES:
        if stage.folder in folders:
            taken = seconds.get(stage.command, 0.0) + folders[stage.folder].wall_seconds
            seconds[stage.command] = round(taken, 3)
    return seconds


def _make_or_skip(
    stage: Stage, config: Config, folders: Folders, output: Path, reuse: Sequence[Path] = ()
) -> StageFolder:
    path = output / stage.folder
    needed = {name: folders[name] for name in stage.needs}
    with in_stage(stage.command):
        is_up_to_date = partial(
            is_current,
            config=stage.settings(config),
            inputs=_inputs(stage, config, needed),
            seed=config.run.seed if stage.is_seeded else None,
        )
        if is_up_to_date(path):
            logger.info("skipped, %s is up to date", path)
            return read_stage(path, produced_by=f"hidvae {stage.command}")
        if process_rank() > 0 and not stage.is_parallel:
            while not is_up_to_date(path):  # torchrun ends this process if the first one fails
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            return read_stage(path, produced_by=f"hidvae {stage.command}")
        for run in reuse:
            if is_up_to_date(run / stage.folder):
                _copy_folder(run / stage.folder, path)
                logger.info("copied from %s", run)
                return read_stage(path, produced_by=f"hidvae {stage.command}")
        started = time.perf_counter()
        with contextlib.nullcontext() if stage.is_parallel else alone():
            made = stage.make(config, needed, path)
        logger.info("took %.1f s, wrote %s", time.perf_counter() - started, path)
        return made


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a stage folder; the copy appears whole, in the place of an older one."""
    temporary = target.parent / f".{target.name}.writing"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ArtifactError(
            f"could not write {target}: {error.strerror or error}; free some space or choose "
            "another --output"
        ) from error


def _inputs(stage: Stage, config: Config, needed: Folders) -> dict[str, str]:
    if stage.folder == "dataset":
        return raw_fingerprints(config.dataset)
    if stage.folder == "embeddings":
        return embed_inputs(config.embedding, needed["dataset"])
    inputs = {name: folder.fingerprint for name, folder in needed.items()}
    return inputs | (ids_file_inputs(config.tokenizer) if stage.folder == "semantic_ids" else {})


def _store_config(config: Config, output: Path) -> None:
    if process_rank() > 0:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / CONFIG, config.to_json())
    except OSError as error:
        raise ArtifactError(
            f"could not write {output / CONFIG}: {error.strerror or error}; free some space or "
            "choose another --output"
        ) from error
