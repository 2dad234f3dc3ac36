"""Predicted tags against known ones, on items that the tokenizer never saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from hidvae.apps.show.figures import heatmap, lines
from hidvae.apps.show.formats import number, percent
from hidvae.apps.show.page import figures, heading, paragraph, table
from hidvae.apps.show.report_ids import read_quality
from hidvae.errors import DataError
from hidvae.evaluation.calibration import calibration_bins
from hidvae.features.tags.vocabulary import load_tags
from hidvae.run.run import Run
from hidvae.semantic_ids.table import SemanticIds
from hidvae.tokenizer.train_tokenizer import load_held_out

IntArray = npt.NDArray[np.int64]

_LARGEST = 10
"""Classes of a confusion matrix."""
_SHOWN_MISTAKES = 5
_OTHER = "other"


@dataclass(frozen=True)
class JudgedLevel:
    """Held-out items with a known and a predicted tag at one level."""

    names: list[str]
    """Of the classes."""
    truth: IntArray
    """(n,) class."""
    predicted: IntArray
    """(n,) class."""
    confidence: npt.NDArray[np.float32]
    """(n,) in [0, 1]."""


def accuracy_parts(run: Path) -> Iterator[Markup]:
    """Tag accuracy per level beside that of always naming the largest class."""
    quality = _tag_quality(run)
    accuracy, majority = quality["tag_accuracy"], quality["tag_majority_rate"]
    rows = [
        (str(level + 1), number(items), percent(accuracy[level]), percent(majority[level]))
        for level, items in enumerate(quality["tag_items"])
    ]
    header = ("level", "held-out items", "accuracy", "largest class alone")
    yield table(rows, header, numbers=range(1, 4))
    yield paragraph("Measured on items that the tokenizer never saw, on the IDs that it gave them.")


def confusion_parts(run: Path) -> Iterator[Markup]:
    """What the largest classes of each level are taken for."""
    _tag_quality(run)
    drawn = []
    mistakes = []
    for level, judged in judged_levels(run).items():
        classes, counts = confusion(judged.truth, judged.predicted, _LARGEST)
        names = [judged.names[tag] for tag in classes]
        grid = heatmap(
            f"confusion-{level + 1}", names, [*names, _OTHER], counts, x="predicted", y="known"
        )
        drawn.append((f"Level {level + 1}, its {len(names)} largest classes", grid))
        mistakes += [
            (str(level + 1), judged.names[known], judged.names[found], number(times))
            for known, found, times in most_frequent_mistakes(judged, _SHOWN_MISTAKES)
        ]
    yield figures(drawn)
    yield heading("Most frequent mistakes")
    header = ("level", "known", "predicted", "items")
    yield table(mistakes, header, numbers=(3,)) if mistakes else paragraph("None.")
    yield paragraph("Held-out items, with the tags of the IDs as written.")


def calibration_parts(run: Path) -> Iterator[Markup]:
    """Whether a confidence of 0.8 is right in 80 of 100 cases."""
    quality = _tag_quality(run)
    after = quality.get("tag_calibration_error")
    if after is None:
        raise DataError("these semantic IDs are older than calibration; run `hidvae tokenize`")
    before = quality["tag_calibration_error_before"]
    by_chance = quality.get("tag_calibration_error_by_chance", [None] * len(after))
    rows = [
        (str(level + 1), *(percent(column[level], 2) for column in (before, after, by_chance)))
        for level in range(len(after))
    ]
    header = ("level", "before temperatures", "after", "of true confidences")
    yield table(rows, header, numbers=(1, 2, 3))
    yield paragraph(
        "Expected calibration error on held-out items. After: each half is judged with the "
        "temperatures that the other half gave. Of so few items, confidences that are exactly true "
        "would show the last column by chance."
    )
    series: dict[str, tuple[list[float], list[float]]] = {"exact": ([0.0, 1.0], [0.0, 1.0])}
    for level, judged in judged_levels(run).items():
        bins = calibration_bins(judged.confidence, judged.predicted == judged.truth)
        series[f"level {level + 1}"] = (bins.confidence.tolist(), bins.accuracy.tolist())
    drawn = lines("reliability", series, x="confidence", y="share that is right")
    yield figures([("Confidence and accuracy in bins of equal width, IDs as written", drawn)])


def judged_levels(run: Path) -> dict[int, JudgedLevel]:
    """Held-out items by level; levels without any are left out.

    Raises:
        DataError: If no level has one: there are no tags, or nothing was held out.
    """
    folders = Run(run).folders(["dataset", "embeddings", "tags", "tokenizer", "semantic_ids"])
    ids = SemanticIds.load(folders["semantic_ids"])
    tags = load_tags(folders["tags"])
    is_held_out = load_held_out(folders["tokenizer"])
    levels = {}
    for level in range(min(ids.num_tag_levels, tags.ids.shape[1])):
        known, found = tags.ids[:, level], ids.tag_ids[:, level]
        judged = is_held_out & (known >= 0) & (found >= 0)
        if judged.any():
            levels[level] = JudgedLevel(
                tags.vocabulary.names[level],
                known[judged],
                found[judged],
                ids.tag_confidence[judged, level],
            )
    if not levels:
        raise DataError(
            "no held-out item has a known and a predicted tag (TokenizerConfig.held_out_fraction, "
            "TokenizerConfig.tag_prediction_weight, TagConfig.source)"
        )
    return levels


def _tag_quality(run: Path) -> Mapping[str, Any]:
    folder, quality = read_quality(run)
    if "ids_file" in folder.facts:
        raise DataError(
            f"the semantic IDs were taken from {folder.facts['ids_file']}, which predicts no tags"
        )
    return quality


def confusion(truth: IntArray, predicted: IntArray, most: int) -> tuple[list[int], IntArray]:
    """What the items of the largest classes are predicted to be.

    Args:
        truth: (n,) known class.
        predicted: (n,).
        most: Most classes.

    Returns:
        The C classes of most known items, largest first, and counts (C, C + 1): row c, of the items
        of class c, those predicted as each of the classes, and last as any other.
    """
    sizes = np.bincount(truth)
    classes = [int(c) for c in np.argsort(-sizes, kind="stable")[:most] if sizes[c]]
    place = np.full(max(int(truth.max()), int(predicted.max())) + 1, len(classes))
    place[classes] = np.arange(len(classes))
    counts = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    np.add.at(counts, (place[truth], place[predicted]), 1)
    return classes, counts[:-1]


def most_frequent_mistakes(judged: JudgedLevel, most: int) -> list[tuple[int, int, int]]:
    """Known class, predicted class, and number of items; most frequent first."""
    is_wrong = judged.truth != judged.predicted
    pairs = np.stack([judged.truth[is_wrong], judged.predicted[is_wrong]], axis=1)
    found, times = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-times, kind="stable")[:most]
    return [(int(found[i, 0]), int(found[i, 1]), int(times[i])) for i in order]
