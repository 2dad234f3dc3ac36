"""The table of semantic IDs: what the tokenizer hands to the retriever and to every reader.

It holds codes and predicted tags by item_index. It does not know how they were made, nor the
names of the tags.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from hidvae.errors import ArtifactError, DataError, ShapeError
from hidvae.semantic_ids.collisions import collision_rate
from hidvae.store.artifacts import StageFolder

FILE = "semantic_ids.parquet"
LEVEL_LETTERS = string.ascii_lowercase
"""Letter of each level in a code's text: level 0, code 12 is ``<a_12>``."""


@dataclass(frozen=True, eq=False)
class SemanticIds:
    """Semantic ID and predicted tags of every item; row i is item_index i.

    Raises:
        ShapeError: If the arrays disagree on the number of items or levels.
        DataError: If an item is there twice, or a code, tag or confidence is out of range.
    """

    item_ids: list[str]
    """N names, all different."""
    codes: npt.NDArray[np.int64]
    """(N, M); level l in [0, level_sizes[l])."""
    level_sizes: tuple[int, ...]
    """M sizes."""
    tag_ids: npt.NDArray[np.int64]
    """(N, L) predicted tag per level, −1 for none; L may be 0."""
    tag_confidence: npt.NDArray[np.float32]
    """(N, L) probability of that tag, in [0, 1]."""
    is_disambiguated: bool = False
    """Whether the last code only numbers the items that share the codes before it."""

    def __post_init__(self) -> None:
        for name, dtype in (("codes", np.int64), ("tag_ids", np.int64)):
            array = np.asarray(getattr(self, name))
            if not np.issubdtype(array.dtype, np.integer):
                raise DataError(f"{name}: expected integers; found {array.dtype}; cast them first")
            object.__setattr__(self, name, array.astype(dtype, copy=False))
        confidence = np.asarray(self.tag_confidence, dtype=np.float32)
        object.__setattr__(self, "tag_confidence", confidence)
        object.__setattr__(self, "level_sizes", tuple(int(size) for size in self.level_sizes))
        self._check_shapes()
        self._check_values()

    @classmethod
    def without_tags(
        cls,
        item_ids: Sequence[str],
        codes: npt.NDArray[np.integer],
        level_sizes: Sequence[int],
        *,
        is_disambiguated: bool = False,
    ) -> SemanticIds:
        """IDs of a tokenizer that predicts no tags: ``tag_ids`` is (N, 0)."""
        no_tags = np.empty((len(item_ids), 0), dtype=np.int64)
        return cls(
            list(item_ids),
            np.asarray(codes),
            tuple(level_sizes),
            no_tags,
            no_tags.astype(np.float32),
            is_disambiguated,
        )

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item_ids)

    @property
    def num_levels(self) -> int:
        """M, codes per ID; a disambiguation code counts."""
        return len(self.level_sizes)

    @property
    def num_tag_levels(self) -> int:
        """L, predicted tags per item."""
        return int(self.tag_ids.shape[1])

    @property
    def is_unique(self) -> bool:
        """Whether no two items share an ID."""
        return collision_rate(self.codes) == 0.0

    def strings(self, item_index: int) -> list[str]:
        """Text of an item's codes, such as ``["<a_12>", "<b_3>"]``."""
        return [
            f"<{letter}_{code}>"
            for letter, code in zip(LEVEL_LETTERS, self.codes[item_index].tolist(), strict=False)
        ]

    def facts(self) -> dict[str, Any]:
        """What the stage's manifest must hold for ``load`` and for the next stages."""
        return {
            "num_items": self.num_items,
            "num_levels": self.num_levels,
            "level_sizes": list(self.level_sizes),
            "num_tag_levels": self.num_tag_levels,
            "is_disambiguated": self.is_disambiguated,
        }

    def save(self, folder: Path) -> None:
        """Write ``semantic_ids.parquet``; put ``facts()`` into the stage's manifest yourself."""
        frame = pl.DataFrame(
            {
                "item_id": pl.Series(self.item_ids, dtype=pl.String),
                "codes": list_column(self.codes),
                "tag_ids": list_column(self.tag_ids),
                "tag_confidence": list_column(self.tag_confidence),
            }
        )
        frame.write_parquet(folder / FILE)

    @classmethod
    def load(cls, folder: StageFolder) -> SemanticIds:
        """Read the table that ``save`` wrote into a stage.

        Raises:
            ArtifactError: If the file is missing or damaged or disagrees with the manifest.
        """
        path, facts = folder.path / FILE, folder.facts
        missing = {"num_levels", "level_sizes", "num_tag_levels", "is_disambiguated"} - set(facts)
        if missing:
            raise ArtifactError(
                f"{folder.path}: the manifest lacks the fact {min(missing)}; "
                "run `hidvae tokenize` again"
            )
        try:
            frame = pl.read_parquet(path, glob=False)
            return cls(
                frame["item_id"].to_list(),
                _matrix(frame["codes"], facts, "num_levels", np.dtype(np.int64)),
                tuple(facts["level_sizes"]),
                _matrix(frame["tag_ids"], facts, "num_tag_levels", np.dtype(np.int64)),
                _matrix(frame["tag_confidence"], facts, "num_tag_levels", np.dtype(np.float32)),
                bool(facts["is_disambiguated"]),
            )
        except (OSError, pl.exceptions.PolarsError, ShapeError, DataError) as error:
            raise ArtifactError(
                f"{path}: cannot be read ({' '.join(str(error).split())}); "
                "run `hidvae tokenize` again"
            ) from error

    def _check_shapes(self) -> None:
        items, levels = len(self.item_ids), len(self.level_sizes)
        if not 1 <= levels <= len(LEVEL_LETTERS):
            raise ShapeError(
                f"level_sizes: expected 1 to {len(LEVEL_LETTERS)} levels; found {levels}"
            )
        if self.codes.shape != (items, levels):
            raise ShapeError(
                f"codes: expected ({items}, {levels}), items by levels; found {self.codes.shape}"
            )
        if self.tag_ids.ndim != 2 or len(self.tag_ids) != items:
            raise ShapeError(f"tag_ids: expected ({items}, L); found {self.tag_ids.shape}")
        if self.tag_confidence.shape != self.tag_ids.shape:
            raise ShapeError(
                f"tag_confidence: expected {self.tag_ids.shape} like tag_ids; found "
                f"{self.tag_confidence.shape}"
            )

    def _check_values(self) -> None:
        if len(set(self.item_ids)) != self.num_items:
            names = pl.Series(self.item_ids, dtype=pl.String)
            twice = names.filter(names.is_duplicated())[0]
            raise DataError(f"item_ids: expected every item once; found {twice!r} more than once")
        if min(self.level_sizes) < 1:
            raise DataError(f"level_sizes: expected at least 1 each; found {self.level_sizes}")
        _check_range("codes", self.codes, np.array(self.level_sizes), self.item_ids)
        no_limit = np.full(self.num_tag_levels, np.iinfo(np.int64).max)
        _check_range("tag_ids", self.tag_ids, no_limit, self.item_ids, lowest=-1)
        confidence = self.tag_confidence
        wrong = np.argwhere(~((confidence >= 0) & (confidence <= 1)))  # also NaN
        if len(wrong):
            row, level = wrong[0]
            raise DataError(
                f"tag_confidence of item {self.item_ids[row]!r}, level {level}: expected a number "
                f"in [0, 1]; found {confidence[row, level]}"
            )


