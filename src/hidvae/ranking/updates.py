"""Adds, changes and removes items of a trained run, without training."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from polars import selectors
from scipy import sparse

from hidvae.config import RetrieverConfig, build_section
from hidvae.data.catalogue import Catalogue
from hidvae.data.given import frame_of
from hidvae.data.notes import Notes
from hidvae.data.prepare import Dataset
from hidvae.data.schema import Columns, check_items
from hidvae.data.tables import LINE, reading
from hidvae.errors import DataError
from hidvae.features.item_graph import ItemGraph
from hidvae.features.new_items import VECTOR, ItemFeatures, NewItemEncoder
from hidvae.likeness.likeness_model import ItemLikeness
from hidvae.ranking.changed_neighbours import changed_neighbours, scores_to_beat
from hidvae.ranking.extend import over_catalogue
from hidvae.ranking.graph_score import NUM_NEIGHBOURS, GraphScore
from hidvae.ranking.graph_weight import build_graph
from hidvae.ranking.item_changes import ItemChanges, RunItems
from hidvae.ranking.reranker import Reranker
from hidvae.retriever.build import scaled_content
from hidvae.retriever.interface import Retriever

if TYPE_CHECKING:
    from hidvae.run.run import Run

_ROWS = "items"
"""What a caller's rows are called in messages."""


class Serving(NamedTuple):
    """What recommending needs, in one state of the catalogue."""

    items: RunItems
    retriever: Retriever
    graph: GraphScore | None
    reranker: Reranker | None


