"""Which users a run shows recommendations for."""

from __future__ import annotations

from typing import NamedTuple

from hidvae.apps.show.formats import evenly_spread
from hidvae.data.prepare import Dataset


class ShownUser(NamedTuple):
    """A user, and what recommendations are made from."""

    name: str
    history: list[int]
    """item_index, oldest first."""
    target: int | None
    """What the user took next; None if the user is not tested."""


def users_to_show(dataset: Dataset, wanted: int) -> list[ShownUser]:
    """Up to ``wanted`` users of the test, spread over all; any where nobody is tested."""
    names, split = dataset.interactions.user_ids, dataset.split
    if not split.test_users.size:
        histories = dataset.interactions.sequences
        rows = evenly_spread(histories.num_users, wanted)
        return [ShownUser(names[row], histories[row].tolist(), None) for row in rows]
    return [
        ShownUser(
            names[split.test_users[row]],
            split.test_histories[row].tolist(),
            int(split.test_targets[row]),
        )
        for row in evenly_spread(split.test_users.size, wanted)
    ]
