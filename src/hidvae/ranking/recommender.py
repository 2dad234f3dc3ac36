"""Load a run and recommend: the two calls most users need.

::

    recommender = Recommender.load("runs/demo")
    for found in recommender.recommend(["item-17", "item-4"], k=10):
        print(found.title, found.prob, " > ".join(found.tag_path))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from hidvae.data.catalogue import Catalogue
from hidvae.data.interactions import Sequences
from hidvae.data.prepare import Dataset
from hidvae.errors import ConfigError, DataError
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.ranking.beam_search import beam_search
from hidvae.ranking.explain import Explainer, Recommendation
from hidvae.ranking.filters import POOL, ItemTagIndex, Orders, choose, diversified
from hidvae.ranking.graph_score import GraphPrior
from hidvae.ranking.item_changes import ItemChanges, write_changes
from hidvae.ranking.lists import Ranking
from hidvae.ranking.ranker import GenerativeRanker
from hidvae.ranking.updates import ItemUpdates
from hidvae.retriever.interface import Retriever
from hidvae.semantic_ids.table import SemanticIds

DEFAULT_BEAM_WIDTH = 50


class _Found(NamedTuple):
    """``Generated``, off the device."""

    items: np.ndarray
    scores: np.ndarray
    log_probs: np.ndarray
    code_log_probs: np.ndarray


class Recommender:
    """A trained run, ready to rank the catalogue for a history; an ``evaluation.Ranker`` too."""

    name = "hidvae"

    def __init__(
        self,
        catalogue: Catalogue,
        ids: SemanticIds,
        tags: TagVocabulary,
        retriever: Retriever,
        max_history: int,
        beam_width: int = DEFAULT_BEAM_WIDTH,
        prior: GraphPrior | None = None,
        tag_ids: np.ndarray | None = None,
        is_removed: np.ndarray | None = None,
    ) -> None:
        """Put a trained model and its catalogue together; ``load`` does it for a run's folder.

        Args:
            catalogue: N items.
            ids: Their semantic IDs.
            tags: What the tags are called.
            retriever: Over these IDs.
            max_history: Most items that it reads.
            beam_width: Of a search, unless a call says otherwise.
            prior: What the item graph adds, if it does.
            tag_ids: (N, L) tags of the catalogue, -1 where unknown; those of the IDs by default.
            is_removed: (N,), items that are never recommended; none by default.
        """
        self.catalogue = catalogue
        self.semantic_ids = ids
        self.tags = tags
        self.retriever = retriever
        self.max_history = max_history
        self.beam_width = beam_width
        self.prior = prior
        self.item_tags = ItemTagIndex(
            tags, np.full_like(ids.tag_ids, -1) if tag_ids is None else tag_ids, ids.tag_ids
        )
        self._explainer = Explainer(catalogue, ids, tags)
        self._is_offered: np.ndarray | None = None
        if is_removed is not None and is_removed.any():
            self._is_offered = ~is_removed
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
    def of_run(cls, updates: ItemUpdates, changes: ItemChanges) -> Recommender:
        """Of a run as it was trained, and what was changed since."""
        items, retriever, prior = updates.serving(changes)
        recommender = cls(
            items.catalogue,
            items.ids,
            updates.tags.vocabulary,
            retriever,
            updates.config.max_history,
            prior=prior,
            tag_ids=items.tag_ids,
            is_removed=items.is_removed,
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
    def is_offered(self) -> np.ndarray:
        """(N,) whether an item may be recommended; removed ones may not."""
        if self._is_offered is None:
            return np.ones(self.catalogue.num_items, dtype=bool)
        return self._is_offered

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

    def add_items(self, items: Sequence[Mapping[str, Any]] | pl.DataFrame) -> Recommender:
        """A recommender that knows further items; this one goes on as it was.

        Each gets its vector, its tags and a semantic ID that no other item has; nothing is trained.

        Args:
            items: ``item_id`` and columns of the catalogue, at least one of its text columns.

        Raises:
            DataError: If an item is in the catalogue already, or a row breaks its contract.
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, changes = self._changeable
        return self._changed(updates.encoded(changes, items, is_new=True))

    def update_items(self, items: Sequence[Mapping[str, Any]] | pl.DataFrame) -> Recommender:
        """A recommender that knows items of the catalogue by other rows; see ``add_items``.

        A row replaces the old one as a whole. What was learned of the item's transitions stays.

        Raises:
            DataError: If an item is not in the catalogue, or a row breaks its contract.
            ConfigError: If this recommender was not loaded from a run.
        """
        updates, changes = self._changeable
        return self._changed(updates.encoded(changes, items, is_new=False))

    def remove_items(self, item_ids: Sequence[str]) -> Recommender:
        """A recommender that never recommends these items; histories may still hold them.

        Raises:
            DataError: If an item is not in the catalogue, or all would be gone.
            ConfigError: If this recommender was not loaded from a run.
        """
        _, changes = self._changeable
        self.catalogue.index_of(list(item_ids))
        changes = changes.without(item_ids)
        if len(changes.removed) == self.catalogue.num_items:
            raise DataError("expected at least one item to be left; found that all are removed")
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
                "expected a recommender of a run's folder, which has the tokenizer; found one made "
                "of parts; use Recommender.load"
            )
        return self._updates, self._changes

    def _changed(self, changes: ItemChanges) -> Recommender:
        updates, _ = self._changeable
        other = Recommender.of_run(updates, changes)
        other.beam_width, other._version_on_disk = self.beam_width, self._version_on_disk
        return other

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude_history: bool = True,
        orders: Orders | None = None,
        beam_width: int | None = None,
    ) -> list[Recommendation]:
        """The k most probable next items after a history, best first.

        Args:
            history: Item ids, oldest first, at least one.
            k: Length of the list, at least 1; shorter only where fewer items may be recommended.
            exclude_history: Leave the history's own items out.
            orders: What else the list must keep to. Probabilities stay those of the whole
                catalogue.
            beam_width: Beams of the search, at least k; wider is closer to exact. Doubled until
                k items that may be recommended are found, if there are that many.

        Raises:
            DataError: If the history is empty, or an item or a tag path is unknown.
            ConfigError: If k, beam_width or an order is out of range.
        """
        (found,) = self.recommend_many(
            [history], k, exclude_history=exclude_history, orders=orders, beam_width=beam_width
        )
        return found

    def recommend_many(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_history: bool = True,
        orders: Orders | None = None,
        beam_width: int | None = None,
    ) -> list[list[Recommendation]]:
        """``recommend`` for several histories at once, which is quicker than one by one.

        A list does not depend on the others, but for rounding. The arguments and errors are those
        of ``recommend``; all histories are searched in one batch.
        """
        items = [self._history_items(history) for history in histories]
        width = self._checked_width(k, beam_width)
        orders = orders or Orders()
        if orders.diversity:
            width = max(width, POOL * k)
        allowed = self.item_tags.is_allowed(orders, self.catalogue.index_of(orders.without))
        if self._is_offered is not None:
            allowed &= self._is_offered
        reachable = None if allowed.all() else self.retriever.tables.reachable(allowed)
        candidates = None if reachable is None else allowed
        tags = self.item_tags.tags_at(orders.tag_level) if orders.most_per_tag else None
        denied = [set(each.tolist()) if exclude_history else set() for each in items]
        num_allowed = int(allowed.sum())
        lists: list[list[Recommendation]] = [[] for _ in items]
        pending = list(range(len(items)))
        while pending:
            # How many may be left after the history's own items; a list is chosen from these.
            pool = k if tags is None and not orders.diversity else width
            found = self._search(
                [items[user] for user in pending],
                width,
                pool + max(len(denied[user]) for user in pending),
                reachable,
                candidates,
            )
            short = []
            for row, user in enumerate(pending):
                ranks = self._choose(found, row, k, denied[user], pool, orders, tags)
                # W beams always find W items that may be entered (or all), so that many are sure
                # to hold k outside the history. How many a limit per tag needs is not known before.
                enough = num_allowed if tags is not None else k + len(denied[user])
                if len(ranks) < k and width < min(enough, num_allowed):
                    short.append(user)
                else:
                    lists[user] = [self._explained(found, row, rank, items[user]) for rank in ranks]
            pending = short
            width *= 2
        return lists

    def explain(self, history: Sequence[str], item_id: str) -> Recommendation:
        """Reasons and probability of one item after a history, whatever its rank.

        Raises:
            DataError: If the history is empty or an item is unknown.
        """
        items = self._history_items(history)
        item = int(self.catalogue.index_of([item_id])[0])
        is_allowed = np.zeros(self.catalogue.num_items, dtype=bool)
        is_allowed[item] = True
        reachable = self.retriever.tables.reachable(is_allowed)
        found = self._search([items], 1, 1, reachable)
        return self._explained(found, 0, 0, items)

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        candidates: np.ndarray | None = None,
    ) -> Ranking:
        """See ``evaluation.Ranker.rank``; a history must have at least one item."""
        return self._ranker.rank(histories, top_k, user_index, self._offered(candidates))

    def best(
        self, histories: Sequences, k: int, *, exclude_history: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores (U, k) of many histories at once; see ``GenerativeRanker.best``."""
        return self._ranker.best(
            histories, k, exclude_history=exclude_history, candidates=self._offered(None)
        )

    def _offered(self, candidates: np.ndarray | None) -> np.ndarray | None:
        """(N,) the candidates that are not removed; None means all."""
        if candidates is None or self._is_offered is None:
            return self._is_offered if candidates is None else candidates
        return candidates & self._is_offered

    @property
    def _ranker(self) -> GenerativeRanker:
        return GenerativeRanker(self.retriever, self.beam_width, self.max_history, prior=self.prior)

    def _search(
        self,
        histories: Sequence[np.ndarray],
        width: int,
        num_results: int,
        reachable: Sequence[torch.Tensor] | None,
        candidates: np.ndarray | None = None,
    ) -> _Found:
        """Search the next items of B histories (item_index); ``beam_search`` says the rest."""
        device = self.retriever.tables.codes.device
        sequences = Sequences.from_lists(histories)
        longest = min(self.max_history, int(sequences.lengths.max()))
        bonus = None if self.prior is None else self.prior.bonus(sequences, candidates).to(device)
        found = beam_search(
            self.retriever,
            torch.from_numpy(sequences.padded(longest)).to(device),
            torch.full((len(histories),), -1, device=device),  # users nobody knows
            width,
            num_results,
            reachable,
            bonus,
        )
        return _Found(*(values.cpu().numpy() for values in found))

    def _choose(
        self,
        found: _Found,
        row: int,
        k: int,
        denied: set[int],
        pool: int,
        orders: Orders,
        tags: np.ndarray | None,
    ) -> list[int]:
        """Ranks of the items that make the list of one history of a batch, in its order."""
        items = found.items[row]
        may_stand = [r for r, item in enumerate(items.tolist()) if item >= 0 and item not in denied]
        ranks = np.array(may_stand[:pool], dtype=np.int64)
        if orders.diversity:
            scores, tag_ids = found.scores[row, ranks], self.item_tags.tag_ids
            ranks = ranks[
                diversified(items[None, ranks], scores[None], tag_ids, orders.diversity)[0]
            ]
        chosen = choose(items[ranks].tolist(), k, tags, orders.most_per_tag)
        return [int(ranks[place]) for place in chosen]

    def _explained(self, found: _Found, row: int, rank: int, history: np.ndarray) -> Recommendation:
        return self._explainer.explain(
            int(found.items[row, rank]),
            history.tolist(),
            float(found.log_probs[row, rank]),
            float(found.scores[row, rank]),
            found.code_log_probs[row, rank].tolist(),
        )

    def _history_items(self, history: Sequence[str]) -> np.ndarray:
        if isinstance(history, str):
            raise DataError(f"history: expected a list of item ids; found the string {history!r}")
        if not history:
            raise DataError("the history is empty; name at least one item of the catalogue")
        return self.catalogue.index_of(list(history))

    def _checked_width(self, k: int, beam_width: int | None) -> int:
        if k < 1:
            raise ConfigError(f"k: expected at least 1; found {k}")
        if beam_width is None:
            return max(self.beam_width, k)
        if beam_width < k:
            raise ConfigError(f"beam_width: expected at least k = {k}; found {beam_width}")
        return beam_width
