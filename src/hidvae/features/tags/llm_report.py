"""What language-model calls came to: answers by kind, tokens, price, time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hidvae.features.tags.llm_client import Answer


@dataclass(frozen=True, kw_only=True)
class LLMReport:
    """Counts of one run; reports of parts add up with ``+``."""

    questions: int = 0
    """What was to be decided: an item's tag on a level, or a cluster's name."""
    chosen: int = 0
    """Questions answered with a candidate, or with a usable name."""
    none: int = 0
    """Questions answered with none: no candidate fits."""
    refused: int = 0
    """Questions whose answer was no candidate, no usable name, or broken JSON; left undecided."""
    requests: int = 0
    """Prompts, each of one question or more."""
    cached: int = 0
    """Prompts answered from the cache, at no cost."""
    failed_tries: int = 0
    """Tries that failed (busy, time-out, server error) and were made again."""
    prompt_tokens: int = 0
    """Tokens of the prompts sent in this run."""
    completion_tokens: int = 0
    """Tokens of the answers received in this run."""
    seconds: float = 0.0
    """Wall time, waiting included."""

    def __add__(self, other: LLMReport) -> LLMReport:
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        return LLMReport(**sums)

    def as_dict(self) -> dict[str, float]:
        """The fields by name, JSON values."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """One line for the log."""
        return (
            f"{self.questions} questions: {self.chosen} answered, {self.none} none, "
            f"{self.refused} refused; {self.requests} requests ({self.cached} cached, "
            f"{self.failed_tries} failed tries), {self.prompt_tokens} + {self.completion_tokens} "
            f"tokens, {self.seconds:.1f} s"
        )


def report_answers(answers: Sequence[Answer], seconds: float) -> LLMReport:
    """The part of a report that the answers tell: requests and tokens."""
    fresh = [answer for answer in answers if not answer.was_cached]
    prompt_tokens = sum(answer.prompt_tokens for answer in fresh)
    completion_tokens = sum(answer.completion_tokens for answer in fresh)
    return LLMReport(
        requests=len(answers),
        cached=len(answers) - len(fresh),
        failed_tries=sum(answer.failed_tries for answer in fresh),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=seconds,
    )
