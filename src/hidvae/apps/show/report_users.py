"""Some users of the test: what they had, what is recommended, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from hidvae.apps.show.formats import number, percent, short
from hidvae.apps.show.page import heading, paragraph, table
from hidvae.apps.show.shown_users import users_to_show
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
    is_tested = dataset.split.test_users.size > 0
    yield paragraph(
        ("* is the item that the user took next. " if is_tested else "Nobody is tested. ")
        + "The probability is the generator's; the order is "
        "that of the score, to which the item graph adds."
    )
    for name, history, target in users_to_show(dataset, _SHOWN_USERS):
        yield heading(f"User {name}")
        latest = history[-_SHOWN_HISTORY:]
        yield paragraph(
            f"Latest {len(latest)} of {number(len(history))} items, oldest first: "
            + " · ".join(short(titles[item]) for item in latest)
        )
        found = recommender.recommend([item_ids[item] for item in history], _TOP_K)
        taken = None if target is None else item_ids[target]
        rows = [_row(rank, item, taken) for rank, item in enumerate(found, start=1)]
        yield table(rows, _HEADER, numbers=(3, 4))
        if target is not None and taken not in {item.item_id for item in found}:
            yield paragraph(f"Taken next, and not among them: {short(titles[target])}")


def _row(rank: int, item: Recommendation, taken: str | None) -> tuple[str, ...]:
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
