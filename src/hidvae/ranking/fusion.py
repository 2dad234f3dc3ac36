"""Second half of stage train: how much the item graph counts at decoding, chosen on validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from hidvae.config import GraphConfig, RunConfig, build_section
from hidvae.data.prepare import Dataset, load_dataset
from hidvae.data.split import choose_users
from hidvae.errors import ArtifactError
from hidvae.evaluation.metrics import ndcg_at, recall_at, target_ranks
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.features.embeddings import ItemEmbeddings, load_embeddings
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking.graph_score import GraphPrior
from hidvae.ranking.ranker import VALIDATION_BEAMS, GenerativeRanker
from hidvae.retriever.build import load_retriever
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder, read_json, read_stage, write_json, write_stage
from hidvae.training.runtime import start_fabric

CHOSEN = "fusion.json"
NEIGHBOURS = "neighbours.safetensors"

# The graph's shape, chosen on the validation split of Amazon Beauty and not worth choosing again.
MAX_DISTANCE = 5
"""Two items of one training history are linked when at most this many steps apart."""
TWO_HOP_WEIGHT = 4.0
"""Weight of paths of two transitions against one."""
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


def choose_fusion(
    config: GraphConfig, run: RunConfig, folders: Mapping[str, StageFolder], output: Path
) -> StageFolder:
    """Try each weight on validation, history excluded, and write the stage folder ``fusion``.

    Among equals the smallest weight wins. A single weight is taken as it is, and nothing is ranked.

    Args:
        config: The graph, and the weights to choose from.
        run: Seed of the users that are drawn, device.
        folders: The run's ``dataset``, ``embeddings``, ``tags``, ``semantic_ids``, ``retriever``.
        output: The stage folder to write.
    """
    dataset = load_dataset(folders["dataset"])
    embeddings = load_embeddings(folders["embeddings"])
    with write_stage(
        output,
        stage="fusion",
        config=asdict(config),
        inputs={name: folder.fingerprint for name, folder in folders.items()},
        seed=run.seed,
    ) as stage:
        best, scores = config.weights[0], {}
        neighbours = sparse.csr_array((0, 0), dtype=np.float32)
        if any(config.weights):
            graph = build_graph(config, dataset, embeddings)
            neighbours = graph.neighbours(NUM_NEIGHBOURS)
        if len(set(config.weights)) > 1:
            scores = _scores_by_weight(config, run, folders, dataset, embeddings, neighbours)
            best = max(scores, key=lambda weight: scores[weight])  # the smallest of equals
        # In a file, as a fingerprint covers files alone, and all of it changes the ranking.
        write_json(stage.path / CHOSEN, {"weight": best, "settings": asdict(config)})
        if best:
            save_file(csr_to_tensors("neighbours", neighbours), stage.path / NEIGHBOURS)
        stage.metrics |= {f"validation_ndcg@10_weight_{w:g}": score for w, score in scores.items()}
    return read_stage(output, produced_by="hidvae train")


def _scores_by_weight(
    config: GraphConfig,
    run: RunConfig,
    folders: Mapping[str, StageFolder],
    dataset: Dataset,
    embeddings: ItemEmbeddings,
    neighbours: sparse.csr_array,
) -> dict[float, float]:
    """ndcg@10 on validation, history excluded, by weight, rising."""
    retriever = load_retriever(
        folders["retriever"],
        SemanticIds.load(folders["semantic_ids"]),
        embeddings.matrix,
        dataset.known_items,
    ).to(start_fabric(run).device)
    max_history = folders["retriever"].config["max_history"]
    split = dataset.split
    rows = choose_users(len(split.validation_targets), VALIDATION_USERS, run.seed)
    histories, users = split.validation_histories.take(rows), split.validation_users[rows]
    scores: dict[float, float] = {}
    for weight in sorted(set(config.weights)):
        prior = build_prior(config, weight, neighbours, dataset) if weight else None
        ranker = GenerativeRanker(retriever, VALIDATION_BEAMS, max_history, prior=prior)
        ranked = ranker.rank(histories, 10, users).excluding
        ranks = target_ranks(ranked, split.validation_targets[rows])
        recall, scores[weight] = (
            float(recall_at(ranks, 10).mean()),
            float(ndcg_at(ranks, 10).mean()),
        )
        logger.info(
            "fusion weight %g  validation recall@10 %.4f  ndcg@10 %.4f",
            weight,
            recall,
            scores[weight],
        )
    return scores


def load_prior(folder: StageFolder, dataset: Dataset) -> GraphPrior | None:
    """The prior that was chosen, or None where the generator does better alone.

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
    return build_prior(config, weight, neighbours, dataset)


def build_prior(
    config: GraphConfig, weight: float, neighbours: sparse.csr_array, dataset: Dataset
) -> GraphPrior:
    """A prior of some weight; it favours items of the history only if users do repeat items."""
    return GraphPrior(
        neighbours,
        num_latest=NUM_LATEST,
        decay=DECAY,
        weight=weight,
        smoothing=SMOOTHING,
        num_candidates=NUM_CANDIDATES,
        favours_history=dataset.users_repeat_items,
        known_items=dataset.known_items,
        unknown_factor=config.cold_factor,
    )


def build_graph(config: GraphConfig, dataset: Dataset, embeddings: ItemEmbeddings) -> ItemGraph:
    """The item graph of a dataset's training histories, content and words."""
    content, tfidf = embeddings.content, embeddings.tfidf
    return ItemGraph(
        dataset.split.train,
        dataset.catalogue.num_items,
        content if content.shape[1] else None,
        tfidf if tfidf.shape[1] else None,
        max_distance=MAX_DISTANCE,
        two_hop_weight=TWO_HOP_WEIGHT,
        content_weight=config.content_weight,
        word_weight=config.tfidf_weight,
        num_latest=NUM_LATEST,
        decay=DECAY,
    )
