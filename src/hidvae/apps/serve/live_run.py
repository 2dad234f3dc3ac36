"""The run being served: one immutable snapshot of it at a time, swapped when something changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.apps.serve.catalogue_view import CatalogueView
from hidvae.data.catalogue import Catalogue
from hidvae.data.interactions import count_items
from hidvae.errors import DataError, HidvaeError
from hidvae.ranking.item_changes import version_on_disk
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.run.stages import SERVED_FROM
from hidvae.store.artifacts import MANIFEST

logger = logging.getLogger(__name__)

_STAGES = ("tokenizer", *SERVED_FROM)


class NotFound(DataError):
    """A request names an item or a user that is not there."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state of the run: a request works to its end on the one that it began with."""

    recommender: Recommender

    @property
    def version(self) -> int:
        """Of the catalogue."""
        return self.recommender.version

    @property
    def catalogue(self) -> Catalogue:
        """The items there are, and those that were removed."""
        return self.recommender.catalogue

    @cached_property
    def view(self) -> CatalogueView:
        """The items there are, to look at."""
        train = self.recommender.dataset.split.train
        popularity = count_items(train, self.catalogue.num_items)
        return CatalogueView(self.recommender, self.recommender.content, popularity)

    def has(self, item_id: str) -> bool:
        """Whether there is such an item, and it was not removed."""
        item = self.catalogue.positions.get(item_id)
        return item is not None and bool(self.recommender.allowed[item])

    def index_of(self, item_id: str) -> int:
        """item_index of an item.

        Raises:
            NotFound: If there is none. Does not look for the nearest, which is slow.
        """
        if not self.has(item_id):
            raise NotFound(
                f"expected an item of the catalogue; found {item_id!r}; GET /items?q= searches"
            )
        return self.catalogue.positions[item_id]

    def history_of(self, user_id: str) -> list[str]:
        """Item ids of all events of a user of the dataset, oldest first.

        Raises:
            NotFound: If there is no such user.
        """
        interactions = self.recommender.dataset.interactions
        if user_id not in self._user_index:
            raise NotFound(
                f"expected a user of the dataset ({len(interactions.user_ids)} users, such as "
                f"{interactions.user_ids[0]!r}); found {user_id!r}; give a history instead"
            )
        events = interactions.sequences[self._user_index[user_id]]
        return [self.catalogue.item_ids[item] for item in events.tolist()]

    def some_users(self, most: int) -> tuple[int, list[dict[str, Any]]]:
        """How many users there are, and some spread evenly over them, as ``KnownUser``."""
        interactions = self.recommender.dataset.interactions
        total = len(interactions.user_ids)
        rows = np.linspace(0, total - 1, min(most, total)).round().astype(np.int64)
        lengths = interactions.sequences.lengths
        return total, [
            {"user_id": interactions.user_ids[row], "num_events": int(lengths[row])}
            for row in rows.tolist()
        ]

    @cached_property
    def _user_index(self) -> dict[str, int]:
        users = self.recommender.dataset.interactions.user_ids
        return {user_id: row for row, user_id in enumerate(users)}

    def prepare(self) -> Snapshot:
        """Make now what the first requests would otherwise wait for."""
        self.view.search("a", None, 1, 0)
        self._user_index  # noqa: B018
        self.recommender.recommend(self.catalogue.item_ids[:1], 1)
        return self


class LiveRun:
    """Holds the current snapshot of a run's folder.

    ``current`` may be read by any thread; everything else is for one thread at a time.
    """

    def __init__(self, run: Path, device: str = "auto") -> None:
        """Load a run.

        Raises:
            NotTrainedError: If a stage has not been run.
            ArtifactError: If a stage is damaged, or made from other inputs than those there.
        """
        self.run = run
        self.device = device
        self.reload()

    def reload(self) -> None:
        """Take up what is on the disk.

        Raises:
            NotTrainedError, ArtifactError: As above; the snapshot then stays.
        """
        stages = self._stages_on_disk()
        self.current = Snapshot(Run(self.run, self.device).recommender).prepare()
        self._stages = stages

    def load_encoders(self) -> None:
        """Load now what the first change would wait for: a change that is thrown away."""
        recommender = self.current.recommender
        item = recommender.catalogue.frame[self.current.view.by_popularity[:1]]
        try:
            recommender.update_items(item)
        except DataError:
            logger.debug("vectors come from a file: each changed item brings its own")
        except HidvaeError as error:  # such as an encoder that may not be loaded
            logger.warning("items cannot be added: %s", error)

    def is_outdated(self) -> bool:
        """Whether the run was trained again, or somebody else has changed items."""
        is_retrained = self._stages_on_disk() != self._stages
        return is_retrained or version_on_disk(self.run) != self.current.version

    def change(self, change: Callable[[Snapshot], Recommender]) -> int:
        """Change items, on the disk and then here; the new version.

        Args:
            change: Makes the new recommender.

        Raises:
            ArtifactError: If it cannot be written; nothing is changed then.
        """
        if self.is_outdated():
            self.reload()
        snapshot = Snapshot(change(self.current)).prepare()
        snapshot.recommender.save_changes()
        self.current = snapshot
        return snapshot.version

    def _stages_on_disk(self) -> list[tuple[int, int] | None]:
        """Of each stage when and as which file its manifest was written."""
        found: list[tuple[int, int] | None] = []
        for stage in _STAGES:
            try:
                status = (self.run / stage / MANIFEST).stat()
                found.append((status.st_mtime_ns, status.st_ino))
            except FileNotFoundError:
                found.append(None)
        return found
