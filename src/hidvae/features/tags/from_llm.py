"""Missing tags by a language model: it picks among the likely children of the tag above, or none.

Levels are filled coarse to fine. Candidates of a level are the children of the item's tag on the
level above whose text vectors are most similar to the item's; an answer that is none of them leaves
the tag, and those below it, unknown.

Source: HiD-VAE (arXiv:2508.04618), tags for unlabelled items. Differs from the paper: candidates
are children of the parent tag only, "none" is a possible answer, and other answers are refused.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hidvae.config import LLMConfig
from hidvae.errors import ShapeError
from hidvae.features.tags.llm_client import ChatModel, Prompt
from hidvae.features.tags.llm_prompts import (
    NONE,
    REFUSED,
    TagQuestion,
    choice_prompt,
    one_line,
    read_choices,
)
from hidvae.features.tags.llm_report import LLMReport, report_answers
from hidvae.features.tags.vocabulary import OTHER, TagVocabulary
from hidvae.features.unit_rows import unit_rows

logger = logging.getLogger(__name__)

MAX_TEXT_CHARS = 400
"""Characters of an item's text that a prompt shows: title and the first sentences."""
MOST_CANDIDATES = 10
"""Tags that the model may choose from: those most similar to the item's text."""
_ITEMS_AT_ONCE = 10_000
"""Items whose prompts are in memory together."""
_BYTES_PER_TOKEN = 4
"""Rule of thumb of the estimate: about right for English, somewhat high for Chinese."""
_ROOT = 0
"""The one parent of all tags of level 0."""
_DECIMALS = 5
"""Similarities are rounded: the last bits differ between machines, the order must not."""


