"""Tags by level: their names, paths and parents, and which tags each item carries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import safetensors
from safetensors.numpy import load_file, save_file

from hidvae.artifacts import StageFolder
from hidvae.errors import ArtifactError

TAGS_FILE = "tags.parquet"
VOCABULARY_FILE = "vocabulary.parquet"
TAG_EMBEDDINGS_FILE = "tag_embeddings.safetensors"
OTHER = "Other"
"""Label of the class that holds the tags of too few items."""


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
    """embeddings[level]: (C_l, D_tag) float32, text vectors of the tags' paths."""


def save_tags(tags: ItemTags, item_ids: list[str], folder: Path) -> None:
    """Write tags.parquet, vocabulary.parquet and tag_embeddings.safetensors."""
    frame = pl.DataFrame(
        {"item_id": pl.Series(item_ids, dtype=pl.String), "tag_ids": tags.ids.tolist()},
        schema_overrides={"tag_ids": pl.List(pl.Int64)},
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
        frame = pl.read_parquet(folder.path / TAGS_FILE)
        vocabulary_frame = pl.read_parquet(folder.path / VOCABULARY_FILE)
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
    return ItemTags(ids, vocabulary, embeddings)
