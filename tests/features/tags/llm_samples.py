"""A small shop without tags: a taxonomy, items, and text vectors that know the right answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hidvae.features.tags.from_llm import Candidates
from hidvae.features.tags.vocabulary import TagVocabulary

TREE = {
    "Hair": {"Shampoo": ["Dry", "Baby"], "Dye": []},
    "Skin": {"Cream": ["Day", "Night"], "Soap": ["Bar"], "Sun": ["Spray"]},
    "Other": {},
}


@dataclass(frozen=True)
class Shop:
    """What ``fill_with_llm`` is given."""

    ids: np.ndarray
    vocabulary: TagVocabulary
    texts: list[str]
    item_vectors: np.ndarray
    tag_vectors: list[np.ndarray]
    truth: np.ndarray

    @property
    def candidates(self) -> Candidates:
        return Candidates(self.vocabulary, self.texts, self.item_vectors, self.tag_vectors)


def vocabulary_of(tree: dict[str, dict[str, list[str]]]) -> TagVocabulary:
    """Three levels in the tree's order, counts 0."""
    names: list[list[str]] = [[], [], []]
    paths: list[list[str]] = [[], [], []]
    parents: list[list[int]] = [[], [], []]

    def add(level: int, name: str, path: str, parent: int) -> int:
        names[level].append(name)
        paths[level].append(f"{path} > {name}" if path else name)
        parents[level].append(parent)
        return len(names[level]) - 1

    for top, middles in tree.items():
        root = add(0, top, "", -1)
        for middle, leaves in middles.items():
            parent = add(1, middle, top, root)
            for leaf in leaves:
                add(2, leaf, f"{top} > {middle}", parent)
    arrays = [np.array(level, np.int64) for level in parents]
    return TagVocabulary(names, paths, arrays, [np.zeros(len(n), np.int64) for n in names])


def make_shop(num_items: int, seed: int = 0) -> Shop:
    """Items of random leaves ("Day", …), nearest to their own tags on every level; all unknown."""
    vocabulary = vocabulary_of(TREE)
    generator = np.random.default_rng(seed)
    dim = sum(vocabulary.sizes)
    axes = np.split(np.eye(dim, dtype=np.float32), np.cumsum(vocabulary.sizes)[:-1])
    leaf = generator.integers(vocabulary.sizes[2], size=num_items)
    middle = vocabulary.parents[2][leaf]
    truth = np.stack([vocabulary.parents[1][middle], middle, leaf], axis=1)
    vectors = sum(axes[level][truth[:, level]] for level in range(3))
    vectors = vectors * generator.uniform(0.5, 2.0, (num_items, 1))  # lengths tell nothing
    texts = [f"Item {n}: {vocabulary.paths[2][tag]}" for n, tag in enumerate(leaf)]
    ids = np.full((num_items, 3), -1, np.int64)
    return Shop(ids, vocabulary, texts, vectors, list(axes), truth)
