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
from hidvae.features.tags.llm_candidates import Candidates, with_known_parents
from hidvae.features.tags.llm_client import ChatModel, Prompt
from hidvae.features.tags.llm_prompts import (
    NONE,
    REFUSED,
    Question,
    choice_prompt,
    one_line,
    read_choices,
)
from hidvae.features.tags.llm_report import LLMReport, report_answers
from hidvae.features.tags.vocabulary import TagVocabulary

logger = logging.getLogger(__name__)

MAX_TEXT_CHARS = 400
"""Characters of an item's text that a prompt shows: title and the first sentences."""
_ITEMS_AT_ONCE = 10_000
"""Items whose prompts are in memory together."""
_BYTES_PER_TOKEN = 4
"""Rule of thumb of the estimate: about right for English, somewhat high for Chinese."""


def fill_with_llm(
    ids: np.ndarray,
    vocabulary: TagVocabulary,
    texts: Sequence[str],
    item_vectors: np.ndarray,
    tag_vectors: Sequence[np.ndarray],
    config: LLMConfig,
    chat: ChatModel,
) -> tuple[np.ndarray, LLMReport]:
    """Fill unknown tags; known ones stay as they are.

    An item whose tag is known on a finer level gets the tags above it without a question. Nothing
    is asked where the tag above is unknown or has no children.

    Args:
        ids: (N, L) int64, -1 unknown.
        vocabulary: The tags of L levels.
        texts: N item texts.
        item_vectors: (N, D) text vectors of the items, of any length.
        tag_vectors: Per level (C_l, D) text vectors of the tags, by the same encoder.
        config: How many candidates, items per prompt, and prices.
        chat: The model.

    Returns: (N, L) int64, and what it came to.

    Raises:
        ShapeError: If the arrays disagree.
        HidvaeError: If the model gives no answer; those that came are cached.
    """
    candidates = Candidates(vocabulary, item_vectors, tag_vectors)
    candidates.check_shapes(ids, len(texts))
    filled = with_known_parents(ids, vocabulary)
    report = LLMReport()
    for level in range(vocabulary.num_levels):
        items = candidates.open_items(filled, level)
        logger.info("tag level %d: asking %s for %d items", level, config.model, len(items))
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            block = items[start : start + _ITEMS_AT_ONCE]
            nearest = candidates.nearest(filled, level, block, config.num_candidates)
            questions = _questions(vocabulary, texts, filled, level, block, nearest, config)
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
    ids: np.ndarray,
    vocabulary: TagVocabulary,
    texts: Sequence[str],
    item_vectors: np.ndarray,
    tag_vectors: Sequence[np.ndarray],
    config: LLMConfig,
    num_items: int,
) -> Preview:
    """The prompts of the first items that lack a tag, and an estimate of the whole; asks nobody.

    Args:
        ids: (N, L) int64, -1 unknown.
        vocabulary: The tags of L levels.
        texts: N item texts.
        item_vectors: (N, D) text vectors of the items, of any length.
        tag_vectors: Per level (C_l, D) text vectors of the tags, by the same encoder.
        config: How many candidates, items per prompt, and prices.
        num_items: Items whose prompts are shown, at most.
    """
    candidates = Candidates(vocabulary, item_vectors, tag_vectors)
    candidates.check_shapes(ids, len(texts))
    known = with_known_parents(ids, vocabulary)
    open_by_level = [candidates.open_items(known, level) for level in range(known.shape[1])]
    first = np.unique(np.concatenate(open_by_level))[:num_items]
    prompts: list[Prompt] = []
    for level, items in enumerate(open_by_level):
        shown = items[np.isin(items, first)]
        nearest = candidates.nearest(known, level, shown, config.num_candidates)
        questions = _questions(vocabulary, texts, known, level, shown, nearest, config)
        prompts += [choice_prompt(group) for group in _groups(questions, config)]
    num_requests = sum(
        math.ceil(int((column < 0).sum()) / config.items_per_request)
        for column, size in zip(known.T, vocabulary.sizes, strict=True)
        if size
    )
    num_bytes = sum(len(m["content"].encode()) for prompt in prompts for m in prompt.messages)
    tokens = num_requests * num_bytes / max(len(prompts), 1) / _BYTES_PER_TOKEN
    return Preview(prompts, num_requests, round(tokens))


def _questions(
    vocabulary: TagVocabulary,
    texts: Sequence[str],
    ids: np.ndarray,
    level: int,
    items: np.ndarray,
    nearest: Sequence[np.ndarray],
    config: LLMConfig,
) -> list[Question]:
    """One question per item, about its nearest candidates of a level."""
    names = vocabulary.names[level]
    if level:
        parent_paths = [vocabulary.paths[level - 1][tag] for tag in ids[items, level - 1]]
    else:
        parent_paths = [""] * len(items)
    return [
        Question(
            text=one_line(texts[item], MAX_TEXT_CHARS),
            parent_path=parent_path,
            names=tuple(names[tag] for tag in tag_ids),
        )
        for item, parent_path, tag_ids in zip(items, parent_paths, nearest, strict=True)
    ]


def _groups(questions: list[Question], config: LLMConfig) -> list[list[Question]]:
    """Questions that share a prompt."""
    size = config.items_per_request
    return [questions[start : start + size] for start in range(0, len(questions), size)]


def _ask(
    questions: list[Question], config: LLMConfig, chat: ChatModel
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
