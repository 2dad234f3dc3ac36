"""Lists for those of whom nothing is known: the most popular items, under the same orders."""

from __future__ import annotations

from typing import Any

import numpy as np

from hidvae.apps.serve.catalogue_view import CatalogueView
from hidvae.ranking.filters import POOL, Orders, choose, diversified


def popular_items(view: CatalogueView, k: int, orders: Orders) -> list[dict[str, Any]]:
    """The k items with the most training events that keep to the orders, as ``RecommendedItem``.

    Their scores are logs of shares, so that ``Orders.diversity`` is in nats here too.

    Raises:
        DataError: If a tag path is unknown.
        ConfigError: If there is no such tag level.
    """
    recommender, scores = view.recommender, view.log_shares
    without = recommender.catalogue.index_of(orders.without)
    allowed = recommender.item_tags.is_allowed(orders, without)
    items = view.by_popularity[allowed[view.by_popularity]]
    if orders.diversity:
        pool = items[: POOL * k]
        tag_ids = recommender.item_tags.tag_ids
        order = diversified(pool[None], scores[pool][None], tag_ids, orders.diversity)[0]
        items = np.concatenate([pool[order], items[POOL * k :]])
    tags = recommender.item_tags.tags_at(orders.tag_level) if orders.most_per_tag else None
    chosen = choose(items.tolist(), k, tags, orders.most_per_tag)
    return [without_history(view, item) for item in items[chosen].tolist()]


def without_history(view: CatalogueView, item: int) -> dict[str, Any]:
    """A ``RecommendedItem`` of which no history says how probable it is."""
    return {
        **view.card(item),
        "reason": f"Popular: {view.popularity[item]} events in training",
        "score": float(view.log_shares[item]),
        "log_prob": None,
        "prob": None,
        "code_probs": [],
        "because": [],
    }