@dataclass(frozen=True)
class Candidates:
    """Which tags N items could carry: children of the tag above, by the similarity of texts."""

    vocabulary: TagVocabulary
    texts: Sequence[str]
    """(N,) what a model reads of the items."""
    item_vectors: np.ndarray
    """(N, D), of any length."""
    tag_vectors: Sequence[np.ndarray]
    """Per level (C_l, D), by the same encoder."""

    def check_shapes(self, ids: np.ndarray) -> None:
        """Refuse arrays that do not belong together.

        Args:
            ids: (N, L), -1 unknown.

        Raises:
            ShapeError: Names what disagrees.
        """
        num_texts = len(self.texts)
        expected = (num_texts, self.vocabulary.num_levels)
        if ids.shape != expected or len(self.item_vectors) != num_texts:
            raise ShapeError(
                f"expected tags of shape {expected} and {num_texts} item vectors, one per text; "
                f"found {ids.shape} and {len(self.item_vectors)}; pass those of one catalogue"
            )
        sizes = [len(vectors) for vectors in self.tag_vectors]
        widths = {vectors.shape[1] for vectors in self.tag_vectors if len(vectors)}
        dim = self.item_vectors.shape[1]
        if sizes != self.vocabulary.sizes or widths - {dim}:
            raise ShapeError(
                f"expected vectors of {self.vocabulary.sizes} tags per level, {dim} wide as those "
                f"of the items; found {sizes} of width {sorted(widths)}; encode both with one "
                "encoder"
            )

    def open_items(self, ids: np.ndarray, level: int) -> np.ndarray:
        """Rows of the items that lack a tag on a level and have candidates for it.

        Args:
            ids: (N, L), -1 unknown.
            level: Where an unknown tag above leaves no candidates.
        """
        _, parents = self._children(level)
        return np.flatnonzero((ids[:, level] < 0) & np.isin(_tags_above(ids, level), parents))

    def nearest(
        self, ids: np.ndarray, level: int, items: np.ndarray, num_candidates: int
    ) -> list[np.ndarray]:
        """Per item at most ``num_candidates`` tag ids, the most similar first.

        Args:
            ids: (N, L); those of ``level - 1`` say whose children are candidates.
            level: Level of the candidates.
            items: Rows of the items, such as ``open_items`` gives.
            num_candidates: Most candidates of an item.
        """
        children, parents = self._children(level)
        above = _tags_above(ids, level)[items]
        nearest: list[np.ndarray] = [children[:0]] * len(items)
        for parent in np.unique(above):
            rows = np.flatnonzero(above == parent)
            siblings = children[parents == parent]
            similarity = (
                unit_rows(self.item_vectors[items[rows]].astype(np.float32))
                @ unit_rows(self.tag_vectors[level][siblings].astype(np.float32)).T
            )  # (rows, siblings)
            order = np.argsort(-similarity.round(_DECIMALS), axis=1, kind="stable")
            best = siblings[order[:, :num_candidates]]
            for row, tag_ids in zip(rows.tolist(), best, strict=True):
                nearest[row] = tag_ids
        return nearest

    def _children(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """The tags of a level that can be chosen, and their parents; (C,) each.

        The class of rare tags says nothing about an item. Below level 0 it has no parent.
        """
        if level:
            parents = self.vocabulary.parents[level]
            children = np.flatnonzero(parents >= 0)
            return children, parents[children]
        names = np.array(self.vocabulary.names[0], dtype=object)
        children = np.flatnonzero(names != OTHER)
        return children, np.full(len(children), _ROOT)


def fill_with_llm(
    ids: np.ndarray, candidates: Candidates, config: LLMConfig, chat: ChatModel
) -> tuple[np.ndarray, LLMReport]:
    """Fill unknown tags; known ones stay as they are.

    An item whose tag is known on a finer level gets the tags above it without a question. Nothing
    is asked where the tag above is unknown or has no children.

    Args:
        ids: (N, L) int64, -1 unknown.
        candidates: The tags, and the texts of the N items.
        config: How many candidates and items per prompt.
        chat: The model.

    Returns: (N, L) int64, and what it came to.

    Raises:
        ShapeError: If the arrays disagree.
        HidvaeError: If the model gives no answer; those that came are cached.
    """
    candidates.check_shapes(ids)
    vocabulary = candidates.vocabulary
    filled = with_known_parents(ids, vocabulary)
    report = LLMReport()
    for level in range(vocabulary.num_levels):
        items = candidates.open_items(filled, level)
        logger.info("tag level %d: asking %s for %d items", level, config.model, len(items))
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            block = items[start : start + _ITEMS_AT_ONCE]
            nearest = candidates.nearest(filled, level, block, MOST_CANDIDATES)
            questions = _questions(candidates, filled, level, block, nearest, config)
            positions, part = _ask(questions, config, chat)
            filled[block, level] = [
                tag_ids[position] if position >= 0 else -1
                for position, tag_ids in zip(positions, nearest, strict=True)
            ]
            report += part
    logger.info("%s: %s", config.model, report.summary())
    return filled, report


@dataclass(frozen=True)
class Preview:
    """What would be asked; ``str`` of it is for people."""

    prompts: list[Prompt]
    """Prompts of the first items, on the coarsest level that each lacks."""
    num_requests: int
    """Requests of the whole run at most, as if every answer were a tag with children."""
    prompt_tokens: int
    """Estimate of the tokens they would take."""

    def __str__(self) -> str:
        parts = []
        for number, prompt in enumerate(self.prompts, start=1):
            parts.append(f"=== prompt {number}")
            parts += [f"[{message['role']}] {message['content']}" for message in prompt.messages]
            parts.append(f"[answer's JSON schema] {json.dumps(prompt.schema, ensure_ascii=False)}")
        parts.append(
            f"at most {self.num_requests} requests, about {self.prompt_tokens} prompt tokens, "
            "plus answers; what is cached already is not asked again"
        )
        return "\n".join(parts)


def preview_prompts(
    ids: np.ndarray, candidates: Candidates, config: LLMConfig, num_items: int
) -> Preview:
    """The prompts of the first items that lack a tag, and an estimate of the whole; asks nobody.

    Args:
        ids: (N, L) int64, -1 unknown.
        candidates: The tags, and the texts of the N items.
        config: How many candidates and items per prompt.
        num_items: Items whose prompts are shown, at most.
    """
    candidates.check_shapes(ids)
    known = with_known_parents(ids, candidates.vocabulary)
    open_by_level = [candidates.open_items(known, level) for level in range(known.shape[1])]
    first = np.unique(np.concatenate(open_by_level))[:num_items]
    prompts: list[Prompt] = []
    for level, items in enumerate(open_by_level):
        shown = items[np.isin(items, first)]
        nearest = candidates.nearest(known, level, shown, MOST_CANDIDATES)
        questions = _questions(candidates, known, level, shown, nearest, config)
        prompts += [choice_prompt(group) for group in _groups(questions, config)]
    num_requests = sum(
        math.ceil(int((column < 0).sum()) / config.items_per_request)
        for column, size in zip(known.T, candidates.vocabulary.sizes, strict=True)
        if size
    )
    num_bytes = sum(len(m["content"].encode()) for prompt in prompts for m in prompt.messages)
    tokens = num_requests * num_bytes / max(len(prompts), 1) / _BYTES_PER_TOKEN
    return Preview(prompts, num_requests, round(tokens))


def _questions(
    candidates: Candidates,
    ids: np.ndarray,
    level: int,
    items: np.ndarray,
    nearest: Sequence[np.ndarray],
    config: LLMConfig,
) -> list[TagQuestion]:
    """One question per item, about its nearest candidates of a level."""
    names = candidates.vocabulary.names[level]
    parent_paths = [""] * len(items)
    if level:
        paths = candidates.vocabulary.paths[level - 1]
        parent_paths = [paths[tag] for tag in ids[items, level - 1]]
    return [
        TagQuestion(
            text=one_line(candidates.texts[item], MAX_TEXT_CHARS),
            parent_path=parent_path,
            names=tuple(names[tag] for tag in tag_ids),
        )
        for item, parent_path, tag_ids in zip(items, parent_paths, nearest, strict=True)
    ]


def _groups(questions: list[TagQuestion], config: LLMConfig) -> list[list[TagQuestion]]:
    """Questions that share a prompt."""
    size = config.items_per_request
    return [questions[start : start + size] for start in range(0, len(questions), size)]


def _ask(
    questions: list[TagQuestion], config: LLMConfig, chat: ChatModel
) -> tuple[list[int], LLMReport]:
    """Position of the chosen candidate per question (or NONE, REFUSED), and the report."""
    started = time.perf_counter()
    groups = _groups(questions, config)
    answers = chat.complete([choice_prompt(group) for group in groups])
    positions = [
        position
        for answer, group in zip(answers, groups, strict=True)
        for position in read_choices(answer.text, group)
    ]
    kinds = Counter(position if position in (NONE, REFUSED) else 0 for position in positions)
    counts = LLMReport(
        questions=len(positions), chosen=kinds[0], none=kinds[NONE], refused=kinds[REFUSED]
    )
    return positions, counts + report_answers(answers, time.perf_counter() - started)


def with_known_parents(ids: np.ndarray, vocabulary: TagVocabulary) -> np.ndarray:
    """A copy of the tags (N, L) in which the tags above every known one are known as well."""
    filled = ids.astype(np.int64)
    for level in range(vocabulary.num_levels - 1, 0, -1):
        follows = (filled[:, level] >= 0) & (filled[:, level - 1] < 0)
        filled[follows, level - 1] = vocabulary.parents[level][filled[follows, level]]
    return filled


def _tags_above(ids: np.ndarray, level: int) -> np.ndarray:
    """(N,) tag of every item on the level above; -1 unknown."""
    return ids[:, level - 1] if level else np.full(len(ids), _ROOT)
