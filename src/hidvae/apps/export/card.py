"""The model card: what an exported folder is, how to use it, what it was made from and scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hidvae.store.artifacts import StageFolder, library_versions

_CUTOFFS = (5, 10)
_TASKS = {
    "test": "history included",
    "test_excluding_history": "history excluded",
    "cold": "items that training never saw, among themselves",
    "cold_excluding_history": "items that training never saw, among themselves, history excluded",
}
"""Keys of metrics.json that a card shows, and what they mean."""

_USE = """\
import json
import torch

program = torch.export.load("program.pt2").module()
with open("items.json", encoding="utf-8") as file:
    items = json.load(file)
index = {item["item_id"]: row for row, item in enumerate(items)}
histories = [[items[0]["item_id"]], [items[3]["item_id"], items[1]["item_id"]]]  # oldest first
longest = max(map(len, histories))
rows = [[index[i] for i in h] + [-1] * (longest - len(h)) for h in histories]
ranked, scores = program(torch.tensor(rows), torch.tensor(True))  # True: leave the history out
for history, found in zip(histories, ranked.tolist()):
    print(history, "->", [items[row]["item_id"] for row in found if row >= 0])
"""
"""Runs in the exported folder with torch alone; the tests run it."""


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

    @property
    def dataset(self) -> str:
        """Its name."""
        return str(self.folders["dataset"].facts["name"])


def model_card(facts: CardFacts) -> str:
    """The card in the Hugging Face Hub's format: YAML front matter, then Markdown."""
    return "\n".join([*_front_matter(facts), *_body(facts), ""])


def _front_matter(facts: CardFacts) -> Iterator[str]:
    """YAML; every value is written as JSON, which YAML contains."""
    head = {
        "license": facts.settings["license"],
        "library_name": "hidvae",
        "tags": ["recommender-system", "generative-retrieval", "semantic-ids", "hidvae"],
        "datasets": [facts.dataset],
    }
    results = [
        {
            "task": {"type": "recommendation", "name": f"next item, {_TASKS[task]}"},
            "dataset": {"type": facts.dataset, "name": facts.dataset, "split": "test"},
            "metrics": [
                {"type": name, "value": value, "name": f"{name} ({_TASKS[task]})"}
                for name, value, _ in metrics
            ],
        }
        for task, metrics in _tasks(facts)
    ]
    if results:
        head["model-index"] = [{"name": f"hidvae on {facts.dataset}", "results": results}]
    yield "---"
    for key, value in head.items():
        yield f"{key}: {json.dumps(value, ensure_ascii=False)}"
    yield "---"