class ItemUpdates:
    """A run as it was trained, and what becomes of it with changes.

    The encoder of the texts and the tokenizer are loaded when the first item is added.
    """

    def __init__(self, run: Run) -> None:
        """Open a run."""
        self.run = run
        self.dataset: Dataset = run.dataset
        self.tags = run.tags
        self._embeddings = run.embeddings
        num_items = self.dataset.catalogue.num_items
        self.items = RunItems(
            self.dataset.catalogue,
            self._embeddings.matrix,
            self._embeddings.tfidf,
            self.tags.ids,
            run.semantic_ids,
            self.dataset.warm_items,
            np.zeros(num_items, dtype=bool),
        )
        self.config = build_section(RetrieverConfig, run.folder("retriever").config)
        self._as_trained = Serving(self.items, run.retriever, run.graph, run.reranker)

    @property
    def inputs(self) -> dict[str, str]:
        """Fingerprints of the folders that changes are made with."""
        names = ("dataset", "embeddings", "tags", "semantic_ids")
        return {name: self.run.folder(name).fingerprint for name in names}

    def serving(self, changes: ItemChanges, before: GraphScore | None = None) -> Serving:
        """The run with changes; what does not change is shared.

        Args:
            changes: All of them.
            before: The graph score before the last of them, to which only that one is added; None
                compares all changed items with the catalogue.
        """
        if changes.version == 0:
            return self._as_trained
        items = self.items.changed(changes)
        changed = items.catalogue.index_of(changes.items.catalogue.item_ids)
        retriever = over_catalogue(
            self._as_trained.retriever,
            items.ids,
            items.is_known,
            scaled_content(self.config, changes.items.vectors, self.items.vectors),
            changed,
        )
        likeness = self._changed_likeness(items, changes)
        graph = self._changed_graph_score(items, changes, before, likeness)
        reranker = self._as_trained.reranker
        if reranker is not None:
            features = reranker.features.over(likeness, self.content(items), items.tfidf)
            reranker = Reranker(reranker.network, features)
        return Serving(items, retriever, graph, reranker)

    def content(self, items: RunItems) -> np.ndarray:
        """See ``ItemEmbeddings.content``."""
        return replace(self._embeddings, matrix=items.vectors, tfidf=items.tfidf).content

    def encoded(
        self,
        changes: ItemChanges,
        rows: Any,
        *,
        is_new: bool,
    ) -> ItemChanges:
        """The changes with further items, or with the same items anew.

        Args:
            changes: So far.
            rows: Items with ``item_id`` and columns of the catalogue; see ``given.frame_of``.
            is_new: Whether none of them may be in the catalogue yet, or all must be.

        Raises:
            DataError: If a row breaks the contract of the catalogue, or is there already (or not).
            NotTrainedError: If the run's semantic IDs come from a file, so that nothing makes more.
        """
        from hidvae.tokenizer.encode import ids_of_new_items  # with all that training needs

        tokenizer = self.run.tokenizer
        now = self.items.changed(changes)
        catalogue = self._checked(rows)
        self._check_presence(catalogue, now, is_new)
        features = self._encoder.encode(catalogue)
        index = now.rows_of(catalogue.item_ids)
        is_old = index < now.catalogue.num_items
        self._keep_cooccurrence(features, now, index, is_old)
        others = np.ones(now.catalogue.num_items, dtype=bool)
        others[index[is_old]] = False
        ids = ids_of_new_items(
            tokenizer,
            self.run.folder("tokenizer"),
            catalogue.item_ids,
            features.vectors,
            now.take(np.flatnonzero(others)).ids,
        )
        frame = catalogue.frame.select(
            name for name in self.items.catalogue.frame.columns if name in catalogue.frame.columns
        )
        nobody = np.zeros(len(index), dtype=bool)
        return changes.with_items(
            RunItems(Catalogue(frame), *features, ids, is_known=nobody, is_removed=nobody)
        )

    def _checked(self, rows: Any) -> Catalogue:
        """Rows as a catalogue of the run's columns and types."""
        is_row = isinstance(rows, Mapping) and isinstance(rows.get(Columns.ITEM), (str, int, float))
        with reading(_ROWS):
            frame = frame_of([rows] if is_row else rows, _ROWS, [Columns.ITEM]).collect()
        if frame.is_empty():
            raise DataError(f"{_ROWS}: expected at least one item; found none")
        frame = frame.with_columns(selectors.float().fill_nan(None))
        schema = dict(self.items.catalogue.frame.schema)
        unknown = [name for name in frame.columns if name not in (*schema, VECTOR, LINE)]
        if unknown:
            close = difflib.get_close_matches(unknown[0], schema, n=1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            raise DataError(
                f"{_ROWS}: expected the catalogue's columns {', '.join(schema)}; found "
                f"{unknown[0]!r}{advice}"
            )
        checked = check_items(frame, _ROWS, Notes(strict=True))
        typed = []
        for name, dtype in schema.items():
            if name not in checked.columns:
                typed.append(pl.Series(name, [None] * checked.height, dtype=dtype))
                continue
            try:
                typed.append(checked[name].cast(dtype))
            except pl.exceptions.PolarsError as error:
                raise DataError(
                    f"{_ROWS}, column {name}: expected {dtype}, as in the catalogue; found "
                    f"{checked[name].dtype} that cannot be converted, such as "
                    f"{checked[name].drop_nulls().to_list()[:1]}"
                ) from error
        own = [checked[VECTOR]] if VECTOR in checked.columns and VECTOR not in schema else []
        return Catalogue(pl.DataFrame([*typed, *own]))

    def _check_presence(self, catalogue: Catalogue, now: RunItems, is_new: bool) -> None:
        positions = now.catalogue.positions
        for item_id in catalogue.item_ids:
            is_there = item_id in positions and not now.is_removed[positions[item_id]]
            if is_new and is_there:
                raise DataError(
                    f"{_ROWS}: expected items that the catalogue does not have; found "
                    f"{item_id!r}, which it has already; update it instead"
                )
            if not is_new and not is_there:
                raise DataError(
                    f"{_ROWS}: expected items of the catalogue; found {item_id!r}, which it does "
                    f"not have{now.catalogue.nearest(item_id)}"
                )

    def _keep_cooccurrence(
        self, features: ItemFeatures, now: RunItems, index: np.ndarray, is_old: np.ndarray
    ) -> None:
        """An item that has transitions keeps what was learned of them."""
        start, end = self._embeddings.parts.get("cooccurrence", (0, 0))
        features.vectors[is_old, start:end] = now.vectors[index[is_old], start:end]

    def _changed_graph_score(
        self,
        items: RunItems,
        changes: ItemChanges,
        before: GraphScore | None,
        likeness: npt.NDArray[np.float32] | None,
    ) -> GraphScore | None:
        trained = self._as_trained.graph
        if trained is None:
            return None
        num_items = items.catalogue.num_items
        if trained.weight == 0:  # likeness alone
            nobody = sparse.csr_array((num_items, num_items), dtype=np.float32)
            return trained.over(nobody, items.is_known, likeness)
        content, tfidf = self.content(items), items.tfidf
        graph = self._graph.over(
            num_items,
            content if content.shape[1] else None,
            tfidf if tfidf.shape[1] else None,
        )
        ever = changes.items.catalogue.item_ids
        latest = ever if before is None else changes.latest
        neighbours = changed_neighbours(
            (trained if before is None else before).neighbours,
            graph,
            items.catalogue.index_of(latest),
            items.catalogue.index_of(sorted({*ever} - {*latest})),
            items.is_removed,
            scores_to_beat(trained.neighbours, NUM_NEIGHBOURS),
            NUM_NEIGHBOURS,
        )
        return trained.over(neighbours, items.is_known, likeness)

    def _changed_likeness(
        self, items: RunItems, changes: ItemChanges
    ) -> npt.NDArray[np.float32] | None:
        """The vectors of the learned likeness, with those of the added and changed items."""
        _, _, graph, reranker = self._as_trained
        trained = self.run.likeness
        counts = reranker is not None or (graph is not None and graph.likeness is not None)
        if trained is None or not counts:
            return None
        learned = self._likeness
        assert learned is not None
        vectors = np.zeros((items.catalogue.num_items, trained.shape[1]), np.float32)
        vectors[: len(trained)] = trained
        changed = items.catalogue.index_of(changes.items.catalogue.item_ids)
        of_changed = items.take(changed)
        vectors[changed] = learned.vectors(self.content(of_changed), of_changed.tfidf)
        return vectors

    @cached_property
    def _likeness(self) -> ItemLikeness | None:
        return ItemLikeness.load(self.run.folder("likeness"))

    @cached_property
    def _graph(self) -> ItemGraph:
        return build_graph(self.dataset, self._embeddings)

    @cached_property
    def _encoder(self) -> NewItemEncoder:
        folder = self.run.folder("embeddings")
        images = self.run.folder("dataset").facts.get("folder")
        return NewItemEncoder(
            self.items.catalogue,
            folder,
            self._embeddings,
            self.tags.vocabulary,
            Path(images) if images else None,
            is_from_hub=self.run.is_from_hub,
        )
