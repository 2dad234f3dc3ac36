"""Load a run and recommend: the two calls most users need.

::

    recommender = Recommender.load("runs/demo")
    for found in recommender.recommend(["item-17", "item-4"], k=10):
        print(found.title, found.prob, " > ".join(found.tag_path))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hidvae.artifacts import StageFolder, read_stage
from hidvae.config import RunConfig
from hidvae.data.catalogue import Catalogue
from hidvae.data.interactions import Sequences
from hidvae.data.prepare import load_dataset
from hidvae.errors import ConfigError, DataError
from hidvae.evaluation.ranking import Ranking
from hidvae.explain import Explainer, Recommendation
from hidvae.features.embeddings import load_embeddings
from hidvae.features.tags.vocabulary import TagVocabulary, load_tags
from hidvae.orders import POOL, ItemTagIndex, Orders, choose, diversified
from hidvae.retriever.beam_search import Generated, beam_search
from hidvae.retriever.build import load_retriever
from hidvae.retriever.fusion import load_prior
from hidvae.retriever.interface import Retriever
from hidvae.retriever.prior import Bonus, GraphPrior
from hidvae.retriever.ranker import GenerativeRanker
from hidvae.retriever.vocabulary import TagTokens, code_of_token
from hidvae.semantic_ids.table import SemanticIds
from hidvae.training.runtime import start_fabric

DEFAULT_BEAM_WIDTH = 50
_PRODUCED_BY = {
    "dataset": "hidvae prepare",
    "embeddings": "hidvae embed",
    "tags": "hidvae tag",
    "semantic_ids": "hidvae tokenize",
    "retriever": "hidvae train",
    "fusion": "hidvae train",
}


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
        tag_tokens: TagTokens = "none",
        prior: GraphPrior | None = None,
        tag_ids: np.ndarray | None = None,
    ) -> None:
        """Put a trained model and its catalogue together; ``load`` does it for a run's folder.

        Args:
            catalogue: N items.
            ids: Their semantic IDs.
            tags: What the tags are called.
            retriever: Over these IDs.
            max_history: Most items that it reads.
            beam_width: Of a search, unless a call says otherwise.
            tag_tokens: As the retriever was trained with.
            prior: What the item graph adds, if it does.
            tag_ids: (N, L) tags of the catalogue, -1 where unknown; those of the IDs by default.
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
        self._code_of_token = np.array(
            code_of_token(retriever.tables.num_levels, ids.num_tag_levels, tag_tokens)
        )

    def __repr__(self) -> str:
        return (
            f"Recommender({self.catalogue.num_items} items, {self.semantic_ids.num_levels} codes "
            f"per ID, {type(self.retriever).__name__})"
        )

    @classmethod
    def load(cls, run: Path | str, device: str = "auto") -> Recommender:
        """Load a run's folder.

        Args:
            run: Folder that ``hidvae run`` wrote.
            device: As ``RunConfig.device``.

        Raises:
            NotTrainedError: If a stage has not been run.
            ArtifactError: If a stage is damaged, or was made from other inputs than those there.
        """
        folders: dict[str, StageFolder] = {}
        for name, command in _PRODUCED_BY.items():
            folder = read_stage(Path(run) / name, produced_by=command)
            made_from = {
                k: folders[k].fingerprint for k in folder.manifest["inputs"] if k in folders
            }
            folders[name] = read_stage(folder.path, produced_by=command, expect=made_from)
        ids = SemanticIds.load(folders["semantic_ids"])
        tags = load_tags(folders["tags"])
        embeddings = load_embeddings(folders["embeddings"])
        dataset = load_dataset(folders["dataset"])
        retriever = load_retriever(
            folders["retriever"], ids, embeddings.matrix, tags, dataset.known_items
        )
        return cls(
            dataset.catalogue,
            ids,
            tags.vocabulary,
            retriever.to(start_fabric(RunConfig(device=device)).device).eval(),
            folders["retriever"].config["max_history"],
            tag_tokens=folders["retriever"].config["tag_tokens"],
            prior=load_prior(folders["fusion"], dataset),
            tag_ids=tags.ids,
        )

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
        items = self._history_items(history)
        width = self._checked_width(k, beam_width)
        orders = orders or Orders()
        if orders.diversity:
            width = max(width, POOL * k)
        without = self.catalogue.index_of(orders.without)
        allowed = self.item_tags.is_allowed(orders, without)
        reachable = None if allowed.all() else self.retriever.tables.reachable(allowed)
        tags = self.item_tags.tags_at(orders.tag_level) if orders.most_per_tag else None
        denied = set(items.tolist()) if exclude_history else set()
        padded, users = self._as_batch(items)
        bonus = self._bonus(items, None if reachable is None else allowed)
        # W beams always find W items that may be entered (or all), so that many are sure to hold k
        # outside the history. How many a limit per tag needs is not known before.
        enough = int(allowed.sum()) if tags is not None else min(k + len(denied), allowed.sum())
        while True:
            results = len(denied) + (k if tags is None and not orders.diversity else width)
            found = beam_search(
                self.retriever, padded, users, width, results, reachable, bonus=bonus
            )
            ranks = [
                rank
                for rank, item in enumerate(found.items[0].tolist())
                if item >= 0 and item not in denied
            ]
            if orders.diversity:
                items_of_pool = found.items[:1, ranks].cpu().numpy()
                scores = found.scores[:1, ranks].cpu().numpy()
                tag_ids = self.item_tags.tag_ids
                order = diversified(items_of_pool, scores, tag_ids, orders.diversity)[0]
                ranks = [ranks[place] for place in order]
            chosen = choose(found.items[0][ranks].tolist(), k, tags, orders.most_per_tag)
            if len(chosen) == k or width >= enough:
                break
            width *= 2
        return [self._explained(found, ranks[place], items) for place in chosen]

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
        padded, users = self._as_batch(items)
        found = beam_search(self.retriever, padded, users, 1, 1, reachable, self._bonus(items))
        return self._explained(found, 0, items)

    def rank(
        self,
        histories: Sequences,
        top_k: int,
        user_index: np.ndarray | None,
        candidates: np.ndarray | None = None,
    ) -> Ranking:
        """See ``evaluation.Ranker.rank``; a history must have at least one item."""
        return self._ranker.rank(histories, top_k, user_index, candidates)

    def best(
        self, histories: Sequences, k: int, *, exclude_history: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores (U, k) of many histories at once; see ``GenerativeRanker.best``."""
        return self._ranker.best(histories, k, exclude_history=exclude_history)

    @property
    def _ranker(self) -> GenerativeRanker:
        return GenerativeRanker(self.retriever, self.beam_width, self.max_history, prior=self.prior)

    def _bonus(self, items: np.ndarray, allowed: np.ndarray | None = None) -> Bonus | None:
        if self.prior is None:
            return None
        return self.prior.bonus(Sequences.from_lists([items]), allowed).to(self._device)

    @property
    def _device(self) -> torch.device:
        return self.retriever.tables.codes.device

    def _explained(self, found: Generated, rank: int, history: np.ndarray) -> Recommendation:
        # A tag token's probability counts to the code it follows, so that the codes' multiply to
        # the item's.
        token_log_probs = found.code_log_probs[0, rank].cpu().numpy()
        return self._explainer.explain(
            int(found.items[0, rank]),
            history.tolist(),
            float(found.log_probs[0, rank]),
            float(found.scores[0, rank]),
            np.bincount(self._code_of_token, weights=token_log_probs).tolist(),
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

    def _as_batch(self, items: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        padded = torch.from_numpy(items[-self.max_history :]).unsqueeze(0).to(self._device)
        return padded, torch.full((1,), -1, device=self._device)  # a user nobody knows
