"""Second half of stage train: how much the item graph counts at decoding, chosen on validation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from hidvae.config import Config
from hidvae.data.prepare import Dataset
from hidvae.data.split import choose_users
from hidvae.errors import ArtifactError
from hidvae.evaluation.metrics import both_protocols, ndcg_at, recall_at, target_ranks
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking.graph_score import DECAY, NUM_LATEST, NUM_NEIGHBOURS, GraphScore
from hidvae.ranking.ranker import VALIDATION_BEAMS, GenerativeRanker
from hidvae.store.artifacts import StageFolder, StageWriter, read_json, write_json

if TYPE_CHECKING:
    from hidvae.run.run import Run

CHOSEN = "graph.json"
NEIGHBOURS = "neighbours.safetensors"

# The graph's shape, chosen on the validation split of Amazon Beauty and not worth choosing again.
MAX_DISTANCE = 5
"""Two items of one training history are linked when at most this many steps apart."""
TWO_HOP_WEIGHT = 4.0
"""Weight of paths of two transitions against one."""
CONTENT_WEIGHT = 0.1
"""Weight of the cosine of two items' content."""
TFIDF_WEIGHT = 0.2
"""Weight of the cosine of two texts' TF-IDF vectors."""
NUM_CANDIDATES = 200
"""Neighbours of a history that gain anything."""
COLD_FACTOR = 2.0
"""Factor on the graph's weight for cold items."""
SMOOTHING = 0.05
"""Score of an item that is no neighbour; larger makes the graph's opinion flatter."""
VALIDATION_USERS = 5000
"""Users drawn to choose the weight; their ndcg@10 tells the weights apart."""

logger = logging.getLogger("hidvae.train")


def choose_graph_weight(run: Run, config: Config, stage: StageWriter) -> None:
    """Choose both weights on validation, history excluded, and write the stage ``graph``.

    First the graph's, beside the smallest weight of the likeness, then the likeness's. Among equals
    the smallest weight wins. A single weight is taken as it is; where nobody validates, the middle
    one is.
    """
    settings, dataset = config.graph, run.dataset
    likeness = run.likeness
    of_graph = sorted(set(settings.weights))
    of_likeness = [0.0] if likeness is None else sorted(set(settings.likeness_weights))
    if (
        likeness is None
        and not run.folder("likeness").config["is_wanted"]
        and any(settings.likeness_weights)
    ):
        stage.decide(
            "the run was embedded without a learned likeness, so its weight is 0; `hidvae run` "
            "with these settings learns one",
            "GraphConfig.likeness_weights",
        )
    num_items = dataset.catalogue.num_items
    neighbours = sparse.csr_array((num_items, num_items), dtype=np.float32)
    if any(of_graph):
        neighbours = build_graph(dataset, run.embeddings).neighbours(NUM_NEIGHBOURS)
    if dataset.split.validation_users.size:
        score = _Validation(run, config, neighbours, likeness)
        weight = _best(of_graph, lambda weight: score(weight, of_likeness[0]))
        likeness_weight = _best(of_likeness, lambda other: score(weight, other))
        stage.metrics |= {
            f"validation_ndcg@10_weights_{graph:g}_{other:g}": found
            for (graph, other), found in score.known.items()
        }
    else:
        weight, likeness_weight = _middle(of_graph), _middle(of_likeness)
        if len(of_graph) > 1:
            stage.decide(
                f"nobody validates: the item graph has weight {weight:g}", "GraphConfig.weights"
            )
        if len(of_likeness) > 1:
            stage.decide(
                f"nobody validates: the learned likeness has weight {likeness_weight:g}",
                "GraphConfig.likeness_weights",
            )
    # In a file, as a fingerprint covers files alone, and all of it changes the ranking.
    chosen = {"weight": weight, "likeness_weight": likeness_weight, "settings": asdict(settings)}
    write_json(stage.path / CHOSEN, chosen)
    if weight:
        save_file(csr_to_tensors("neighbours", neighbours), stage.path / NEIGHBOURS)


def _best(weights: list[float], score: Callable[[float], float]) -> float:
    """The weight of the highest score; a single one is not tried."""
    return weights[0] if len(weights) == 1 else max(weights, key=score)


