"""Looking around in a catalogue: search, neighbours, the tree of tags, the tree of semantic IDs.

Answers are dicts of JSON values; ``messages`` describes them. Symbols: N items, M codes per ID,
L tag levels, D width of the content.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hidvae.data.schema import Columns
from hidvae.errors import DataError
from hidvae.ranking.explain import Explainer
from hidvae.ranking.recommender import Recommender
from hidvae.semantic_ids.table import LEVEL_LETTERS

Array = npt.NDArray[Any]


class CatalogueView:
    """The items of a recommender but those removed, to look at; nothing of it ever changes."""

    def __init__(self, recommender: Recommender, content: Array, popularity: Array) -> None:
        """Keep what is looked up.

        Args:
            recommender: Whose catalogue it is.
            content: (N, D) what the items are like.
            popularity: (N,) training events.
        """
        self.recommender = recommender
        self.popularity = popularity
        self._catalogue = recommender.catalogue
        self._ids = recommender.semantic_ids
        self._explainer = Explainer(recommender.catalogue, self._ids, recommender.tags)
        self._trie = recommender.retriever.tables.trie
        self._content = content
        self._allowed = recommender.allowed  # (N,)
        by_popularity = np.argsort(-popularity, kind="stable")
        self.by_popularity = by_popularity[self._allowed[by_popularity]]

    @property
    def num_items(self) -> int:
        """Items that are not removed."""
        return len(self.by_popularity)

    @cached_property
    def log_shares(self) -> Array:
        """(N,) log of each item's share of the training events, each item counting one more."""
        shares: Array = np.log((self.popularity + 1) / (self.popularity + 1).sum())
        return shares

    def card(self, item: int) -> dict[str, Any]:
        """An item, short."""
        path, confidences = self._explainer.tag_path(item)
        return {
            "item_id": self._catalogue.item_ids[item],
            "title": self._catalogue.titles[item],
            "codes": self._ids.strings(item),
            "tag_path": list(path),
            "tag_confidences": [round(value, 4) for value in confidences],
        }

    def item(self, item: int) -> dict[str, Any]:
        """An item with its columns and how many items share each prefix of its ID."""
        columns = self._catalogue.frame.row(item, named=True)
        columns.pop(Columns.ITEM)
        listed = self._ids.codes[self._allowed]
        is_equal = np.cumprod(listed == self._ids.codes[item], axis=1)
        return {
            **self.card(item),
            "fields": {name: _as_json(value) for name, value in columns.items()},
            "num_sharing": is_equal.sum(axis=0).tolist(),
        }

    def search(
        self, query: str, under: str | None, limit: int, offset: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """Items whose title or id holds every word of a query, the most popular first.

        Args:
            query: Upper and lower case count alike; empty finds all.
            under: A tag path that they must lie under.
            limit: Most items to return.
            offset: Found items to leave out before.

        Returns: How many there are, and the cards of some.

        Raises:
            DataError: If there is no such tag path.
        """
        found = np.ones(self._catalogue.num_items, dtype=bool)
        for word in query.lower().split():
            found &= self._text.str.contains(word, literal=True).to_numpy()
        if under is not None:
            found &= self.recommender.item_tags.is_under(under)
        order = self.by_popularity[found[self.by_popularity]]
        return len(order), [self.card(int(item)) for item in order[offset : offset + limit]]

    def similar(self, item: int, k: int) -> list[dict[str, Any]]:
        """Other items: longest common prefix first, then the most similar content."""
        codes = self._ids.codes
        shared = np.cumprod(codes == codes[item], axis=1).sum(axis=1)  # (N,)
        shared[~self._allowed] = shared[item] = -1
        k = min(k, self.num_items - 1)
        # Only items that share as much as the k-th can be among the k.
        least = max(0, int(np.partition(shared, -k)[-k])) if k else self._ids.num_levels
        near = np.flatnonzero(shared >= least)
        similarity = self._cosines(item, near)
        best = np.lexsort((-similarity, -shared[near]))[:k]
        return [
            {
                **self.card(int(near[place])),
                "shared_levels": int(shared[near[place]]),
                "similarity": round(float(similarity[place]), 4),
            }
            for place in best
        ]

    @cached_property
    def tag_tree(self) -> dict[str, Any]:
        """The root of all tags; the items' tags are those that filters go by."""
        tags = self.recommender.tags
        tag_ids = self.recommender.item_tags.tag_ids[self._allowed]
        nodes = [
            [
                {"name": name, "path": path, "level": level, "count": int(count), "children": []}
                for name, path, count in zip(
                    tags.names[level],
                    tags.paths[level],
                    np.bincount(tag_ids[tag_ids[:, level] >= 0, level], minlength=size),
                    strict=True,
                )
            ]
            for level, size in enumerate(tags.sizes)
        ]
        root: dict[str, Any] = {"name": "", "path": "", "level": -1, "count": self.num_items}
        root["children"] = []
        for level, of_level in enumerate(nodes):
            for node, parent in zip(of_level, tags.parents[level].tolist(), strict=True):
                above = root if parent < 0 else nodes[level - 1][parent]
                above["children"].append(node)
        return root

    def node(self, prefix: Sequence[str], num_items: int) -> dict[str, Any]:
        """A node of the tree of semantic IDs, the codes it goes on with, and items below.

        Args:
            prefix: Codes, such as ``["<a_12>", "<b_3>"]``; none for the root.
            num_items: Most items to show.

        Raises:
            DataError: If no item's ID begins so.
        """
        depth, node = len(prefix), self._node_of(prefix)
        below = self._items_below(depth, node)
        children = []
        for child, code in self._children(depth, node):
            items = self._items_below(depth + 1, child)
            if not len(items):
                continue
            children.append({"code": code, "count": len(items), **self._majority(depth + 1, items)})
        shown = below[np.argsort(-self.popularity[below], kind="stable")][:num_items]
        return {
            "prefix": list(prefix),
            "count": len(below),
            **self._majority(depth, below),
            "children": children,
            "items": [self.card(int(item)) for item in shown],
        }

    def _node_of(self, prefix: Sequence[str]) -> int:
        """Number of a prefix's node at its depth."""
        node = 0
        for depth, name in enumerate(prefix):
            children = {code: child for child, code in self._children(depth, node)}
            if name not in children:
                raise DataError(
                    f"expected the first codes of an item's semantic ID; found {' '.join(prefix)}, "
                    f"and no item has {name} as code {depth + 1} there"
                )
            node = children[name]
        return node

    def _children(self, depth: int, node: int) -> list[tuple[int, str]]:
        """Number and code, such as ``<a_12>``, of the nodes below one."""
        if depth == self._trie.num_levels:
            return []
        start, end = self._trie.child_start[depth][node : node + 2].tolist()
        codes = self._trie.child_codes[depth][start:end].tolist()
        names = (f"<{LEVEL_LETTERS[depth]}_{code}>" for code in codes)
        return list(zip(range(start, end), names, strict=True))

    def _items_below(self, depth: int, node: int) -> Array:
        """item_index of the items below a node."""
        starts = self._trie.first_leaf[depth] if depth < self._trie.num_levels else None
        if starts is None:
            items = self._trie.item_at_leaf[node : node + 1]
        else:
            end = starts[node + 1] if node + 1 < len(starts) else self._trie.num_items
            items = self._trie.item_at_leaf[starts[node] : end]
        return items[self._allowed[items]]

    def _majority(self, depth: int, items: Array) -> dict[str, Any]:
        """The commonest tag of some items at the level of their prefix's last code."""
        tag_ids = self.recommender.item_tags.tag_ids
        level = min(depth, tag_ids.shape[1]) - 1
        if level < 0:
            return {"tag": None, "purity": None}
        tags = tag_ids[items, level]
        counts = np.bincount(tags[tags >= 0])
        if not counts.size:
            return {"tag": None, "purity": None}
        best = int(counts.argmax())
        path = self.recommender.tags.paths[level][best]
        return {"tag": path, "purity": round(float(counts[best] / counts.sum()), 4)}

    def _cosines(self, item: int, others: Array) -> Array:
        """Cosine of the content of an item and others (n,); 0 where one has none."""
        one, many = self._content[item], self._content[others]
        norms = np.linalg.norm(one) * np.linalg.norm(many, axis=1)
        products = many @ one
        return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)

    @cached_property
    def _text(self) -> pl.Series:
        """(N,) what a search looks at."""
        names = pl.DataFrame({"title": self._catalogue.titles, "item": self._catalogue.item_ids})
        text = pl.concat_str("title", "item", separator="\n").str.to_lowercase()
        return names.select(text.alias("text"))["text"]


def _as_json(value: Any) -> Any:
    """A cell of a table as a JSON value; what JSON does not know becomes its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple | pl.Series):
        return [_as_json(part) for part in value]
    return str(value)
