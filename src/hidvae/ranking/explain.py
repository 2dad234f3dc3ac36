"""Why an item was recommended: its tag path, how sure, and which history items resemble it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hidvae.data.catalogue import Catalogue
from hidvae.features.tags.vocabulary import PATH_SEPARATOR, TagVocabulary
from hidvae.semantic_ids.table import SemanticIds


@dataclass(frozen=True)
class HistoryMatch:
    """An item of the history whose semantic ID begins like the recommended one."""

    item_id: str
    title: str
    shared_levels: int
    """Length of the common prefix, at least 1."""


@dataclass(frozen=True)
class Recommendation:
    """A recommended item and the reasons for it."""

    item_id: str
    title: str
    log_prob: float
    """Log-probability of the item's semantic ID given the history."""
    score: float
    """What the item is ranked by: its log-probability, plus what the item graph adds."""
    codes: tuple[str, ...]
    """The semantic ID, such as ``("<a_12>", "<b_3>", "<c_7>")``."""
    code_probs: tuple[float, ...]
    """Probability of each code given the history and the codes before it."""
    tag_path: tuple[str, ...]
    """Predicted tag of each level, coarse to fine; it ends where no tag is known."""
    tag_confidences: tuple[float, ...]
    """The tokenizer's probability of each tag of the path, in [0, 1]."""
    because: tuple[HistoryMatch, ...]
    """History items that share a prefix, longest first; at most three."""

    @property
    def prob(self) -> float:
        """Probability of the item's semantic ID given the history."""
        return float(np.exp(self.log_prob))

    @property
    def reason(self) -> str:
        """One sentence made from tags, confidences and the closest item of the history."""
        where = PATH_SEPARATOR.join(self.tag_path)
        sure = ", ".join(f"{confidence:.0%}" for confidence in self.tag_confidences)
        tags = f"{where} (sure: {sure})" if where else ""
        if not self.because:
            return f"Likely next: {tags}" if tags else "Likely next after this history"
        closest = self.because[0]
        share = (
            f"Shares {closest.shared_levels} of {len(self.codes)} levels with "
            f"{closest.title!r} of the history"
        )
        return f"{share}; {tags}" if tags else share

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "item_id": self.item_id,
            "title": self.title,
            "reason": self.reason,
            "prob": self.prob,
            "log_prob": self.log_prob,
            "score": self.score,
            "codes": list(self.codes),
            "code_probs": list(self.code_probs),
            "tag_path": list(self.tag_path),
            "tag_confidences": [round(float(value), 4) for value in self.tag_confidences],
            "because": [
                {
                    "item_id": match.item_id,
                    "title": match.title,
                    "shared_levels": match.shared_levels,
                }
                for match in self.because
            ],
        }


class Explainer:
    """Turns ranked items into recommendations with their reasons."""

    def __init__(self, catalogue: Catalogue, ids: SemanticIds, tags: TagVocabulary) -> None:
        self._catalogue = catalogue
        self._ids = ids
        self._tags = tags

    def explain(
        self,
        item: int,
        history: Sequence[int],
        log_prob: float,
        score: float,
        code_log_probs: Sequence[float],
    ) -> Recommendation:
        """Reasons for one item.

        Args:
            item: item_index.
            history: item_index of the history, oldest first.
            log_prob: Of the item's ID.
            score: What it is ranked by.
            code_log_probs: (M,) of each of its codes.
        """
        path, confidences = self.tag_path(item)
        return Recommendation(
            item_id=self._catalogue.item_ids[item],
            title=self._catalogue.titles[item],
            log_prob=float(log_prob),
            score=float(score),
            codes=tuple(self._ids.strings(item)),
            code_probs=tuple(float(p) for p in np.exp(code_log_probs)),
            tag_path=path,
            tag_confidences=confidences,
            because=self.matches(item, history),
        )

    def tag_path(self, item: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Predicted tags of an item, coarse to fine, and the confidence of each."""
        names, confidences = [], []
        for level, tag in enumerate(self._ids.tag_ids[item].tolist()):
            if tag < 0:
                break
            names.append(self._tags.names[level][tag])
            confidences.append(float(self._ids.tag_confidence[item, level]))
        return tuple(names), tuple(confidences)

    def matches(self, item: int, history: Sequence[int], most: int = 3) -> tuple[HistoryMatch, ...]:
        """History items that share a prefix with an item: longest prefix first, then latest."""
        distinct = list(dict.fromkeys(reversed(history)))  # latest first
        codes = self._ids.codes
        equal = codes[np.asarray(distinct, dtype=np.int64)] == codes[item]
        shared = np.cumprod(equal, axis=1).sum(axis=1)  # length of the common prefix
        order = np.argsort(-shared, kind="stable")[:most]
        return tuple(
            HistoryMatch(
                self._catalogue.item_ids[distinct[row]],
                self._catalogue.titles[distinct[row]],
                int(shared[row]),
            )
            for row in order
            if shared[row] > 0
        )
