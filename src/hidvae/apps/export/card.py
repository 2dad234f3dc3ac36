"""The model card: what an exported folder is, how to use it, what it was made from and scores.

Its text is ``card.md``, in the format of the Hugging Face Hub: YAML front matter, then Markdown, in
which whatever comes from tables, files and settings is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hidvae.log import printable
from hidvae.store.artifacts import StageFolder, library_versions

_METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")
_TASKS = {
    "test": "history included",
    "test_excluding_history": "history excluded",
    "cold": "items that training never saw, among themselves",
    "cold_excluding_history": "items that training never saw, among themselves, history excluded",
}
"""Keys of metrics.json that a card shows, and what they mean."""
_RANKING_STAGES = ("semantic_ids", "retriever", "graph")


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from."""

    folders: Mapping[str, StageFolder]
    """The run's stages by name."""
    evaluation: Mapping[str, Any] | None
    """metrics.json, or None where the run was not evaluated."""
    num_items: int
    """That may be recommended."""
    version: int
    """How many times items were added, updated or removed since the training."""
    settings: Mapping[str, Any]
    """Of the export: top_k, longest_history, beam_width, license, with_run."""


def model_card(facts: CardFacts) -> str:
    """The card as text."""
    folders = facts.folders
    dataset, ids = folders["dataset"], folders["semantic_ids"]
    stages = {f"stage {name}": folder.fingerprint for name, folder in folders.items()}
    templates = Environment(
        loader=PackageLoader("hidvae.apps.export", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # that would be HTML's
    )
    templates.filters["percent"] = _percent
    templates.filters["text"] = _text
    results = _results(facts.evaluation or {})
    return templates.get_template("card.md").render(
        name=dataset.facts["name"],
        front_matter=_front_matter(facts, results),
        num_items=facts.num_items,
        version=facts.version,
        settings=facts.settings,
        torch_version=library_versions()["torch"],
        results={_TASKS[task]: metrics for task, metrics in results.items()},
        data=dataset.metrics,
        made_from=dataset.manifest["inputs"] | stages,
        ids=ids.facts,
        quality=ids.metrics,
        text_encoder=folders["embeddings"].facts["text_encoder"],
        tag_levels=_tag_levels(ids.metrics.get("tag_accuracy"), folders["tags"].facts["sizes"]),
        configs={name: folders[name].config for name in _RANKING_STAGES},
    )


def _percent(share: float | None, digits: int = 1) -> str:
    """A share that may be unknown, or one of nothing."""
    return "unknown" if share is None or share != share else f"{share:.{digits}%}"


def _text(value: object) -> str:
    """A value that is neither Markdown nor HTML, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|~#&])", r"\\\1", printable(str(value)))


def _tag_levels(accuracy: Sequence[float | None] | None, sizes: Sequence[int]) -> list[str]:
    """How often the tags of each level are predicted right; empty if no level has tags."""
    if accuracy is None or not any(sizes):
        return []
    return [
        f"{_percent(right)} (of {size} tags)" if size else "no tags"
        for right, size in zip(accuracy, sizes, strict=False)
    ]


def _results(evaluation: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Value and ends of the 95 % interval, by task and metric; only what was measured."""
    if "not_tested" in evaluation:
        return {}
    return {
        task: {
            name: (measured[name], *measured[f"{name}_ci"])
            for name in _METRICS
            if measured.get(name) is not None and measured.get(f"{name}_ci") is not None
        }
        for task in _TASKS
        if (measured := evaluation.get(task))
    }


def _front_matter(
    facts: CardFacts, results: Mapping[str, Mapping[str, tuple[float, float, float]]]
) -> dict[str, str]:
    """Keys and values of the YAML; every value is written as JSON, which YAML contains."""
    dataset = printable(facts.folders["dataset"].facts["name"])
    head = {
        "license": facts.settings["license"],
        "library_name": "hidvae",
        "tags": ["recommender-system", "generative-retrieval", "semantic-ids", "hidvae"],
        "datasets": [dataset],
    }
    measured = [
        {
            "task": {"type": "recommendation", "name": f"next item, {_TASKS[task]}"},
            "dataset": {"type": dataset, "name": dataset, "split": "test"},
            "metrics": [
                {"type": name, "value": value, "name": f"{name} ({_TASKS[task]})"}
                for name, (value, _, _) in metrics.items()
            ],
        }
        for task, metrics in results.items()
    ]
    if measured:
        head["model-index"] = [{"name": f"hidvae on {dataset}", "results": measured}]
    return {key: json.dumps(value, ensure_ascii=False) for key, value in head.items()}
