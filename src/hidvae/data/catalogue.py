"""All items of a dataset: row i of the catalogue is item_index i everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hidvae.data.schema import Columns
from hidvae.errors import DataError

_TITLE_LENGTH = 80


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items and the map between item ids and row numbers."""

    frame: pl.DataFrame
    """item_id (String), categories (List[String], root first, null where unknown), and the rest."""

    @property
    def num_items(self) -> int:
        """Number of items N."""
        return self.frame.height

    @cached_property
    def item_ids(self) -> list[str]:
        """Outside name of each item; (N,)."""
        return self.frame[Columns.ITEM].to_list()

    @cached_property
    def titles(self) -> list[str]:
        """A name to show for each item: title, else keywords, else the start of text, else id."""
        candidates = [
            pl.col(column).cast(pl.String).str.slice(0, length)
            for column, length in (
                (Columns.TITLE, None),
                (Columns.KEYWORDS, None),
                (Columns.TEXT, _TITLE_LENGTH),
            )
            if column in self.frame.columns
        ]
        return self.frame.select(
            pl.coalesce(*candidates, pl.col(Columns.ITEM)).alias(Columns.TITLE)
        )[Columns.TITLE].to_list()

    def index_of(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Row numbers of items.

        Args:
            item_ids: (n,) outside names; repeats are fine.

        Returns:
            (n,) item_index in [0, N).

        Raises:
            DataError: If an id is not in the catalogue; names it and the nearest known one.
        """
        unknown = [item_id for item_id in item_ids if item_id not in self.positions]
        if unknown:
            raise DataError(
                f"expected item ids of the catalogue ({self.num_items} items); found "
                f"{len(unknown)} unknown, first {unknown[0]!r}{self.nearest(unknown[0])}"
            )
        return np.fromiter(
            (self.positions[item_id] for item_id in item_ids), np.int64, len(item_ids)
        )

    def nearest(self, item_id: str) -> str:
        """Advice that names the known id closest to a mistyped one."""
        if not self.item_ids:
            return ""
        close = difflib.get_close_matches(str(item_id), self.item_ids, n=1, cutoff=0.5)
        return f"; did you mean {close[0]!r}?" if close else f"; ids look like {self.item_ids[0]!r}"

    @cached_property
    def positions(self) -> dict[str, int]:
        """item_index of each item id."""
        return {item_id: index for index, item_id in enumerate(self.item_ids)}
