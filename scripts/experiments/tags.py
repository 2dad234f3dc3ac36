"""Hide the tags of some items, fill them in by each source, and see how often it is right.

Sources: majority (always the most frequent tag of the level), nearest (the tag whose text is most
similar to the item's, under the one above: a language model's first candidate), neighbours, llm,
clusters. Clusters have no names to compare with the true tags: their agreement with them is
reported. A language model is asked for some of the hidden items; every source is scored on these
items too.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scripts.experiments.runner import Request, made_here, make_runs, public_settings

from hidvae.config import Config
from hidvae.features.tags.from_clusters import tags_from_clusters
from hidvae.features.tags.from_llm import Candidates, fill_with_llm
from hidvae.features.tags.from_neighbours import fill_from_neighbours
from hidvae.features.tags.hidden import (
    compare_clusters,
    fill_with_majority,
    fill_with_nearest,
    hide_tags,
    score_filled,
)
from hidvae.features.tags.items_to_tag import ItemsToTag
from hidvae.features.tags.llm_client import open_chat
from hidvae.features.tags.tag import one_per_level, tag_vectors, tags_from_source
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.run.run import Run
from hidvae.store.artifacts import library_versions

SOURCES = ("majority", "nearest", "neighbours", "clusters", "llm")
HIDDEN_SHARE = 0.3
"""Of the items."""
LLM_ITEMS = 300
"""Hidden items that a language model is asked for."""
Scores = list[dict[str, Any]]


@dataclass(frozen=True)
class Tagged:
    """The items with the tags that are taken for true."""

    config: Config
    items: ItemsToTag
    ids: np.ndarray
    vocabulary: TagVocabulary


def measure(request: Request) -> dict[str, Any]:
    """Hide and fill with every seed; the seeds share dataset and embeddings."""
    tagged = load_tagged(request)
    runs = [measure_seed(tagged, request.sources, seed) for seed in range(request.num_seeds)]
    here = made_here()
    return {
        "dataset": request.data.name,
        "num_items": tagged.items.num_items,
        "classes": tagged.vocabulary.sizes,
        "hidden_share": HIDDEN_SHARE,
        "seeds": list(range(request.num_seeds)),
        "mean": means(runs),
        "runs": runs,
        "config": public_settings(tagged.config, request.data),
        "commit": here["git_commit"],
        "machine": here["machine"],
        "versions": library_versions(),
    }


def load_tagged(request: Request) -> Tagged:
    """Prepare and embed a dataset, and read its tags from the category paths."""
    one = dataclasses.replace(request, num_seeds=1)
    ((run,),) = make_runs("tags", one, until="embed").values()
    items = ItemsToTag.of(Run(run.path), run.config.embedding)
    ids, vocabulary = tags_from_source(run.config.tags, items, run.config.tokenizer.num_levels)
    return Tagged(run.config, items, ids, vocabulary)


def measure_seed(tagged: Tagged, sources: Sequence[str], seed: int) -> dict[str, Any]:
    """Hide, fill by every source, compare; one seed."""
    generator = np.random.default_rng(seed)
    left, hidden = hide_tags(tagged.ids, HIDDEN_SHARE, generator)
    asked = np.sort(generator.choice(hidden, min(LLM_ITEMS, len(hidden)), replace=False))
    measured: dict[str, Any] = {"seed": seed, "num_hidden": len(hidden), "on_hidden": {}}
    fillers: dict[str, Callable[[], np.ndarray]] = {
        "majority": lambda: fill_with_majority(left),
        "nearest": lambda: by_nearest(tagged, left),
        "neighbours": lambda: by_neighbours(tagged, left),
    }
    filled = {name: fill() for name, fill in fillers.items() if name in sources}
    for name, ids in filled.items():
        measured["on_hidden"][name] = score_filled(tagged.ids[hidden], ids[hidden])
    if "llm" in sources:
        by_llm, cost = ask_llm(tagged, left, asked)
        measured["llm"] = cost
        measured["num_asked"] = len(asked)
        measured["on_asked"] = {
            name: score_filled(tagged.ids[asked], ids[asked]) for name, ids in filled.items()
        }
        measured["on_asked"]["llm"] = score_filled(tagged.ids[asked], by_llm)
    if "clusters" in sources:
        measured["clusters"] = agreement_of_clusters(tagged, seed)
    return measured


def by_nearest(tagged: Tagged, left: np.ndarray) -> np.ndarray:
    """(N, L) filled by the tags with the most similar texts."""
    vectors = tag_vectors(tagged.ids, tagged.vocabulary, tagged.items)
    items = tagged.items
    candidates = Candidates(tagged.vocabulary, items.texts, items.text_vectors, vectors)
    return fill_with_nearest(left, candidates)


def by_neighbours(tagged: Tagged, left: np.ndarray) -> np.ndarray:
    """(N, L) filled by the most similar items."""
    settings = tagged.config.tags
    filled, _ = fill_from_neighbours(
        left,
        tagged.vocabulary,
        tagged.items.similarity_vectors,
        min_agreement=settings.min_agreement,
    )
    return filled


def ask_llm(
    tagged: Tagged, left: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    """(len(asked), L) filled by the language model, and what it cost."""
    with open_chat(tagged.config.llm) as chat:
        candidates = Candidates(
            tagged.vocabulary,
            [tagged.items.texts[row] for row in asked],
            tagged.items.text_vectors[asked],
            tag_vectors(tagged.ids, tagged.vocabulary, tagged.items),
        )
        filled, cost = fill_with_llm(left[asked], candidates, tagged.config.llm, chat)
    return filled, cost.as_dict()


def agreement_of_clusters(tagged: Tagged, seed: int) -> Scores:
    """Clusters of each level beside the true tags of the same level."""
    ids, vocabulary = tags_from_clusters(
        tagged.items.similarity_vectors,
        tagged.items.words,
        num_clusters=one_per_level(
            tagged.config.tags.num_clusters, tagged.config.tokenizer.num_levels
        ),
        seed=seed,
        min_count=tagged.config.tags.min_count,
    )
    return [
        {
            "clusters": vocabulary.sizes[level],
            "classes": tagged.vocabulary.sizes[level],
            **compare_clusters(ids[:, level], tagged.ids[:, level]),
        }
        for level in range(min(len(vocabulary.sizes), tagged.vocabulary.num_levels))
    ]


def means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds of every number that each run has, by items and source."""
    return {
        part: {source: _mean_scores([run[part][source] for run in runs]) for source in first}
        for part, first in runs[0].items()
        if part in ("on_hidden", "on_asked")
    } | (
        {"clusters": _mean_scores([run["clusters"] for run in runs])}
        if "clusters" in runs[0]
        else {}
    )


def _mean_scores(scores: list[Scores]) -> Scores:
    return [
        {name: _mean([level[name] for level in by_seed]) for name in by_seed[0]}
        for by_seed in zip(*scores, strict=True)
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.mean(known), 6) if known else None
