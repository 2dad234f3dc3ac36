"""Tags from clusters of item vectors, top-down: where there is no taxonomy, or as a second one.

Level 0 splits all items by k-means, every further level splits each cluster of the level above, so
that a cluster's parent is the cluster it was cut out of. A level costs one pass over the items: the
centroids are fitted on a sample, and no matrix of items by items is ever made.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.cluster.vq import kmeans, vq

from hidvae.errors import DataError
from hidvae.features.tags.cluster_words import name_by_words
from hidvae.features.tags.vocabulary import TagVocabulary

logger = logging.getLogger(__name__)

_SAMPLE = 50_000
"""Items that a split's centroids are fitted on; all items are then assigned to them."""
_BLOCK = 65_536
"""Items assigned at once."""
_DRAWS = 4
"""Draws for each first centroid, of which the best is taken."""
_SMALLEST = 2
"""A cluster of one item would tell nothing about another."""


class NoClusters(DataError):
    """Items that are too few or too alike to be split into groups."""


def tags_from_clusters(
    vectors: np.ndarray,
    texts: pl.Series | None,
    *,
    num_clusters: Sequence[int],
    seed: int,
    min_count: int = 1,
) -> tuple[np.ndarray, TagVocabulary]:
    """Cluster the items level by level and name the clusters by their most telling words.

    Args:
        vectors: (N, D) floats; distances between them are Euclidean.
        texts: (N,) words of the items, see ``cluster_words``; None names clusters "Cluster 3.1".
        num_clusters: L numbers: clusters of level 0, then most children of a cluster per level.
        seed: Of the sampling and of the first centroids; same seed, same tags.
        min_count: Fewest items of a cluster, at least 1 (taken as 2). A cluster too small to be
            split into two such is not: its items have -1 from the next level on.

    Returns: (N, L) int64 and the vocabulary; children of a tag stand together, the largest first.

    Raises:
        NoClusters: If the items cannot be told apart.
    """
    smallest = max(min_count, _SMALLEST)
    ids = np.full((len(vectors), len(num_clusters)), -1, np.int64)
    parents: list[np.ndarray] = []
    for level, most_children in enumerate(num_clusters):
        parent_ids = ids[:, level - 1] if level else np.zeros(len(vectors), np.int64)
        num_parents = len(parents[-1]) if level else 1
        order = np.argsort(parent_ids, kind="stable")
        starts = np.searchsorted(parent_ids[order], np.arange(num_parents + 1))
        parents_here: list[int] = []
        for parent, (start, end) in enumerate(itertools.pairwise(starts)):
            members = order[start:end]
            generator = np.random.default_rng([seed, level, parent])
            children = split(vectors, members, most_children, smallest, generator)
            if level == 0 and children.max(initial=-1) < 0:
                raise NoClusters(
                    f"item vectors: expected at least two groups of {smallest} items "
                    f"(TagConfig.min_count) to split the items into; found none among "
                    f"{len(members)} items; add items or embeddings, or use "
                    "--set TagConfig.source=none"
                )
            is_split = children >= 0
            ids[members[is_split], level] = children[is_split] + len(parents_here)
            parents_here += [parent if level else -1] * (int(children.max(initial=-1)) + 1)
        parents.append(np.array(parents_here, np.int64))
        logger.info("tag level %d: %d clusters", level, len(parents_here))
    names, paths = name_by_words(ids, parents, texts, seed=seed)
    vocabulary = TagVocabulary(names, paths, parents, [np.zeros(0, np.int64)] * len(parents))
    return ids, vocabulary.recounted(ids)


def split(
    vectors: np.ndarray,
    members: np.ndarray,
    most_children: int,
    smallest: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Split some items into at most ``most_children`` clusters of at least ``smallest`` items.

    Args:
        vectors: (N, D).
        members: (n,) rows of the items to split.
        most_children: Most clusters.
        smallest: Fewest items of a cluster; smaller ones are given to the nearest others.
        generator: Source of the sample and the first centroids.

    Returns: (n,) cluster of each, from 0 in the order of falling size; all -1 where they are too
        few, or too alike, to make two.
    """
    none = np.full(len(members), -1, np.int64)
    most_children = min(most_children, len(members) // smallest)
    if most_children < 2:
        return none
    chosen = members
    if len(members) > _SAMPLE:
        chosen = np.sort(generator.choice(members, _SAMPLE, replace=False))
    sample = np.ascontiguousarray(vectors[chosen])
    first = _spread_points(sample, most_children, generator)
    if len(first) < 2:
        return none
    centroids, _ = kmeans(sample, first)
    clusters = _nearest(vectors, members, centroids)
    is_large = np.bincount(clusters, minlength=len(centroids)) >= smallest
    if is_large.sum() < 2:
        return none
    if not is_large.all():
        clusters = _nearest(vectors, members, centroids[is_large])
    sizes = np.bincount(clusters)
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[clusters]


def _spread_points(
    points: np.ndarray, num_clusters: int, generator: np.random.Generator
) -> np.ndarray:
    """First centroids, by greedy k-means++.

    Each next one is drawn by its squared distance to those before; of a few draws the one that
    leaves the least distance is taken.

    Returns: (K', D), all different; fewer than ``num_clusters`` where the points are.
    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007.
    """
    chosen = [int(generator.integers(len(points)))]
    distances = _squared_distances(points, points[chosen[0]])
    while len(chosen) < num_clusters and distances.any():
        cumulated = np.cumsum(distances)
        drawn = np.searchsorted(cumulated, generator.random(_DRAWS) * cumulated[-1], side="right")
        left = [np.minimum(distances, _squared_distances(points, points[row])) for row in drawn]
        best = int(np.argmin([distance.sum() for distance in left]))
        chosen.append(int(drawn[best]))
        distances = left[best]
    return points[chosen]


def _squared_distances(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(n,) float64; exactly 0 for points equal to ``centre``."""
    return np.square(points - centre).sum(axis=1, dtype=np.float64)


def _nearest(vectors: np.ndarray, members: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Nearest centroid of each member, (n,) int64, block by block."""
    clusters = np.empty(len(members), np.int64)
    for start in range(0, len(members), _BLOCK):
        block = members[start : start + _BLOCK]
        clusters[start : start + _BLOCK], _ = vq(vectors[block], centroids)
    return clusters
