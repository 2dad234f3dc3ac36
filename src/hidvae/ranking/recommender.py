"""Load a run and recommend: the two calls most users need.

::

    recommender = Recommender.load("runs/demo")
    for found in recommender.recommend(["item-17", "item-4"], k=10):
        print(found.title, found.prob, " > ".join(found.tag_path))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hidvae.data.catalogue import Catalogue
from hidvae.data.given import GivenIds, given_id, given_ids, given_lists, whole_number
from hidvae.data.interactions import Sequences
from hidvae.data.prepare import Dataset
from hidvae.errors import ConfigError, DataError
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.ranking.explain import Explainer, Recommendation
from hidvae.ranking.filters import Filters, ItemTagIndex, chosen, pool_for
from hidvae.ranking.graph_score import GraphScore
from hidvae.ranking.item_changes import ItemChanges, write_changes
from hidvae.ranking.ranker import Ranked
from hidvae.ranking.reasons import Reasons
from hidvae.ranking.reranker import NUM_CANDIDATES, Reranker
from hidvae.ranking.search import BEAM_WIDTH, Found, search
from hidvae.ranking.updates import ItemUpdates
from hidvae.retriever.interface import Retriever
from hidvae.semantic_ids.table import SemanticIds


class Recommender:
    """A trained run, ready to rank the catalogue for a history; a ``Ranker`` too."""

    name = "hidvae"

    def __init__(
        self,
        catalogue: Catalogue,
        ids: SemanticIds,
        tags: TagVocabulary,
        retriever: Retriever,
        max_history: int,
        beam_width: int = BEAM_WIDTH,
        graph: GraphScore | None = None,
        reranker: Reranker | None = None,
        tag_ids: np.ndarray | None = None,
        is_removed: np.ndarray | None = None,
        reasons: Reasons | None = None,
    ) -> None:
        """Put a trained model and its catalogue together; ``load`` does it for a run's folder.

        Args:
            catalogue: N items.
            ids: Their semantic IDs.
            tags: What the tags are called.
            retriever: Over these IDs.
            max_history: Most items that it reads.
            beam_width: Of a search, unless a call says otherwise.
            graph: What the item graph adds, if it does.
            reranker: Puts the best items in order, if one was learned.
            tag_ids: (N, L) tags of the catalogue, -1 where unknown; those of the IDs by default.
            is_removed: (N,), items that are never recommended; none by default.
            reasons: What says which history items moved an item up; by default it knows neither
                content nor words, and takes all that the graph adds for co-occurrence.
        """
        self.catalogue = catalogue
        self.semantic_ids = ids
        self.tags = tags
        self.retriever = retriever
        self.max_history = max_history
        self.beam_width = beam_width
        self.graph, self.reranker = graph, reranker
        self.item_tags = ItemTagIndex(
            tags, np.full_like(ids.tag_ids, -1) if tag_ids is None else tag_ids, ids.tag_ids
        )
        self._explainer = Explainer(catalogue, ids, tags, reasons or Reasons(graph))
        self.allowed = np.ones(catalogue.num_items, dtype=bool)
        """(N,) whether an item may be recommended; removed ones may not."""
        if is_removed is not None:
            self.allowed = ~is_removed
        self._updates: ItemUpdates | None = None
        self._changes: ItemChanges | None = None
        self._version_on_disk = 0

    def __repr__(self) -> str:
        return (
            f"Recommender({self.catalogue.num_items} items, {self.semantic_ids.num_levels} codes "
            f"per ID, {type(self.retriever).__name__})"
        )

    @classmethod
    def load(cls, run: Path | str, device: str = "auto") -> Recommender:
        """``Run(run, device).recommender``.

        Args:
            run: Folder that ``hidvae run`` or ``hidvae export --with-run`` wrote, or such a folder
                on the Hugging Face Hub, ``hf://org/name`` or ``hf://org/name@revision``.
            device: As ``RunConfig.device``.

        Raises:
            NotTrainedError: If a stage has not been run.
            ArtifactError: If a stage is damaged, or was made from other inputs than those there.
        """
        from hidvae.run.run import Run  # which stands above, as it recommends too

        return Run(run, device).recommender

    @classmethod
    def of_run(
        cls, updates: ItemUpdates, changes: ItemChanges, before: GraphScore | None = None
    ) -> Recommender:
        """Of a run as it was trained, and what was changed since; see ``ItemUpdates.serving``."""
        items, retriever, graph, reranker = updates.serving(changes, before)
        recommender = cls(
            items.catalogue,
            items.ids,
            updates.tags.vocabulary,
            retriever,
            updates.config.max_history,
            graph=graph,
            reranker=reranker,
            tag_ids=items.tag_ids,
            is_removed=items.is_removed,
            reasons=Reasons(graph, updates.content(items), items.tfidf),
        )
        recommender._updates, recommender._changes = updates, changes
        recommender._version_on_disk = changes.version
        return recommender

    @property
    def dataset(self) -> Dataset:
        """What the run was trained with; items that were added since are not in it.

        Raises:
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, _ = self._changeable
        return updates.dataset

    @property
    def content(self) -> np.ndarray:
        """(N, width) what the items are like, whoever bought them; see ``ItemEmbeddings.content``.

        Raises:
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, changes = self._changeable
        return updates.content(updates.items.changed(changes))

    @property
    def version(self) -> int:
        """How many times items were added, updated or removed since the training."""
        return self._changes.version if self._changes else 0

    def add_items(self, items: Any) -> Recommender:
        """A recommender that knows further items; this one goes on as it was.

        Each gets its vector, its tags and a semantic ID that no other item has; nothing is trained.

        Args:
            items: ``item_id`` and columns of the catalogue, at least one of its text columns; a
                list of rows (or one), a dict of columns, a Polars or pandas frame, an Arrow table.

        Raises:
            DataError: If an item is in the catalogue already, or a row breaks its contract.
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, changes = self._changeable
        return self._changed(updates.encoded(changes, items, is_new=True))

    def update_items(self, items: Any) -> Recommender:
        """A recommender that knows items of the catalogue by other rows; see ``add_items``.

        A row replaces the old one as a whole. What was learned of the item's transitions stays.

        Raises:
            DataError: If an item is not in the catalogue, or a row breaks its contract.
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, changes = self._changeable
        return self._changed(updates.encoded(changes, items, is_new=False))

    def remove_items(self, item_ids: GivenIds) -> Recommender:
        """A recommender that never recommends these items; histories may still hold them.

        Raises:
            DataError: If an item is not in the catalogue, or all would be gone.
            ConfigError: If this recommender was not loaded from a run.
        """
        _, changes = self._changeable
        removed = given_ids(item_ids, "items to remove", in_order=False)
        self.catalogue.index_of(removed)
        changes = changes.without(removed)
        if len(changes.removed) == self.catalogue.num_items:
            raise DataError("expected at least one item to remain; found all of them removed")
        return self._changed(changes)

    def save_changes(self) -> int:
        """Write the changed items beside the run, where ``load`` takes them up; the version.

        The folder ``item_changes`` is replaced as a whole, or not at all.

        Raises:
            ArtifactError: If somebody else has written changes since this run was loaded.
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, changes = self._changeable
        if changes.version != self._version_on_disk:
            write_changes(changes, updates.run.path, updates.inputs, self._version_on_disk)
            self._version_on_disk = changes.version
        return changes.version

    @property
    def _changeable(self) -> tuple[ItemUpdates, ItemChanges]:
        if self._updates is None or self._changes is None:
            raise ConfigError(
                "expected a recommender loaded from a run, which has the tokenizer; found one "
                "built from parts; use Recommender.load"
            )
        return self._updates, self._changes

    def _changed(self, changes: ItemChanges) -> Recommender:
        updates, _ = self._changeable
        other = Recommender.of_run(updates, changes, self.graph)
        other.beam_width, other._version_on_disk = self.beam_width, self._version_on_disk
        return other

    def recommend(
        self,
        history: GivenIds,
        k: int = 10,
        *,
        exclude_history: bool = True,
        filters: Filters | None = None,
        beam_width: int | None = None,
        deadline: float | None = None,
    ) -> list[Recommendation]:
        """The k most probable next items after a history, best first.

        Args:
            history: Item ids, oldest first, at least one: text or whole numbers in a list, a NumPy
                array, a pandas or Polars Series, an Arrow array, or a frame's column ``item_id``.
                What is missing (None, NaN) is left out.
            k: Length of the list, a whole number, at least 1; shorter only if fewer items are
                allowed.
            exclude_history: Leave the history's own items out.
            filters: What else the list must keep to. Probabilities stay those of the whole
                catalogue.
            beam_width: Beams of the search, at least k; wider is closer to exact. ``item_softmax``
                is exact without beams.
            deadline: Of ``time.monotonic()``, at which the work ends.

        Raises:
            DataError: If the history is empty, or an item or a tag path is unknown.
            ConfigError: If k, beam_width or a filter is out of range.
            SearchTimeout: If the deadline has passed.
        """
        (found,) = self.recommend_many(
            [history],
            k,
            exclude_history=exclude_history,
            filters=filters,
            beam_width=beam_width,
            deadline=deadline,
        )
        return found

    def recommend_many(
        self,
        histories: Any,
        k: int = 10,
        *,
        exclude_history: bool = True,
        filters: Filters | None = None,
        beam_width: int | None = None,
        deadline: float | None = None,
    ) -> list[list[Recommendation]]:
        """``recommend`` for several histories at once, which is quicker than one by one.

        A list does not depend on the others, but for rounding. ``histories`` is a list, array or
        column with a history in each place; the other arguments and the errors are those of
        ``recommend``.
        """
        k, beam_width = check_widths(k, beam_width)
        listed = given_lists(histories, "histories")
        read = Sequences.from_lists(
            self._history_items(history, f"history {place}" if len(listed) > 1 else "history")
            for place, history in enumerate(listed, 1)
        )
        filters = filters or Filters()
        limit = self.item_tags.limit(filters)
        size, limit_of_pool = pool_for(k, filters, limit)
        found = self._search(
            read,
            size,
            allowed=self.item_tags.allowed(filters, self.catalogue.index_of(filters.without)),
            exclude_history=exclude_history,
            limit=limit_of_pool,
            beam_width=beam_width,
            deadline=deadline,
            with_code_log_probs=True,
        )
        places = chosen(found.items, found.scores, k, filters, self.item_tags.tag_ids, limit)
        return [
            self._explained(found, user, of_user, read[user]) for user, of_user in enumerate(places)
        ]

    def best(
        self, histories: Sequences, k: int, *, exclude_history: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of U histories of item_index, as ``recommend`` ranks them.

        Returns: Items (U, k) and scores (U, k), best first, -1 and minus infinity where a list is
            shorter because the items run out.

        Raises:
            DataError: If a history is empty.
        """
        found = self._search(histories, k, exclude_history=exclude_history)
        return found.items, found.scores

    def explain(
        self, history: GivenIds, item_id: str | int, *, deadline: float | None = None
    ) -> Recommendation:
        """Reasons and probability of one item after a history, whatever its rank.

        Raises:
            DataError: If the history is empty or an item is unknown.
            SearchTimeout: If the deadline has passed.
        """
        read = Sequences.from_lists([self._history_items(history)])
        item = self.catalogue.index_of([given_id(item_id, "item_id")])
        is_it = np.zeros(self.catalogue.num_items, dtype=bool)
        is_it[item] = True
        found = search(
            self.retriever,
            read,
            1,
            max_history=self.max_history,
            allowed=is_it,
            beam_width=1,
            deadline=deadline,
            with_code_log_probs=True,
        )
        if self.graph is not None:
            device = self.retriever.tables.codes.device
            added = self.graph(
                torch.from_numpy(read.padded(int(read.lengths[0]))).to(device),
                torch.from_numpy(self.allowed).to(device)[None],
            )
            gained = added.values[added.items == int(item[0])].sum()
            gains = np.full_like(found.scores, float(gained))
            found = found._replace(scores=found.scores + gains, gains=gains)
        if self.reranker is not None:
            ranked = self._search(read, NUM_CANDIDATES + len(read[0]), deadline=deadline)
            is_found = ranked.items == item
            if is_found.any():  # the score of the place that it is put in
                found = found._replace(scores=ranked.scores[is_found][None])
        return self._explained(found, 0, [0], read[0])[0]

    def rank(
        self,
        histories: Sequences,
        k: int,
        users: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranked:
        """See ``Ranker.rank``; a history must have at least one item.

        Raises:
            DataError: If a history is empty.
        """
        found = self._search(histories, k, allowed=allowed, besides=histories, users=users)
        return Ranked(found.items, found.scores)

    def _search(
        self,
        histories: Sequences,
        k: int,
        *,
        allowed: np.ndarray | None = None,
        exclude_history: bool = False,
        beam_width: int | None = None,
        **options: Any,
    ) -> Found:
        """``search`` among the items that were not removed."""
        allowed = self.allowed if allowed is None else allowed & self.allowed
        return search(
            self.retriever,
            histories,
            k,
            max_history=self.max_history,
            allowed=None if allowed.all() else allowed,
            denied=histories if exclude_history else None,
            graph=self.graph,
            reranker=self.reranker,
            beam_width=self.beam_width if beam_width is None else beam_width,
            **options,
        )

    def _explained(
        self, found: Found, user: int, places: list[int], history: np.ndarray
    ) -> list[Recommendation]:
        assert found.code_log_probs is not None
        items, log_probs = found.items[user, places], found.log_probs[user, places]
        gains, influences = None, None
        if self.reranker is not None:
            gains = found.gains[user, places]
            influences = self.reranker.influences(history, items, log_probs)
        return self._explainer.explain(
            items,
            history,
            log_probs,
            found.scores[user, places],
            found.code_log_probs[user, places],
            gains,
            influences,
        )

    def _history_items(self, history: GivenIds, name: str = "history") -> np.ndarray:
        item_ids = given_ids(history, name)
        if not item_ids:
            name = "the history" if name == "history" else name
            raise DataError(f"{name} is empty; name at least one item of the catalogue")
        return self.catalogue.index_of(item_ids)


def check_widths(k: int, beam_width: int | None = None) -> tuple[int, int | None]:
    """Both as Python's whole numbers; refuses lists without items, and fewer beams than items.

    Raises:
        ConfigError: If one is no whole number, k is below 1, or the beams are fewer than k.
    """
    k = whole_number(k, "k")
    beam_width = None if beam_width is None else whole_number(beam_width, "beam_width")
    if k < 1:
        raise ConfigError(f"k: expected at least 1; found {k}")
    if beam_width is not None and beam_width < k:
        raise ConfigError(f"beam_width: expected at least k = {k}; found {beam_width}")
    return k, beam_width
