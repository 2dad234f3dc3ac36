"""Second half of stage train: how much the item graph counts at decoding, chosen on validation."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from hidvae.config import Config, GraphConfig, build_section
from hidvae.data.prepare import Dataset
from hidvae.data.split import choose_users
from hidvae.errors import ArtifactError
from hidvae.evaluation.metrics import both_protocols, ndcg_at, recall_at, target_ranks
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking.graph_score import GraphScore
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
NUM_LATEST = 10
"""Latest items of a history whose neighbours count; by ``DECAY``, older ones hardly would."""
DECAY = 0.6
"""Weight of a history item relative to the one after it."""
NUM_NEIGHBOURS = 300
"""Neighbours that are kept of an item; what is near to everything says little."""
NUM_CANDIDATES = 200
"""Neighbours of a history that gain anything."""
SMOOTHING = 0.05
"""Score of an item that is no neighbour; larger makes the graph's opinion flatter."""
VALIDATION_USERS = 5000
"""Users drawn to choose the weight; their ndcg@10 tells the weights apart."""

logger = logging.getLogger("hidvae.train")


def choose_graph_weight(run: Run, config: Config, stage: StageWriter) -> None:
    """Try each weight on validation, history excluded, and write the stage ``graph``.

    Among equals the smallest weight wins. A single weight is taken as it is, and nothing is ranked;
    where nobody validates, the middle one is.
    """
    settings = config.graph
    best, scores = settings.weights[0], {}
    neighbours = sparse.csr_array((0, 0), dtype=np.float32)
    if any(settings.weights):
        graph = build_graph(run.dataset, run.embeddings)
        neighbours = graph.neighbours(NUM_NEIGHBOURS)
    if len(set(settings.weights)) > 1 and not run.dataset.split.validation_users.size:
        best = sorted(set(settings.weights))[len(set(settings.weights)) // 2]
        stage.decide(f"nobody validates: the item graph has weight {best:g}", "GraphConfig.weights")
    elif len(set(settings.weights)) > 1:
        scores = _scores_by_weight(run, config, neighbours)
        best = max(scores, key=lambda weight: scores[weight])  # the smallest of equals
    # In a file, as a fingerprint covers files alone, and all of it changes the ranking.
    write_json(stage.path / CHOSEN, {"weight": best, "settings": asdict(settings)})
    if best:
        save_file(csr_to_tensors("neighbours", neighbours), stage.path / NEIGHBOURS)
    stage.metrics |= {f"validation_ndcg@10_weight_{w:g}": score for w, score in scores.items()}


def _scores_by_weight(run: Run, config: Config, neighbours: sparse.csr_array) -> dict[float, float]:
    """ndcg@10 on validation, history excluded, by weight, rising."""
    settings, dataset = config.graph, run.dataset
    max_history = run.folder("retriever").config["max_history"]
    split = dataset.split
    rows = choose_users(len(split.validation_targets), VALIDATION_USERS, config.run.seed)
    histories, users = split.validation_histories.take(rows), split.validation_users[rows]
    scores: dict[float, float] = {}
    for weight in sorted(set(settings.weights)):
        graph = build_graph_score(settings, weight, neighbours, dataset) if weight else None
        ranker = GenerativeRanker(
            run.retriever,
            VALIDATION_BEAMS,
            max_history,
            graph=None if graph is None else graph.to(run.device),
        )
        _, ranked = both_protocols(ranker.rank(histories, 10, users).items, histories, 10)
        ranks = target_ranks(ranked, split.validation_targets[rows])
        recall, scores[weight] = (
            float(recall_at(ranks, 10).mean()),
            float(ndcg_at(ranks, 10).mean()),
        )
        logger.info(
            "graph weight %g  validation recall@10 %.4f  ndcg@10 %.4f",
            weight,
            recall,
            scores[weight],
        )
    return scores


def load_graph_score(folder: StageFolder, dataset: Dataset) -> GraphScore | None:
    """The graph score that was chosen, or None where the retriever does better alone.

    Raises:
        ArtifactError: If the neighbours are damaged.
    """
    chosen = read_json(folder.path / CHOSEN)
    config = build_section(GraphConfig, chosen["settings"])
    weight = float(chosen["weight"])
    if weight == 0:
        return None
    num_items = dataset.catalogue.num_items
    file = folder.path / NEIGHBOURS
    try:
        neighbours = csr_from_tensors("neighbours", load_file(file), (num_items, num_items))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{file}: cannot be read ({error}); delete {folder.path} and run `hidvae train` again"
        ) from error
    return build_graph_score(config, weight, neighbours, dataset)


def build_graph_score(
    config: GraphConfig, weight: float, neighbours: sparse.csr_array, dataset: Dataset
) -> GraphScore:
    """The graph score of a weight; items of the history gain only if users do repeat items."""
    return GraphScore(
        neighbours,
        num_latest=NUM_LATEST,
        decay=DECAY,
        weight=weight,
        smoothing=SMOOTHING,
        num_candidates=NUM_CANDIDATES,
        favours_history=dataset.users_repeat_items,
        warm_items=dataset.warm_items,
        cold_factor=config.cold_factor,
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
