"""A run: the folder with all stages of one experiment or shop, read and made.

::

    run = Run.fit("items.csv", "interactions.csv", "runs/shop")
    for item in run.recommend(["item-17", "item-4"], k=10):
        print(item.title, " > ".join(item.tag_path))

``Run("runs/shop")`` opens one that is there. What a stage wrote is loaded when a property is first
read, and checked to be whole and made from the other stages as they are now. What needs torch is
imported then too, so that preparing tables does not wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hidvae.addresses import as_written, is_address
from hidvae.config import Config, DatasetConfig, load_config, size_for
from hidvae.data.given import GivenIds
from hidvae.data.notes import count_of
from hidvae.data.prepare import Dataset, load_dataset, read_source
from hidvae.data.sources.frames import tables_from
from hidvae.data.tables import SourceTables
from hidvae.errors import ArtifactError, ConfigError, FingerprintMismatch
from hidvae.features.tags.vocabulary import ItemTags, load_tags
from hidvae.log import in_stage
from hidvae.run.stages import COMMANDS, STAGE_OF, STAGES
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import (
    MANIFEST,
    Decision,
    StageFolder,
    check_stage,
    is_current,
    read_json,
    read_stage,
    scratch_stage,
    write_json,
    write_stage,
)
from hidvae.store.files import replace_folder, settled, temporary_name
from hidvae.store.hub import is_on_hub, local_folder
from hidvae.store.lock import writing
from hidvae.store.stage import Stage
from hidvae.training.processes import alone, process_rank

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hidvae.features.embeddings import ItemEmbeddings
    from hidvae.ranking.explain import Recommendation
    from hidvae.ranking.graph_score import GraphScore
    from hidvae.ranking.recommender import Recommender
    from hidvae.ranking.reranker import Reranker
    from hidvae.ranking.updates import ItemUpdates
    from hidvae.retriever.interface import Retriever
    from hidvae.tokenizer.model import HiDVAE

CONFIG = "config.json"
METRICS = "metrics.json"
_SECONDS_BETWEEN_LOOKS = 0.2

logger = logging.getLogger(__name__)
_Loaded = TypeVar("_Loaded")


class Run:
    """A run's folder; its stages as properties, each loaded once."""

    def __init__(
        self,
        path: Path | str,
        device: str = "auto",
        *,
        borrowed: Mapping[str, StageFolder] | None = None,
    ) -> None:
        """Open a run, which may be empty; nothing is read yet.

        Args:
            path: Its folder, or one on the Hugging Face Hub, ``hf://org/name`` or
                ``hf://org/name@revision``.
            device: Of the retriever, as ``RunConfig.device``.
            borrowed: Stages of another run that stand in for its own.
        """
        self.path = local_folder(path)
        self.is_from_hub = is_on_hub(path)
        """Whether somebody else may have made it, who then names its encoders."""
        self._device = device
        self._borrowed = dict(borrowed or {})
        self.tables: SourceTables | None = None
        """What ``fit`` was given, in place of what DatasetConfig names."""
        self.forget()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def forget(self) -> None:
        """Drop what was read, so that it is read anew."""
        self._folders: dict[str, StageFolder] = dict(self._borrowed)
        self._loaded: dict[str, Any] = {}

    # What the stages wrote

    def folder(self, name: str) -> StageFolder:
        """A stage's folder, whole and made from the stages as they are now.

        Args:
            name: Of a stage, such as ``dataset``.

        Raises:
            NotTrainedError: If it is not there; says what to run.
            ArtifactError: If it is damaged.
            FingerprintMismatch: If it, or one that it was made from, was made from other inputs.
        """
        if name not in self._folders:
            stage = STAGE_OF[name]
            expect = {need: self.folder(need).fingerprint for need in stage.needs if self.has(need)}
            self._folders[name] = read_stage(
                self.path / name, produced_by=stage.made_by, expect=expect
            )
        return self._folders[name]

    def folders(self, names: Sequence[str] | None = None) -> dict[str, StageFolder]:
        """Several folders by name, all by default; see ``folder``."""
        return {name: self.folder(name) for name in names or STAGE_OF}

    def stage(self, name: str) -> Stage:
        """How a stage is made."""
        return STAGE_OF[name]

    def has(self, name: str) -> bool:
        """Whether a stage's folder is there."""
        return name in self._borrowed or (settled(self.path / name) / MANIFEST).is_file()

    @property
    def dataset(self) -> Dataset:
        """Catalogue, users' events and their split."""
        return self._load("dataset", lambda: load_dataset(self.folder("dataset")))

    def source_tables(self, config: DatasetConfig) -> SourceTables:
        """The raw tables that the settings name, read once for all that a stage does with them.

        Raises:
            HidvaeError: Whatever is wrong with them.
        """
        return self._load("source_tables", lambda: read_source(config))

    @property
    def embeddings(self) -> ItemEmbeddings:
        """A vector for every item."""
        from hidvae.features.embeddings import load_embeddings

        return self._load("embeddings", lambda: load_embeddings(self.folder("embeddings")))

    @property
    def likeness(self) -> np.ndarray | None:
        """(N, d) vectors of the learned likeness; None where none was learned."""
        from hidvae.likeness.likeness_model import load_vectors

        return self._load("likeness", lambda: load_vectors(self.folder("likeness")))

    @property
    def tags(self) -> ItemTags:
        """A tag per level for every item."""
        return self._load("tags", lambda: load_tags(self.folder("tags")))

    @property
    def tokenizer(self) -> HiDVAE:
        """The trained tokenizer, on the CPU."""
        from hidvae.tokenizer.train_tokenizer import load_tokenizer

        return self._load(
            "tokenizer", lambda: load_tokenizer(self.folder("tokenizer"), self.folder("tags"))
        )

    @property
    def semantic_ids(self) -> SemanticIds:
        """A semantic ID for every item."""
        return self._load("semantic_ids", lambda: SemanticIds.load(self.folder("semantic_ids")))

    @property
    def retriever(self) -> Retriever:
        """The trained retriever, on the run's device."""
        from hidvae.retriever.build import load_retriever

        def load() -> Retriever:
            retriever = load_retriever(
                self.folder("retriever"),
                self.semantic_ids,
                self.embeddings.matrix,
                self.dataset.warm_items,
            )
            return retriever.to(self.device).eval()

        return self._load("retriever", load)

    @property
    def graph(self) -> GraphScore | None:
        """What the item graph adds at decoding; None where the generator does better alone."""
        from hidvae.ranking.graph_weight import load_graph_score

        def load() -> GraphScore | None:
            graph = load_graph_score(self.folder("graph"), self.dataset, self.likeness)
            return graph if graph is None else graph.to(self.device)

        return self._load("graph", load)

    @property
    def reranker(self) -> Reranker | None:
        """What puts the best items of a search in order; None where it does not pay."""
        from hidvae.ranking.reranker import load_reranker

        def load() -> Reranker | None:
            items = self.embeddings
            reranker = load_reranker(
                self.folder("reranker"), self.likeness, items.content, items.tfidf
            )
            return reranker if reranker is None else reranker.to(self.device)

        return self._load("reranker", load)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What ``hidvae evaluate`` measured, as in ``metrics.json``."""
        return self._load("evaluation", lambda: read_json(self.folder("evaluation").path / METRICS))

    @property
    def device(self) -> torch.device:
        """Where the retriever is."""
        from hidvae.training.runtime import device_of

        return device_of(self._device)

    def _load(self, name: str, load: Callable[[], _Loaded]) -> _Loaded:
        if name not in self._loaded:
            self._loaded[name] = load()
        loaded: _Loaded = self._loaded[name]
        return loaded

    # Recommending

    @property
    def recommender(self) -> Recommender:
        """Ranks the catalogue as it is now: with the items added and without those removed."""
        from hidvae.ranking.item_changes import read_changes
        from hidvae.ranking.recommender import Recommender

        def load() -> Recommender:
            updates = self._updates
            return Recommender.of_run(
                updates, read_changes(self.path, updates.items, updates.inputs)
            )

        return self._load("recommender", load)

    @property
    def as_trained(self) -> Recommender:
        """Ranks the catalogue that the run was trained with, whatever was changed since."""
        from hidvae.ranking.item_changes import ItemChanges
        from hidvae.ranking.recommender import Recommender

        return Recommender.of_run(self._updates, ItemChanges.none(self._updates.items))

    @property
    def changes_fingerprint(self) -> str:
        """Of the items added, changed and removed since the training; the same for the same ones.

        Raises:
            ArtifactError: If their folder is damaged.
        """
        from hidvae.ranking.item_changes import changes_fingerprint

        return changes_fingerprint(self.path)

    def recommend(self, history: GivenIds, k: int = 10, **options: Any) -> list[Recommendation]:
        """The k most probable next items after a history; see ``Recommender.recommend``."""
        return self.recommender.recommend(history, k, **options)

    @property
    def _updates(self) -> ItemUpdates:
        from hidvae.ranking.updates import ItemUpdates

        return self._load("updates", lambda: ItemUpdates(self))

    # Making

    @classmethod
    def fit(
        cls,
        items: Any,
        interactions: Any,
        path: Path | str,
        *,
        settings: Sequence[str] = (),
        config: Config | None = None,
    ) -> Run:
        """Make all stages from two tables, skipping what is up to date.

        Args:
            items: ``item_id`` and what is known of each item; a Polars or pandas frame, an Arrow
                table, a dict of columns, a list of rows, or a file.
            interactions: ``user_id``, ``item_id`` and ``timestamp``; likewise.
            path: The run's folder.
            settings: ``NAME=VALUE``, such as ``RetrieverConfig.epochs=6``.
            config: All other settings, the defaults by default.

        Raises:
            HidvaeError: Whatever a table, a setting or a stage has wrong.
        """
        resolved = load_config((), settings, config)
        run = cls(path, resolved.run.device)
        run.tables = tables_from(items, interactions, resolved.dataset, name=run.path.name)
        run.make(resolved)
        return run

    def make(
        self,
        config: Config,
        *,
        until: str | None = None,
        only: str | None = None,
        reuse: Sequence[Path | str] = (),
    ) -> dict[str, StageFolder]:
        """Run the stages in order, skipping those whose settings, inputs and seed are unchanged.

        Args:
            config: Settings of all stages; stored as ``config.json``.
            until: Last command to run, all by default.
            only: The one command to run; the stages before it must be there.
            reuse: Folders of other runs; a stage that one of them has with the same settings,
                inputs and seed is copied instead of made.

        Returns: The folders of these stages, by name.

        Raises:
            ConfigError: If there is no such command.
            MissingExtraError: If a logger's package is not installed.
            ArtifactError: If another process writes this run.
            NotTrainedError: If an earlier stage of ``only`` has not been run; says which to run.
            FingerprintMismatch: If it was made from other inputs than those there now.
            HidvaeError: Whatever a stage finds wrong.
        """
        for name, command in (("until", until), ("only", only)):
            if command is not None and command not in COMMANDS:
                raise ConfigError(
                    f"{name}: expected one of {', '.join(COMMANDS)}; found {command!r}"
                )
        if set(config.run.loggers) - {"csv"}:
            from hidvae.training.loggers import check_loggers

            check_loggers(config.run.loggers)
        last = COMMANDS.index(until or only or COMMANDS[-1])
        commands = (only,) if only else COMMANDS[: last + 1]
        stages = [stage for stage in STAGES if stage.command in commands]
        self.forget()
        self._device = config.run.device
        is_first = process_rank() == 0
        with writing(self.path) if is_first else contextlib.nullcontext():
            made = {stage.name for stage in stages}
            earlier = {need for stage in stages for need in stage.needs} - made
            for name in STAGE_OF:
                if name in earlier:
                    self.folder(name)
            is_stored = False
            for stage in stages:
                if is_first and stage.needs and not is_stored:
                    # Before a training, so that the bare command goes on with it; after the
                    # tables, so that those that are refused leave nothing behind.
                    self._store(config)
                    is_stored = True
                fitted = self.fitted(config) if stage.needs else config
                self.make_stage(stage, fitted, reuse)
                self._loaded.clear()  # a stage's memory is not the next one's
            if is_first and not is_stored:
                self._store(config)
        return {stage.name: self._folders[stage.name] for stage in stages}

    def make_stage(
        self, stage: Stage, config: Config, reuse: Sequence[Path | str] = ()
    ) -> StageFolder:
        """Make one stage, unless it is there with the same settings, inputs and seed.

        For ``make`` and for baselines, whose stages are not among ``STAGES``.

        Raises:
            HidvaeError: Whatever the stage finds wrong.
        """
        path = self.path / stage.name
        with in_stage(stage.command):
            inputs = {need: self.folder(need).fingerprint for need in stage.needs}
            inputs |= stage.inputs(self, config)
            settings = stage.settings(config)
            seed = config.run.seed if stage.is_seeded else None

            def is_up_to_date(run: Path) -> bool:
                return is_current(run / stage.name, config=settings, inputs=inputs, seed=seed)

            is_first = process_rank() == 0
            if is_up_to_date(self.path):
                logger.info("skipped, %s is up to date", path)
            elif source := next((run for run in map(Path, reuse) if is_up_to_date(run)), None):
                if is_first:
                    _copy_folder(source / stage.name, path)
                    logger.info("copied from %s", source)
            elif is_first or stage.is_parallel:
                started = time.perf_counter()
                writer = (
                    write_stage(path, stage=stage.name, config=settings, inputs=inputs, seed=seed)
                    if is_first
                    else scratch_stage(path, config=settings, inputs=inputs)
                )
                with _training() if stage.is_parallel else alone(), writer as written:
                    stage.fit(self, config, written)
                for decision in written.decisions if is_first else ():
                    logger.info("%s", decision.said)
                if stage.is_parallel:
                    from hidvae.training.parallel import wait_for_all

                    wait_for_all()
                logger.info("took %.1f s, wrote %s", time.perf_counter() - started, path)
            while not is_first and not is_up_to_date(self.path):
                time.sleep(_SECONDS_BETWEEN_LOOKS)  # torchrun ends this process if it never is
            self._loaded.pop(stage.name, None)
            self._folders[stage.name] = read_stage(path, produced_by=stage.made_by)
            return self._folders[stage.name]

    def child(self, name: str, borrowed: Sequence[str]) -> Run:
        """A run below this one, as a trained baseline is, which takes some of its stages."""
        folders = {stage: self.folder(stage) for stage in borrowed}
        return Run(self.path / name, self._device, borrowed=folders)

    def take_tokenizer(self, source: Run) -> None:
        """Copy another run's stages up to its semantic IDs, to train another retriever on them.

        Raises:
            FingerprintMismatch: If this run already holds other semantic IDs.
            NotTrainedError: If ``source`` has no semantic IDs yet.
        """
        with writing(self.path):
            for name in _BEFORE_TRAINING:
                folder = source.folder(name)
                target = self.path / name
                if not target.exists():
                    _copy_folder(folder.path, target)
                elif read_stage(target, produced_by="hidvae tokenize").fingerprint != (
                    folder.fingerprint
                ):
                    raise FingerprintMismatch(
                        f"{target} differs from {folder.path}; choose another --output or delete it"
                    )
            if not (self.path / CONFIG).is_file() and (source.path / CONFIG).is_file():
                shutil.copyfile(source.path / CONFIG, self.path / CONFIG)
        self.forget()

    @property
    def decisions(self) -> list[Decision]:
        """What the run and the stages that are there chose for the user, in order."""
        folders = [self.folder(name) for name in STAGE_OF if self.has(name)]
        of_stages = [decision for folder in folders for decision in folder.decisions]
        return [*self._size_decision(self.config), *of_stages]

    def check(self) -> Iterator[StageFolder]:
        """Every folder of the run, one after the other, each file compared with its hash.

        Raises:
            NotTrainedError: If nothing has been made.
            ArtifactError: If a file differs from what was written, or a stage from its inputs.
        """
        if not any(map(self.has, STAGE_OF)):
            self.folder("dataset")  # says what to run
        for name in STAGE_OF:
            if self.has(name):
                yield check_stage(self.folder(name).path, STAGE_OF[name].made_by)
        for top, command in _FURTHER.items():
            for manifest in sorted((self.path / top).glob(f"**/{MANIFEST}")):
                if not any(part.startswith(".") for part in manifest.relative_to(self.path).parts):
                    yield check_stage(manifest.parent, f"hidvae {command}")

    # Settings

    @property
    def config(self) -> Config:
        """The settings that the run was last made with; the defaults before that.

        Raises:
            ConfigError: If another version wrote settings that this one does not know.
        """
        stored = self.path / CONFIG
        return Config.from_json(read_json(stored)) if stored.is_file() else Config()

    def resolve(
        self,
        data: Path | str | None = None,
        files: Path | str | Sequence[Path | str] = (),
        overrides: Sequence[str] = (),
        *,
        is_fresh: bool = False,
    ) -> Config:
        """Settings of a command: the run's own, then files, then ``--set``, then ``--data``.

        Args:
            data: Folder of tables, or address of a database; the demo as source gives way to it.
            files: A gin file, or several.
            overrides: ``name=value`` bindings.
            is_fresh: Start from the defaults even if the run has settings.

        Raises:
            ConfigError: If a setting is unknown or out of range.
        """
        config = load_config(files, overrides, Config() if is_fresh else self.config)
        if data is None:
            return config
        source = "folder" if config.dataset.source == "demo" else config.dataset.source
        folder = as_written(data)
        folder = folder if is_address(folder) else str(Path(folder))
        dataset = replace(config.dataset, source=source, folder=folder)
        return replace(config, dataset=dataset)

    def fitted(self, config: Config) -> Config:
        """Settings with the defaults that follow from the size of the run's dataset."""
        return config.for_catalogue(*self._size()) if self.has("dataset") else config

    def _size(self) -> tuple[int, int]:
        facts = self.folder("dataset").facts
        return int(facts["num_items"]), int(facts["num_events"])

    def _size_decision(self, config: Config) -> list[Decision]:
        """Which size "auto" took; it is no stage's, as every stage has settings of it."""
        if config.run.size != "auto" or not self.has("dataset"):
            return []
        num_items, num_events = self._size()
        size = size_for(num_items, num_events)
        other = "base" if size == "small" else "small"
        found = f"{count_of(num_items, 'item')} and {count_of(num_events, 'event')}"
        return [Decision(f"{found}: settings of size {size}", f"RunConfig.size={other}")]

    def wall_seconds(self, names: Iterable[str]) -> dict[str, float]:
        """Wall time of stages that are there, by command."""
        seconds: dict[str, float] = {}
        for name in names:
            command = STAGE_OF[name].command
            taken = seconds.get(command, 0.0) + self.folder(name).wall_seconds
            seconds[command] = round(taken, 3)
        return seconds

    def _store(self, config: Config) -> None:
        try:
            write_json(self.path / CONFIG, config.to_json())
        except OSError as error:
            raise ArtifactError(
                f"could not write {self.path / CONFIG}: {error.strerror or error}; free some space "
                "or choose another --output"
            ) from error


def _training() -> contextlib.AbstractContextManager[None]:
    from hidvae.training.runtime import flags_restored

    return flags_restored()


_BEFORE_TRAINING = tuple(STAGE_OF)[: tuple(STAGE_OF).index("retriever")]
_FURTHER = {"item_changes": "add-items", "baselines": "evaluate"}
"""Folders of a run that are not among its stages, and the command to advise; whatever else lies
there, such as the folder of an older version, is not the run's."""


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a stage folder; the copy appears whole, in the place of an older one."""
    temporary = temporary_name(target)
    try:
        shutil.copytree(source, temporary)
        replace_folder(temporary, target)
    except OSError as error:
        raise ArtifactError(
            f"could not write {target}: {error.strerror or error}; free some space or choose "
            "another --output"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
