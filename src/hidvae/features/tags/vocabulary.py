"""Tags by level: their names, paths and parents, and which tags each item carries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import safetensors
from safetensors.numpy import load_file, save_file

from hidvae.errors import ArtifactError
from hidvae.store.artifacts import StageFolder

TAGS_FILE = "tags.parquet"
VOCABULARY_FILE = "vocabulary.parquet"
TAG_EMBEDDINGS_FILE = "tag_embeddings.safetensors"
PATH_SEPARATOR = " > "
"""Between the labels of a tag's path."""
OTHER = "Other"
"""Label of the class that holds the tags of too few items."""
SOURCES = ("", "category", "cluster", "neighbours", "llm")
"""Who said which tag an item carries; "" where the tag is unknown."""


@dataclass(frozen=True)
class TagVocabulary:
    """The classes of every level; tag_id is the position in a level's list."""

    names: list[list[str]]
    """names[level][tag_id]: the label to show."""
    paths: list[list[str]]
    """paths[level][tag_id]: all labels from level 0 on, joined by " > "."""
    parents: list[np.ndarray]
    """parents[level]: (C_l,) int64, tag_id at level - 1; -1 at level 0 and for "Other"."""
    counts: list[np.ndarray]
    """counts[level]: (C_l,) int64, items that carry the tag."""

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.names)

    @property
    def sizes(self) -> list[int]:
        """Classes C_l of every level; 0 where nothing is known."""
        return [len(names) for names in self.names]

    def to_frame(self) -> pl.DataFrame:
        """One row per tag: level, tag_id, tag, path, parent_id, count."""
        sizes = self.sizes
        return pl.DataFrame(
            {
                "level": np.repeat(np.arange(len(sizes)), sizes),
                "tag_id": np.concatenate([np.arange(size) for size in sizes]),
                "tag": pl.Series([n for names in self.names for n in names], dtype=pl.String),
                "path": pl.Series([p for paths in self.paths for p in paths], dtype=pl.String),
                "parent_id": np.concatenate(self.parents),
                "count": np.concatenate(self.counts),
            }
        ).with_columns(pl.col("level", "tag_id", "parent_id", "count").cast(pl.Int64))

    def recounted(self, ids: np.ndarray) -> TagVocabulary:
        """The same tags, counted anew from the tags (N, L) that items carry."""
        counts = [
            np.bincount(column[column >= 0], minlength=size).astype(np.int64)
            for column, size in zip(ids.T, self.sizes, strict=True)
        ]
        return replace(self, counts=counts)

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, num_levels: int) -> TagVocabulary:
        """The inverse of ``to_frame``."""
        levels = [frame.filter(level=level).sort("tag_id") for level in range(num_levels)]
        return cls(
            names=[level["tag"].to_list() for level in levels],
            paths=[level["path"].to_list() for level in levels],
            parents=[level["parent_id"].to_numpy() for level in levels],
            counts=[level["count"].to_numpy() for level in levels],
        )

    @classmethod
    def empty(cls, num_levels: int) -> TagVocabulary:
        """A vocabulary without any tag."""
        levels = range(num_levels)
        return cls(
            names=[[] for _ in levels],
            paths=[[] for _ in levels],
            parents=[np.zeros(0, np.int64) for _ in levels],
            counts=[np.zeros(0, np.int64) for _ in levels],
        )


@dataclass(frozen=True)
class ItemTags:
    """The tags of every item, row = item_index."""

    ids: np.ndarray
    """(N, L) int64; -1 where the tag is unknown."""
    vocabulary: TagVocabulary
    embeddings: list[np.ndarray]
    """embeddings[level]: (C_l, D_tag) float32, vectors of the tags (of their paths' text)."""
    sources: np.ndarray | None = None
    """(N, L) int8, who said so, an index into ``SOURCES``; None in folders of older versions."""


def save_tags(tags: ItemTags, item_ids: list[str], folder: Path) -> None:
    """Write tags.parquet, vocabulary.parquet and tag_embeddings.safetensors."""
    frame = pl.DataFrame(
        {
            "item_id": pl.Series(item_ids, dtype=pl.String),
            "tag_ids": _as_lists(tags.ids.astype(np.int64)),
        }
    )
    if tags.sources is not None:
        names = pl.Series(SOURCES, dtype=pl.String)
        frame = frame.with_columns(
            tag_sources=_as_lists(tags.sources.astype(np.int64)).list.eval(
                pl.lit(names).gather(pl.element())
            )
        )
    frame.write_parquet(folder / TAGS_FILE)
    tags.vocabulary.to_frame().write_parquet(folder / VOCABULARY_FILE)
    tensors = {f"level_{level}": part for level, part in enumerate(tags.embeddings)}
    save_file(tensors, folder / TAG_EMBEDDINGS_FILE)


def load_tags(folder: StageFolder) -> ItemTags:
    """Read the folder that ``hidvae tag`` wrote.

    Raises:
        ArtifactError: If a file is damaged, or the files disagree.
    """
    num_levels = int(folder.facts["num_levels"])
    try:
        frame = pl.read_parquet(folder.path / TAGS_FILE, glob=False)
        vocabulary_frame = pl.read_parquet(folder.path / VOCABULARY_FILE, glob=False)
        tensors = load_file(folder.path / TAG_EMBEDDINGS_FILE)
        embeddings = [tensors[f"level_{level}"] for level in range(num_levels)]
    except (pl.exceptions.PolarsError, safetensors.SafetensorError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"{folder.path}: cannot be read ({reason[:200]}); run `hidvae tag` again"
        ) from error
    vocabulary = TagVocabulary.from_frame(vocabulary_frame, num_levels)
    ids = frame["tag_ids"].explode().to_numpy().reshape(frame.height, num_levels)
    found = [len(part) for part in embeddings]
    if vocabulary.sizes != found or (ids.max(axis=0, initial=-1) >= np.array(found)).any():
        raise ArtifactError(
            f"{folder.path}: expected tag vectors and ids of {vocabulary.sizes} classes; found "
            f"{found} vectors and ids up to {ids.max(axis=0, initial=-1).tolist()}; run "
            "`hidvae tag` again"
        )
    return ItemTags(ids, vocabulary, embeddings, _sources_of(frame, num_levels, folder))


def _as_lists(rows: np.ndarray) -> pl.Series:
    """(N, L) numbers as a column of lists."""
    return pl.Series(rows, dtype=pl.Array(pl.Int64, rows.shape[1])).arr.to_list()


def _sources_of(frame: pl.DataFrame, num_levels: int, folder: StageFolder) -> np.ndarray | None:
    if "tag_sources" not in frame.columns:
        return None
    names = frame["tag_sources"].explode()
    unknown = names.filter(~names.is_in(SOURCES))
    if len(names) != frame.height * num_levels or len(unknown):
        found = f"{unknown[0]!r}" if len(unknown) else f"{len(names)} names"
        raise ArtifactError(
            f"{folder.path / TAGS_FILE}, column tag_sources: expected {num_levels} of "
            f"{SOURCES} per item; found {found}; run `hidvae tag` again"
        )
    codes = names.replace_strict(list(SOURCES), range(len(SOURCES)), return_dtype=pl.Int8)
    return codes.to_numpy().reshape(frame.height, num_levels)
