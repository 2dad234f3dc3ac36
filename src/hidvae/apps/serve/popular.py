"""Lists for those of whom nothing is known: the most popular items, under the same filters."""

from __future__ import annotations

from typing import Any

from hidvae.apps.serve.catalogue_view import CatalogueView
from hidvae.ranking.filters import Filters, chosen, pool_for, within_limit


def popular_items(view: CatalogueView, k: int, filters: Filters) -> list[dict[str, Any]]:
    """The k items with the most training events that keep to the filters, as ``RecommendedItem``.

    Their scores are logs of shares, so that ``Filters.diversity`` is in nats here too.

    Raises:
        DataError: If a tag path is unknown.
        ConfigError: If there is no such tag level.
    """
    recommender, index = view.recommender, view.recommender.item_tags
    allowed = index.allowed(filters, recommender.catalogue.index_of(filters.without))
    items = view.by_popularity[allowed[view.by_popularity]]
    limit = index.limit(filters)
    size, limit_of_pool = pool_for(k, filters, limit)
    if limit_of_pool is not None:
        items = items[within_limit(limit_of_pool.tags[items][None], limit_of_pool.most)[0]]
    pool = items[:size]
    scores = view.log_shares[pool]
    (places,) = chosen(pool[None], scores[None], k, filters, index.tag_ids, limit)
    return [without_history(view, item) for item in pool[places].tolist()]


def without_history(view: CatalogueView, item: int) -> dict[str, Any]:
    """A ``RecommendedItem`` of which no history says how probable it is."""
    return {
        **view.card(item),
        "reason": f"Popular: {view.popularity[item]} events in training",
        "score": float(view.log_shares[item]),
        "score_parts": None,
        "order_parts": None,
        "log_prob": None,
        "prob": None,
        "code_probs": [],
        "because": [],
    }
