"""The tags of a dataset by level: from RUN/tags, or from the category paths before there are any.

N items, L levels.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hidvae.apps.show.dataset_facts import Hierarchy, Level
from hidvae.data.schema import Columns
from hidvae.features.tags.vocabulary import TAGS_FILE, load_tags
from hidvae.store.artifacts import StageFolder

_SEPARATOR = "\x1f"  # no label holds it, while some hold " > "
_SOURCES = "tag_sources"
_NODES = {
    "id": pl.String,
    "parent": pl.String,
    "name": pl.String,
    "depth": pl.Int64,
    "count": pl.Int64,
}


def hierarchy_of_tags(folder: StageFolder) -> tuple[Hierarchy, pl.DataFrame]:
    """The tags that ``hidvae tag`` wrote.

    Returns:
        The levels, and the labels of the items: (N, L), null where a tag is unknown.

    Raises:
        ArtifactError: If the folder is damaged.
    """
    tags = load_tags(folder)
    sources = _count_sources(folder, tags.vocabulary.num_levels)
    levels, columns = [], []
    for level, (names, paths) in enumerate(
        zip(tags.vocabulary.names, tags.vocabulary.paths, strict=True)
    ):
        ids = tags.ids[:, level]
        counts = np.bincount(ids[ids >= 0], minlength=len(names)).astype(np.int64)
        classes = pl.DataFrame(
            {"path": paths, "name": names, "count": counts},
            schema_overrides={"path": pl.String, "name": pl.String},
        )
        levels.append(Level(f"level {level}", len(ids), _largest_first(classes), sources[level]))
        known = pl.Series(str(level), ids).set(pl.Series(ids < 0), None)
        columns.append(pl.Series(str(level), names, dtype=pl.String).gather(known))
    labels = pl.DataFrame(columns)
    return Hierarchy(is_made=True, levels=levels, nodes=_count_nodes(labels)), labels


def hierarchy_of_categories(items: pl.DataFrame) -> tuple[Hierarchy, pl.DataFrame]:
    """The category paths, every depth a level.

    Returns:
        The levels, and the labels of the items: (N, at least 1), null below a path's end.
    """
    path = pl.col(Columns.CATEGORIES)
    deepest = int(items.select(path.list.len().max()).item() or 0)
    labels = items.select(
        path.list.get(depth, null_on_oob=True).alias(str(depth))
        for depth in range(max(deepest, 1))  # with no path at all, one column of nulls
    )
    nodes = _count_nodes(labels)
    levels = []
    for depth in range(deepest):
        classes = nodes.filter(depth=depth).select(pl.col("id").alias("path"), "name", "count")
        levels.append(Level(f"depth {depth}", items.height, _largest_first(classes), {}))
    return Hierarchy(is_made=False, levels=levels, nodes=nodes), labels


def _count_nodes(labels: pl.DataFrame) -> pl.DataFrame:
    """Items of every path of labels and of each of its beginnings.

    Args:
        labels: (N, L) a column per depth; a path ends at its first null.
    """
    parts = [pl.DataFrame(schema=_NODES)]
    for depth in range(labels.width):
        prefix = labels.columns[: depth + 1]
        counted = labels.drop_nulls(prefix).group_by(prefix).agg(count=pl.len().cast(pl.Int64))
        parts.append(
            counted.select(
                id=pl.concat_str(prefix, separator=_SEPARATOR),
                parent=pl.concat_str(prefix[:-1], separator=_SEPARATOR) if depth else pl.lit(""),
                name=pl.col(prefix[-1]),
                depth=pl.lit(depth, pl.Int64),
                count=pl.col("count"),
            )
        )
    return pl.concat(parts).sort("depth", "count", "id", descending=[False, True, False])


def _count_sources(folder: StageFolder, num_levels: int) -> list[dict[str, int]]:
    """Items by what gave them their tag, per level; empty where the stage did not write it down."""
    frame = pl.read_parquet(folder.path / TAGS_FILE, glob=False)
    if _SOURCES not in frame.columns:
        return [{} for _ in range(num_levels)]
    counted = []
    for level in range(num_levels):
        source = pl.col(_SOURCES).list.get(level, null_on_oob=True).replace("", None)
        named = frame.select(source=source.fill_null("unknown"))
        by_source = named.group_by("source").len().sort("len", "source", descending=[True, False])
        counted.append(dict(by_source.rows()))
    return counted


def _largest_first(classes: pl.DataFrame) -> pl.DataFrame:
    return classes.sort("count", "path", descending=[True, False])