def _body(facts: CardFacts) -> Iterator[str]:
    settings, dataset = facts.settings, facts.folders["dataset"]
    yield f"# hidvae on {facts.dataset}"
    yield ""
    yield (
        f"Ranks {facts.num_items} items for a history of items. Each item has a short code, coarse "
        "to fine, whose levels predict tags of its category path; a transformer generates the code "
        "of the next item."
    )
    yield from ("", "## Use", "", "With torch alone, in this folder:", "")
    yield from ("```python", _USE.rstrip(), "```", "")
    yield (
        f"`program(history, exclude_history)` takes item indices (users, items), oldest first, -1 "
        f"where there is nothing, at most {settings['longest_history']} a history, and a scalar "
        f"boolean. It gives the {settings['top_k']} best items (users, {settings['top_k']}), -1 "
        "where there are no more and for an empty history, and the scores that they are ranked by. "
        f"The beam search, {settings['beam_width']} beams wide, is part of the program. It runs on "
        f"the CPU and was written by torch {library_versions()['torch']}. The file holds no "
        "pickle; torch's loader would run one in a file of a stranger, so compare the SHA-256 with "
        "the one in `manifest.json` of a source that you trust."
    )
    if settings["with_run"]:
        yield ""
        yield (
            "The other folders are the run itself, without the users' histories: with the package, "
            "`hidvae.Recommender.load(FOLDER)` recommends with reasons, from this folder or as "
            "`hf://ORGANISATION/NAME`."
        )
    yield from ("", "## Results", "")
    yield from _results(facts)
    yield from ("", "## Data", "")
    yield (
        f"{facts.dataset}: {dataset.metrics['num_users']} users, {dataset.metrics['num_items']} "
        f"items, {dataset.metrics['num_events']} events. Each user's last event is the test, the "
        "one before it the validation; the model was trained on the rest."
        if not dataset.config["cold_item_share"]
        else f"{facts.dataset}: {dataset.metrics['num_users']} users, "
        f"{dataset.metrics['num_items']} items, {dataset.metrics['num_events']} events. "
        f"{dataset.metrics['cold_items']} items were held out of training."
    )
    if facts.version:
        yield (
            f"Items were added, updated or removed {facts.version} times since the training; the "
            "results are those of the catalogue before."
        )
    yield from ("", "| made from | SHA-256 |", "| --- | --- |")
    for name, fingerprint in dataset.manifest["inputs"].items():
        yield f"| {name} | {fingerprint} |"
    for name, folder in facts.folders.items():
        yield f"| stage {name} | {folder.fingerprint} |"
    yield from ("", "## Semantic IDs", "")
    yield _semantic_ids(facts)
    yield from ("", "## Configuration", "")
    yield from ("| stage | settings that rank |", "| --- | --- |")
    for name in ("semantic_ids", "retriever", "fusion"):
        shown = ", ".join(f"{k}={v}" for k, v in facts.folders[name].config.items())
        yield f"| {name} | {shown} |"
    yield from ("", "## Limits", "")
    yield "- Ranks the items of `items.json` only, and knows of a user nothing but the history."
    yield "- Scores are comparable within one list; the item graph's part is no probability."
    yield "- Predicted tags are a model's guess; how often they are right stands above."
    yield "- Learned from what users did: popular items are favoured, and so are past habits."


def _tasks(facts: CardFacts) -> Iterator[tuple[str, list[tuple[str, float, list[float]]]]]:
    """Of each task that was measured, metrics with their 95 % intervals."""
    for task in _TASKS:
        measured = (facts.evaluation or {}).get(task)
        if measured:
            yield (
                task,
                [
                    (name, measured[name], measured[f"{name}_ci"])
                    for name in (f"{kind}@{k}" for k in _CUTOFFS for kind in ("recall", "ndcg"))
                    if measured.get(name) is not None
                ],
            )


def _results(facts: CardFacts) -> Iterator[str]:
    tasks = list(_tasks(facts))
    if not tasks:
        yield "Not evaluated."
        return
    yield "By item over the whole catalogue, with 95 % bootstrap intervals over users."
    yield from ("", "| target | metric | value | interval |", "| --- | --- | ---: | --- |")
    for task, metrics in tasks:
        for name, value, (low, high) in metrics:
            yield f"| {_TASKS[task]} | {name} | {value:.4f} | {low:.4f} to {high:.4f} |"


def _semantic_ids(facts: CardFacts) -> str:
    ids, tags = facts.folders["semantic_ids"], facts.folders["tags"]
    quality = ids.metrics
    text = (
        f"{ids.facts['num_levels']} codes of {', '.join(map(str, ids.facts['level_sizes']))} "
        f"values, from item embeddings ({facts.folders['embeddings'].facts['text_encoder']}) by "
        f"HiD-VAE. {quality['collision_rate_before']:.2%} of the items shared an ID before they "
        "were parted, none does after."
    )
    accuracy = quality.get("tag_accuracy")
    if accuracy:
        text += (
            " Tags predicted right on items that the tokenizer never saw, coarse to fine: "
            f"{', '.join(f'{share:.1%}' for share in accuracy)} "
            f"(of {', '.join(map(str, tags.facts['sizes']))} tags)."
        )
    return text