def _middle(weights: list[float]) -> float:
    return weights[len(weights) // 2]


class _Validation:
    """ndcg@10 on validation, history excluded, by the weights of graph and likeness."""

    def __init__(
        self,
        run: Run,
        config: Config,
        neighbours: sparse.csr_array,
        likeness: npt.NDArray[np.float32] | None,
    ) -> None:
        self.known: dict[tuple[float, float], float] = {}
        self._run, self._neighbours, self._likeness = run, neighbours, likeness
        self._max_history = run.folder("retriever").config["max_history"]
        split = run.dataset.split
        rows = choose_users(len(split.validation_targets), VALIDATION_USERS, config.run.seed)
        self._histories, self._users = (
            split.validation_histories.take(rows),
            split.validation_users[rows],
        )
        self._targets = split.validation_targets[rows]

    def __call__(self, weight: float, likeness_weight: float) -> float:
        """The score of two weights, measured once."""
        weights = (weight, likeness_weight)
        if weights not in self.known:
            self.known[weights] = self._measured(*weights)
        return self.known[weights]

    def _measured(self, weight: float, likeness_weight: float) -> float:
        graph = None
        if weight or likeness_weight:
            graph = build_graph_score(
                weight, self._neighbours, self._run.dataset, self._likeness, likeness_weight
            ).to(self._run.device)
        ranker = GenerativeRanker(
            self._run.retriever, VALIDATION_BEAMS, self._max_history, graph=graph
        )
        found = ranker.rank(self._histories, 10, self._users).items
        _, ranked = both_protocols(found, self._histories, 10)
        ranks = target_ranks(ranked, self._targets)
        recall, ndcg = float(recall_at(ranks, 10).mean()), float(ndcg_at(ranks, 10).mean())
        logger.info(
            "graph weight %g, likeness weight %g  validation recall@10 %.4f  ndcg@10 %.4f",
            weight,
            likeness_weight,
            recall,
            ndcg,
        )
        return ndcg


def load_graph_score(
    folder: StageFolder, dataset: Dataset, likeness: npt.NDArray[np.float32] | None
) -> GraphScore | None:
    """The graph score that was chosen, or None where the retriever does better alone.

    Args:
        folder: The stage ``graph``.
        dataset: Of the run.
        likeness: (N, d) vectors of the learned likeness, if there are any.

    Raises:
        ArtifactError: If the neighbours are damaged.
    """
    chosen = read_json(folder.path / CHOSEN)
    weight, likeness_weight = float(chosen["weight"]), float(chosen["likeness_weight"])
    if weight == likeness_weight == 0:
        return None
    num_items = dataset.catalogue.num_items
    neighbours = sparse.csr_array((num_items, num_items), dtype=np.float32)
    file = folder.path / NEIGHBOURS
    try:
        if weight:
            neighbours = csr_from_tensors("neighbours", load_file(file), (num_items, num_items))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); delete {folder.path} and run `hidvae train` again"
        ) from error
    return build_graph_score(weight, neighbours, dataset, likeness, likeness_weight)


def build_graph_score(
    weight: float,
    neighbours: sparse.csr_array,
    dataset: Dataset,
    likeness: npt.NDArray[np.float32] | None = None,
    likeness_weight: float = 0.0,
) -> GraphScore:
    """The graph score of two weights; items of the history gain only if users do repeat items."""
    return GraphScore(
        neighbours,
        num_latest=NUM_LATEST,
        decay=DECAY,
        weight=weight,
        smoothing=SMOOTHING,
        num_candidates=NUM_CANDIDATES,
        favours_history=dataset.users_repeat_items,
        warm_items=dataset.warm_items,
        cold_factor=COLD_FACTOR,
        likeness=likeness,
        likeness_weight=likeness_weight,
    )


def build_graph(dataset: Dataset, embeddings: ItemEmbeddings) -> ItemGraph:
    """The item graph of a dataset's training histories, content and words."""
    content, tfidf = embeddings.content, embeddings.tfidf
    return ItemGraph(
        dataset.split.train,
        dataset.catalogue.num_items,
        content if content.shape[1] else None,
        tfidf if tfidf.shape[1] else None,
        max_distance=MAX_DISTANCE,
        two_hop_weight=TWO_HOP_WEIGHT,
        content_weight=CONTENT_WEIGHT,
        word_weight=TFIDF_WEIGHT,
        num_latest=NUM_LATEST,
        decay=DECAY,
    )
