"""A baseline by its name, ready to rank: made from a run's folders, trained where it must be.

Trained baselines are stage folders under ``RUN/baselines/<name>``, skipped while they are up to
date, so that a second evaluation trains nothing.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hidvae.config import Config
from hidvae.errors import ConfigError
from hidvae.evaluation.baselines.item_to_item import MOST_ITEMS_OF_EASE, Ease, ItemKnn
from hidvae.evaluation.baselines.sasrec import sasrec, sasrec_content
from hidvae.evaluation.baselines.sasrec_reranked import sasrec_reranked
from hidvae.evaluation.baselines.tiger import tiger
from hidvae.evaluation.baselines.untrained import ContentGraph, Popularity, TextSimilarity
from hidvae.features.embeddings import ItemEmbeddings
from hidvae.ranking.ranker import Ranker

if TYPE_CHECKING:
    from hidvae.run.run import Run

BASELINES: tuple[str, ...] = (
    "popularity",
    "text_similarity",
    "content_graph",
    "item_knn",
    "ease",
    "sasrec",
    "sasrec_content",
    "sasrec_reranked",
    "tiger",
)
ALL = "all"
"""In the settings: every baseline that the items have the inputs of."""
_READ_CONTENT = ("text_similarity", "tiger")

logger = logging.getLogger(__name__)


def build_baseline(name: str, run: Run, config: Config) -> Ranker:
    """The ranker of one baseline.

    Args:
        name: One of ``BASELINES``.
        run: Its stages before the retriever are there.
        config: Seed and device of a training, settings of ``sasrec`` and ``sasrec_content``, and of
            the generator for ``sasrec_reranked``.

    Raises:
        ConfigError: If there is no such baseline, or the items lack what it reads, or are too many.
        DataError: If the log is too short to train on.
    """
    dataset, items = run.dataset, run.embeddings
    num_items = dataset.catalogue.num_items
    _check(name, items)
    if name == "popularity":
        return Popularity(dataset.split.train, num_items)
    if name == "content_graph":
        content = items.content if items.content.shape[1] else None
        tfidf = items.tfidf if items.tfidf.shape[1] else None
        return ContentGraph(dataset.split.train, num_items, content, tfidf)
    if name == "text_similarity":
        return TextSimilarity(items.content)
    if name == "item_knn":
        return ItemKnn(dataset.split.train, num_items)
    if name == "ease":
        return Ease(dataset.split.train, num_items)
    if name == "sasrec":
        return sasrec(run, config)
    if name == "sasrec_content":
        return sasrec_content(run, config)
    if name == "sasrec_reranked":
        return sasrec_reranked(run, config)
    return tiger(run, config)


def chosen_baselines(names: Iterable[str], items: ItemEmbeddings) -> tuple[str, ...]:
    """The baselines of the settings, ``all`` spelled out, checked before anything is trained.

    ``all`` leaves out those that cannot be made of these items, with a log line each.

    Args:
        names: ``EvaluationConfig.baselines``.
        items: The run's item embeddings.

    Raises:
        ConfigError: If there is no such baseline, or one that is named cannot be made.
    """
    chosen: dict[str, None] = {}
    for name in names:
        if name != ALL:
            _check(name, items)
            chosen[name] = None
            continue
        for each in BASELINES:
            if reason := _hindrance(each, items):
                logger.warning("left out the baseline %s: %s", each, reason)
            else:
                chosen[each] = None
    return tuple(chosen)


def _check(name: str, items: ItemEmbeddings) -> None:
    if name not in BASELINES:
        raise _unknown(name)
    if reason := _hindrance(name, items):
        raise ConfigError(
            f"baseline {name}: {reason}; leave it out of EvaluationConfig.baselines"
            + (" or set EmbeddingConfig.text_encoder" if name in _READ_CONTENT else "")
        )


def _hindrance(name: str, items: ItemEmbeddings) -> str | None:
    """Why a baseline cannot be made of these items, if it cannot."""
    if name in _READ_CONTENT and not items.content.shape[1]:
        parts = ", ".join(items.parts)
        return f"expected items with a text, file or image part, found the parts {parts}"
    if name == "ease" and items.num_items > MOST_ITEMS_OF_EASE:
        return (
            f"expected at most {MOST_ITEMS_OF_EASE:,} items, as it inverts a dense matrix of all "
            f"their pairs, found {items.num_items:,}"
        )
    return None


def _unknown(name: str) -> ConfigError:
    close = difflib.get_close_matches(name, [*BASELINES, ALL], n=1, cutoff=0.0)
    return ConfigError(
        f"unknown baseline {name!r}; expected some of {', '.join(BASELINES)}, or {ALL}; did you "
        f"mean {close[0]}?"
    )
