"""Names for a taxonomy that has none: a language model reads samples of every cluster.

Clusters are named coarse to fine, so that a prompt holds the name of the parent. Siblings that got
the same name are asked again, and told apart by their telling words if that does not help. A
cluster without a usable answer keeps its words.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence

import numpy as np

from hidvae.config import LLMConfig
from hidvae.features.tags.llm_client import ChatModel, Prompt
from hidvae.features.tags.llm_prompts import object_schema, one_line, read_object
from hidvae.features.tags.llm_report import LLMReport, report_answers
from hidvae.features.tags.vocabulary import OTHER, PATH_SEPARATOR, TagVocabulary

logger = logging.getLogger(__name__)

_SAMPLES_PER_CLUSTER = 8
_CHARS_PER_SAMPLE = 120
_MOST_WORDS = 4
_MOST_CHARS = 40
_TASK = (
    "Each group of items gets a short name, 1 to 4 words, as a shop would call its category. The "
    "answer is JSON."
)
_EXAMPLES = (
    (
        ["Trail running shoes, grippy sole", "Road running shoes, light"],
        "running, shoes",
        "Running",
    ),
    (["Cast iron skillet, 26 cm", "Saucepan with lid"], "pan, iron, lid", "Pots and Pans"),
)  # samples, telling words, name


@dataclasses.dataclass(frozen=True)
class _Cluster:
    """What a prompt says of a cluster."""

    words: str
    parent_path: str
    samples: tuple[str, ...]


def name_clusters(
    vocabulary: TagVocabulary,
    ids: np.ndarray,
    texts: Sequence[str],
    config: LLMConfig,
    chat: ChatModel,
) -> tuple[TagVocabulary, LLMReport]:
    """Name every tag anew; ids, parents and counts stay.

    Args:
        vocabulary: Clusters named by their telling words.
        ids: (N, L) int64, the clusters of every item, -1 none.
        texts: N item texts.
        config: Prices and the model's name, for the report.
        chat: The model.

    Returns: The vocabulary with new names and paths, distinct among siblings; and the report, in
    which a question is a cluster.

    Raises:
        HidvaeError: If the model gives no answer; those that came are cached.
    """
    names: list[list[str]] = []
    paths: list[list[str]] = []
    report = LLMReport()
    for level, words in enumerate(vocabulary.names):
        parents = vocabulary.parents[level]
        above = [paths[level - 1][p] if level and p >= 0 else "" for p in parents.tolist()]
        samples = _samples(ids[:, level], len(words), texts)
        clusters = [_Cluster(*of) for of in zip(words, above, samples, strict=True)]
        level_names, part = _name_level(clusters, parents.tolist(), config, chat)
        names.append(level_names)
        paths.append(
            [
                f"{path}{PATH_SEPARATOR}{name}" if path else name
                for path, name in zip(above, level_names, strict=True)
            ]
        )
        report += part
        logger.info("tag level %d: named %d clusters", level, len(words))
    logger.info("%s: %s", config.model, report.summary())
    return dataclasses.replace(vocabulary, names=names, paths=paths), report


def _name_level(
    clusters: Sequence[_Cluster], parents: Sequence[int], config: LLMConfig, chat: ChatModel
) -> tuple[list[str], LLMReport]:
    """Names of one level's clusters, distinct among siblings."""
    started = time.perf_counter()
    asked = [tag for tag, cluster in enumerate(clusters) if cluster.words != OTHER]
    answers = chat.complete([_name_prompt(clusters[tag], ()) for tag in asked])
    found = {tag: _read_name(answer.text) for tag, answer in zip(asked, answers, strict=True)}
    num_refused = sum(name is None for name in found.values())
    names = [found.get(tag) or cluster.words for tag, cluster in enumerate(clusters)]
    again = _repeated(names, parents)
    prompts = [_name_prompt(clusters[tag], _siblings(tag, names, parents)) for tag in again]
    second = chat.complete(prompts)
    for tag, answer in zip(again, second, strict=True):
        names[tag] = _read_name(answer.text) or names[tag]
    for tag in _repeated(names, parents):
        names[tag] = _told_apart(names[tag], clusters[tag], _siblings(tag, names, parents))
    counts = LLMReport(questions=len(asked), chosen=len(asked) - num_refused, refused=num_refused)
    seconds = time.perf_counter() - started
    return names, counts + report_answers([*answers, *second], seconds)


def _samples(tag_ids: np.ndarray, num_tags: int, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Texts of a few items per cluster, spread evenly over the catalogue's order."""
    order = np.argsort(tag_ids, kind="stable")
    bounds = np.searchsorted(tag_ids[order], np.arange(num_tags + 1))
    samples = []
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        places = np.linspace(start, end - 1, min(_SAMPLES_PER_CLUSTER, end - start)).astype(int)
        samples.append(tuple(one_line(texts[item], _CHARS_PER_SAMPLE) for item in order[places]))
    return samples


def _name_prompt(cluster: _Cluster, taken: Sequence[str]) -> Prompt:
    messages = [{"role": "system", "content": _TASK}]
    for samples, words, name in _EXAMPLES:
        messages.append({"role": "user", "content": _describe(_Cluster(words, "", tuple(samples)))})
        messages.append({"role": "assistant", "content": json.dumps({"name": name})})
    messages.append({"role": "user", "content": _describe(cluster, taken)})
    return Prompt(messages, object_schema({"name": {"type": "string", "maxLength": _MOST_CHARS}}))


def _describe(cluster: _Cluster, taken: Sequence[str] = ()) -> str:
    lines = [f"Items: {' | '.join(cluster.samples)}", f"Frequent words: {cluster.words}"]
    if cluster.parent_path:
        lines.append(f"Within: {cluster.parent_path}")
    if taken:
        lines.append(f"Other groups, do not repeat: {' | '.join(taken)}")
    return "\n".join(lines)


def _read_name(text: str) -> str | None:
    """The name in an answer; None if there is none, or one that is no short name."""
    answer = read_object(text).get("name")
    if not isinstance(answer, str):
        return None
    name = " ".join(answer.split())
    is_short = len(name) <= _MOST_CHARS and len(name.split()) <= _MOST_WORDS
    is_plain = any(letter.isalnum() for letter in name) and PATH_SEPARATOR.strip() not in name
    return name if is_short and is_plain and name != OTHER else None


def _repeated(names: Sequence[str], parents: Sequence[int]) -> list[int]:
    """Tags that have the name of an earlier sibling, whatever its capitals."""
    seen: set[tuple[int, str]] = set()
    repeated = []
    for tag, key in enumerate(zip(parents, map(str.casefold, names), strict=True)):
        if key in seen:
            repeated.append(tag)
        seen.add(key)
    return repeated


def _siblings(tag: int, names: Sequence[str], parents: Sequence[int]) -> list[str]:
    """Names of the other children of a tag's parent."""
    siblings = [names[t] for t, p in enumerate(parents) if p == parents[tag] and t != tag]
    return list(dict.fromkeys(siblings))


def _told_apart(name: str, cluster: _Cluster, siblings: Sequence[str]) -> str:
    """The name with the cluster's words, and a number if even those are a sibling's."""
    taken = {sibling.casefold() for sibling in siblings}
    told_apart = f"{name} ({cluster.words})"
    number = 2
    while told_apart.casefold() in taken:
        told_apart = f"{name} ({cluster.words}, {number})"
        number += 1
    return told_apart
