"""Why an item was recommended: its tags, and which items of the history moved it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hidvae.data.catalogue import Catalogue
from hidvae.features.tags.vocabulary import PATH_SEPARATOR, TagVocabulary
from hidvae.ranking.reasons import KINDS, Reasons
from hidvae.semantic_ids.table import SemanticIds

MOST_CAUSES = 3
"""History items that are named for one recommended item."""
_SMALLEST_SHARE = 0.01
"""Less than this of what lifts an item is not named."""
_IN_WORDS = {
    "likeness": "goes with {title!r} by learned likeness",
    "co_occurrence": "users who took {title!r} often took it too, or what goes with it",
    "content": "like {title!r} by content",
    "words": "shares words with {title!r}",
}
_OF_THE_SAME = {
    "likeness": "also by learned likeness",
    "co_occurrence": "also taken together, or with the same items",
    "content": "also alike by content",
    "words": "also by shared words",
}
"""Where the words before name the same history item."""
KIND_WORDS = {
    "likeness": "learned likeness",
    "co_occurrence": "taken together",
    "content": "content",
    "words": "shared words",
}
"""The kinds of a share, short."""
_PLACED_BY = {
    "generator": "the generator",
    "followers": "what is taken one after the other",
    "likeness": "learned likeness",
    "content": "content",
    "words": "shared words",
}
"""What the reranker goes by, in words."""
_ITSELF = "it is in the history itself"
_GENERATOR_ALONE = "The generator expects it, no item of the history lifts it"


class ScoreParts(NamedTuple):
    """What a score is made of, in nats; the parts add up to it."""

    generator: float
    """Log-probability of the item's semantic ID given the history."""
    item_graph: float = 0.0
    """Its part of the gain."""
    likeness: float = 0.0
    """The rest of the gain, by the learned likeness."""
    reranker: float = 0.0
    """What a later step changed."""


class OrderParts(NamedTuple):
    """How much higher the reranker scores an item than with average features of one group."""

    generator: float = 0.0
    """By its log-probability."""
    followers: float = 0.0
    """By how often it came after the latest items of the history, or before them."""
    likeness: float = 0.0
    """By how like them it is by learned likeness."""
    content: float = 0.0
    """By how like them its content is."""
    words: float = 0.0
    """By the words that it has in common with them."""


class CauseParts(NamedTuple):
    """A history item's share of the gain by kind, as ``reasons.KINDS``; they sum to its share."""

    likeness: float = 0.0
    """By the learned likeness: content that often goes together."""
    co_occurrence: float = 0.0
    """Other users took both, or each together with a third item."""
    content: float = 0.0
    """Their contents (text, image or the user's own vectors) are alike."""
    words: float = 0.0
    """Their texts have words in common."""


@dataclass(frozen=True)
class Cause:
    """An item of the history that moved the recommended one up."""

    item_id: str
    title: str
    share: float
    """Of the gain, in (0, 1]."""
    parts: CauseParts
    shared_levels: int
    """First codes that both semantic IDs have in common; it says how alike they are named, and had
    no part in the gain."""


@dataclass(frozen=True)
class Recommendation:
    """A recommended item and the reasons for it.

    The gain is what item graph and learned likeness add to the log-probability. It is shared out by
    what lifts the item above one that nothing in the history is near to or like (``Reasons``).
    """

    item_id: str
    title: str
    log_prob: float
    """Log-probability of the item's semantic ID given the history."""
    score: float
    """What the item is ranked by."""
    score_parts: ScoreParts
    """What the score is made of."""
    codes: tuple[str, ...]
    """The semantic ID, such as ``("<a_12>", "<b_3>", "<c_7>")``."""
    code_probs: tuple[float, ...]
    """Probability of each code given the history and the codes before it."""
    tag_path: tuple[str, ...]
    """Predicted tag of each level, coarse to fine; it ends where no tag is known."""
    tag_confidences: tuple[float, ...]
    """The tokenizer's probability of each tag of the path, in [0, 1]."""
    order_parts: OrderParts | None
    """What put the item in its place, where a reranker does."""
    because: tuple[Cause, ...]
    """History items that moved it up, largest share first; at most three, and none where the item
    gains nothing."""

    @property
    def prob(self) -> float:
        """Probability of the item's semantic ID given the history."""
        return float(np.exp(self.log_prob))

    @property
    def reason(self) -> str:
        """One sentence: the strongest causes, what placed it, then tags and confidences."""
        said = self._causes_in_words()
        if self.order_parts is not None and max(self.order_parts) > 0:
            strongest = max(self.order_parts._asdict().items(), key=lambda part: part[1])[0]
            said.append(f"placed here mostly by {_PLACED_BY[strongest]}")
        if self.tag_path:
            sure = ", ".join(f"{confidence:.0%}" for confidence in self.tag_confidences)
            said.append(f"{PATH_SEPARATOR.join(self.tag_path)} (sure: {sure})")
        return "; ".join(said)

    def _causes_in_words(self) -> list[str]:
        """The two largest shares of an item of the history by one kind."""
        pairs = [
            (share, kind, cause)
            for cause in self.because
            for kind, share in zip(KINDS, cause.parts, strict=True)
            if share >= _SMALLEST_SHARE
        ]
        if not pairs:
            return [_GENERATOR_ALONE]
        said: list[str] = []
        named = None
        for share, kind, cause in sorted(pairs, key=lambda pair: -pair[0])[:2]:
            words = (_OF_THE_SAME if cause is named else _IN_WORDS)[kind]
            words = _ITSELF if cause.item_id == self.item_id else words.format(title=cause.title)
            said.append(f"{words} ({share:.0%}{'' if said else ' of what lifts it'})")
            named = cause
        return [said[0][0].upper() + said[0][1:], *said[1:]]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "item_id": self.item_id,
            "title": self.title,
            "reason": self.reason,
            "prob": self.prob,
            "log_prob": self.log_prob,
            "score": self.score,
            "score_parts": self.score_parts._asdict(),
            "order_parts": None if self.order_parts is None else self.order_parts._asdict(),
            "codes": list(self.codes),
            "code_probs": list(self.code_probs),
            "tag_path": list(self.tag_path),
            "tag_confidences": [round(float(value), 4) for value in self.tag_confidences],
            "because": [
                {
                    "item_id": cause.item_id,
                    "title": cause.title,
                    "share": round(cause.share, 4),
                    "parts": {k: round(v, 4) for k, v in cause.parts._asdict().items()},
                    "shared_levels": cause.shared_levels,
                }
                for cause in self.because
            ],
        }


