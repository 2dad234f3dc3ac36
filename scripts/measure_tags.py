"""Hide the tags of some items, fill them in by each source, and see how often it is right.

    python scripts/measure_tags.py --data FOLDER --output results/tags-beauty.json
    python scripts/measure_tags.py --data FOLDER --sources majority,neighbours,llm --llm-items 300 \
        --set LLMConfig.num_candidates=10 --output results/tags-beauty.json

Sources: majority (always the most frequent tag of the level), nearest (the tag whose text is most
similar to the item's, under the one above: a language model's first candidate), neighbours, llm,
clusters. Clusters have no names to compare with the true tags: their agreement with them is
reported. A language model is asked for --llm-items of the hidden items; every source is scored on
these items too. Dataset and embeddings are made once under runs/tags/.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.config import Config, load_config
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
from hidvae.features.tags.tag import tag_vectors, tags_from_source
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.run.run import Run
from hidvae.store.artifacts import describe_machine, git_commit, library_versions, write_json

RUNS = Path("runs/tags")
SOURCES = ("majority", "nearest", "neighbours", "clusters", "llm")
Scores = list[dict[str, Any]]


@dataclass(frozen=True)
class Tagged:
    """The items with the tags that are taken for true."""

    config: Config
    items: ItemsToTag
    ids: np.ndarray
    vocabulary: TagVocabulary


def main() -> None:
    """Parse the command line, measure, write the numbers."""
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("hidvae").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with items, interactions")
    parser.add_argument("--hidden", type=float, default=0.3, help="share of items that is hidden")
    parser.add_argument("--seeds", type=int, default=3, help="choices of hidden items, from 0 on")
    parser.add_argument("--sources", default="majority,neighbours,clusters")
    parser.add_argument("--llm-items", type=int, default=300, help="hidden items to ask for")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    sources = arguments.sources.split(",")
    if unknown := set(sources) - set(SOURCES):
        parser.error(f"--sources: expected some of {', '.join(SOURCES)}; found {sorted(unknown)}")
    tagged = load_tagged(arguments.data, arguments.overrides)
    runs = [
        measure(tagged, sources, arguments.hidden, arguments.llm_items, seed)
        for seed in range(arguments.seeds)
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output, report(tagged, arguments, runs))
    print_means(runs)


def load_tagged(data: Path, overrides: Sequence[str]) -> Tagged:
    """Prepare and embed a dataset, and read its tags from the category paths."""
    bindings = ["DatasetConfig.source=folder", f"DatasetConfig.folder={data}"]
    config = load_config([], [*bindings, *overrides])
    folders = Run(RUNS / data.name).make(config, until="embed")
    items = ItemsToTag.load(folders["dataset"], folders["embeddings"], config.embedding)
    ids, vocabulary = tags_from_source(config.tags, items)
    return Tagged(config, items, ids, vocabulary)


def measure(
    tagged: Tagged, sources: Sequence[str], share: float, num_llm_items: int, seed: int
) -> dict[str, Any]:
    """Hide, fill by every source, compare; one seed."""
    generator = np.random.default_rng(seed)
    left, hidden = hide_tags(tagged.ids, share, generator)
    asked = np.sort(generator.choice(hidden, min(num_llm_items, len(hidden)), replace=False))
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
        num_clusters=tagged.config.tags.num_clusters,
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


def report(
    tagged: Tagged, arguments: argparse.Namespace, runs: list[dict[str, Any]]
) -> dict[str, Any]:
    """What was measured, with all that it depends on."""
    settings = tagged.config.to_json()
    settings["dataset"]["folder"] = arguments.data.name  # where it lies is nobody's business
    return {
        "dataset": arguments.data.name,
        "num_items": tagged.items.num_items,
        "classes": tagged.vocabulary.sizes,
        "hidden_share": arguments.hidden,
        "seeds": list(range(arguments.seeds)),
        "mean": means(runs),
        "runs": runs,
        "config": settings,
        "commit": git_commit(),
        "machine": describe_machine(),
        "versions": library_versions(),
    }


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


def print_means(runs: list[dict[str, Any]]) -> None:
    """Accuracy per level on the terminal."""
    for part, sources in means(runs).items():
        if part == "clusters":
            print("clusters, nmi by level:", [round(level["nmi"], 3) for level in sources])
            continue
        for source, levels in sources.items():
            print(f"{part}, {source}, accuracy by level:", [level["accuracy"] for level in levels])


def _mean_scores(scores: list[Scores]) -> Scores:
    return [
        {name: _mean([level[name] for level in by_seed]) for name in by_seed[0]}
        for by_seed in zip(*scores, strict=True)
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.mean(known), 6) if known else None


if __name__ == "__main__":
    main()