def list_column(matrix: npt.NDArray[Any]) -> pl.Series:
    """A (N, M) matrix as a Polars list column; M may be 0."""
    dtype = pl.Int64 if np.issubdtype(matrix.dtype, np.integer) else pl.Float32
    if matrix.size == 0:
        return pl.Series([[]], dtype=pl.List(dtype)).new_from_index(0, len(matrix))
    return pl.Series(np.ascontiguousarray(matrix)).cast(pl.List(dtype))


def _matrix(
    column: pl.Series, facts: Mapping[str, Any], width_fact: str, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """A list column as (N, width); ArtifactError-worthy differences raise ShapeError."""
    width = cast(int, facts[width_fact])
    lengths = column.list.len()
    if len(column) and not (lengths == width).all():
        raise ShapeError(f"{column.name}: expected {width_fact} = {width} values in every row")
    if width == 0 or len(column) == 0:
        return np.empty((len(column), width), dtype=dtype)
    values = column.explode()
    if values.null_count():
        raise DataError(f"{column.name}: expected no missing values; found {values.null_count()}")
    return values.to_numpy().astype(dtype, copy=False).reshape(len(column), width)


def _check_range(
    name: str,
    values: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    item_ids: Sequence[str],
    lowest: int = 0,
) -> None:
    wrong = np.argwhere((values < lowest) | (values >= sizes))
    if len(wrong):
        row, level = wrong[0]
        raise DataError(
            f"{name} of item {item_ids[row]!r}, level {level}: expected an integer in "
            f"[{lowest}, {sizes[level]}); found {values[row, level]}; use the table and the sizes "
            "of one tokenizer"
        )
