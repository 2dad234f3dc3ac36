"""Some users of the test: what they had, what is recommended, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from hidvae.apps.show.formats import evenly_spread, number, percent, short
from hidvae.apps.show.page import heading, paragraph, table
from hidvae.data.prepare import load_dataset
from hidvae.features.tags.vocabulary import PATH_SEPARATOR
from hidvae.ranking.explain import Recommendation
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run

_SHOWN_USERS = 5
_SHOWN_HISTORY = 5
_TOP_K = 5
_HEADER = ("", "recommended", "tags (confidence)", "probability", "per code", "reason")


def user_parts(run: Path) -> Iterator[Markup]:
    """The latest items of a few users, and their first recommendations."""
    dataset = load_dataset(Run(run).folder("dataset"))
    recommender = Recommender.load(run, "cpu")
    item_ids, titles = dataset.catalogue.item_ids, dataset.catalogue.titles
    split = dataset.split
    yield paragraph(
        "* is the item that the user took next. The probability is the generator's; the order is "
        "that of the score, to which the item graph adds."
    )
    for row in evenly_spread(split.test_histories.num_users, _SHOWN_USERS):
        history = split.test_histories[row].tolist()
        taken = int(split.test_targets[row])
        yield heading(f"User {dataset.interactions.user_ids[split.test_users[row]]}")
        latest = history[-_SHOWN_HISTORY:]
        yield paragraph(
            f"Latest {len(latest)} of {number(len(history))} items, oldest first: "
            + " · ".join(short(titles[item]) for item in latest)
        )
        found = recommender.recommend([item_ids[item] for item in history], _TOP_K)
        rows = [_row(rank, item, item_ids[taken]) for rank, item in enumerate(found, start=1)]
        yield table(rows, _HEADER, numbers=(3, 4))
        if item_ids[taken] not in {item.item_id for item in found}:
            yield paragraph(f"Taken next, and not among them: {short(titles[taken])}")


def _row(rank: int, item: Recommendation, taken: str) -> tuple[str, ...]:
    tags = [
        f"{tag} ({confidence:.2f})"
        for tag, confidence in zip(item.tag_path, item.tag_confidences, strict=True)
    ]
    return (
        f"{rank}{'*' if item.item_id == taken else ''}",
        f"{short(item.title)} ({item.item_id})",
        PATH_SEPARATOR.join(tags),
        percent(item.prob, 2),
        " ".join(f"{prob:.2f}" for prob in item.code_probs),
        item.reason,
    )
