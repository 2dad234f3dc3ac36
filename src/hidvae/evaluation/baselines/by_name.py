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
from hidvae.evaluation.baselines.sasrec import SASREC, load_sasrec
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
    "sasrec",
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
        run: Its stages ``dataset``, ``embeddings`` and ``tags`` are there.
        config: Seed and device of a training, settings of ``sasrec``.

    Raises:
        ConfigError: If there is no such baseline, or the items lack what it reads.
        DataError: If the log is too short to train on.
    """
    dataset = run.dataset
    num_items = dataset.catalogue.num_items
    if name == "popularity":
        return Popularity(dataset.split.train, num_items)
    if name == "content_graph":
        items = run.embeddings
        content = items.content if items.content.shape[1] else None
        tfidf = items.tfidf if items.tfidf.shape[1] else None
        return ContentGraph(dataset.split.train, num_items, content, tfidf)
    if name == "text_similarity":
        content = run.embeddings.content
        if not content.shape[1]:
            raise ConfigError(
                f"{run.folder('embeddings').path}: expected a text, file or image part for the "
                "baseline text_similarity, found none; leave it out of "
                "EvaluationConfig.baselines or set EmbeddingConfig.text_encoder"
            )
        return TextSimilarity(content)
    if name == "sasrec":
        return load_sasrec(run.make_stage(SASREC, config), num_items, run.device)
    if name == "tiger":
        return tiger(run, config)
    raise _unknown(name)


def chosen_baselines(names: Iterable[str], embeddings: ItemEmbeddings) -> tuple[str, ...]:
    """The baselines of the settings, ``all`` spelled out, checked before anything is trained.

    Where the items have no content, ``all`` leaves out those that read it, with a log line.

    Args:
        names: ``EvaluationConfig.baselines``.
        embeddings: The run's.

    Raises:
        ConfigError: If there is no such baseline.
    """
    chosen: list[str] = []
    for name in names:
        if name != ALL and name not in BASELINES:
            raise _unknown(name)
        chosen += BASELINES if name == ALL else [name]
    if ALL in names and not embeddings.content.shape[1]:
        logger.warning("left out %s: the items have no content", " and ".join(_READ_CONTENT))
        chosen = [name for name in chosen if name not in _READ_CONTENT]
    return tuple(dict.fromkeys(chosen))


def _unknown(name: str) -> ConfigError:
    close = difflib.get_close_matches(name, [*BASELINES, ALL], n=1, cutoff=0.0)
    return ConfigError(
        f"unknown baseline {name!r}; expected some of {', '.join(BASELINES)}, or {ALL}; did you "
        f"mean {close[0]}?"
    )