class Explainer:
    """Turns ranked items into recommendations with their reasons."""

    def __init__(
        self,
        catalogue: Catalogue,
        ids: SemanticIds,
        tags: TagVocabulary,
        reasons: Reasons | None = None,
    ) -> None:
        """Keep the tables of N items; without ``reasons`` nothing but the generator counts."""
        self._catalogue = catalogue
        self._ids = ids
        self._tags = tags
        self._reasons = reasons or Reasons(None)

    def explain(
        self,
        items: npt.NDArray[np.integer],
        history: npt.NDArray[np.integer],
        log_probs: npt.NDArray[np.floating],
        scores: npt.NDArray[np.floating],
        code_log_probs: npt.NDArray[np.floating],
        gains: npt.NDArray[np.floating] | None = None,
        influences: Mapping[str, npt.NDArray[np.floating]] | None = None,
    ) -> list[Recommendation]:
        """Reasons for k items after one history.

        Args:
            items: (k,) item_index.
            history: (T,) item_index, oldest first, at least one.
            log_probs: (k,) of their IDs.
            scores: (k,) what they are ranked by.
            code_log_probs: (k, M) of each of their codes.
            gains: (k,) what item graph and likeness add; by default all that the scores have above
                the log-probabilities. The remainder is the reranker's.
            influences: (k,) each, from ``Reranker.influences``, where a reranker was at work.
        """
        generator = np.asarray(log_probs, dtype=np.float64)
        total = np.asarray(scores, dtype=np.float64)
        gained = (total - generator if gains is None else np.asarray(gains)).clip(min=0.0)
        sources, of_gain = self._reasons.shares(history, items)
        of_gain = of_gain * (gained > 0)[:, None, None]
        by_graph = gained * of_gain[:, :, 1:].sum(axis=(1, 2))
        by_likeness = (gained - by_graph).clip(min=0.0)  # not what rounding leaves
        parts = np.column_stack([generator, by_graph, by_likeness, total - generator - gained])
        causes = self._causes(items, sources, of_gain)
        placed: list[OrderParts | None] = [None] * len(items)
        if influences:
            rows = zip(*(column.tolist() for column in influences.values()), strict=True)
            placed = [OrderParts(**dict(zip(influences, row, strict=True))) for row in rows]
        code_probs = np.exp(code_log_probs)
        found = []
        for place, item in enumerate(items.tolist()):
            path, confidences = self.tag_path(item)
            found.append(
                Recommendation(
                    item_id=self._catalogue.item_ids[item],
                    title=self._catalogue.titles[item],
                    log_prob=float(log_probs[place]),
                    score=float(scores[place]),
                    score_parts=ScoreParts(*parts[place].tolist()),
                    codes=tuple(self._ids.strings(item)),
                    code_probs=tuple(code_probs[place].tolist()),
                    tag_path=path,
                    tag_confidences=confidences,
                    order_parts=placed[place],
                    because=causes[place],
                )
            )
        return found

    def tag_path(self, item: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Predicted tags of an item, coarse to fine, and the confidence of each."""
        names, confidences = [], []
        for level, tag in enumerate(self._ids.tag_ids[item].tolist()):
            if tag < 0:
                break
            names.append(self._tags.names[level][tag])
            confidences.append(float(self._ids.tag_confidence[item, level]))
        return tuple(names), tuple(confidences)

    def _causes(
        self,
        items: npt.NDArray[np.integer],
        sources: npt.NDArray[np.integer],
        of_gain: npt.NDArray[np.float64],
    ) -> list[tuple[Cause, ...]]:
        """The largest shares of each item (k, n, 4), of equal ones the latest history item's."""
        codes = self._ids.codes
        equal = codes[items][:, None] == codes[sources]  # (k, n, M)
        shared = np.cumprod(equal, axis=2).sum(axis=2)  # lengths of the common prefixes
        share = of_gain.sum(axis=2)
        order = np.argsort(-share, axis=1, kind="stable")[:, :MOST_CAUSES]
        item_ids, titles, index = self._catalogue.item_ids, self._catalogue.titles, sources.tolist()
        found = []
        for rows, *of_item in zip(
            order.tolist(), share.tolist(), of_gain.tolist(), shared.tolist(), strict=True
        ):
            shares, parts, levels = of_item
            named = [row for row in rows if shares[row] >= _SMALLEST_SHARE]
            found.append(
                tuple(
                    Cause(
                        item_ids[index[row]],
                        titles[index[row]],
                        shares[row],
                        CauseParts(*parts[row]),
                        levels[row],
                    )
                    for row in named
                )
            )
        return found
