"""Tags from the category path: level l of the tags is a prefix of the path.

Leading labels that say nothing (the root that every item shares) are skipped. By default the tag at
level l is the prefix of l + 1 labels that follows; explicit depths make longer steps. Either way
the tag at level l - 1 is a prefix of it, its parent by construction. Labels below the last level
are not used, and items with a shorter path have -1 from there on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import polars as pl

from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.errors import DataError
from hidvae.features.tags.vocabulary import OTHER, PATH_SEPARATOR, TagVocabulary

logger = logging.getLogger(__name__)

MAX_SINGLETONS = 200
"""Most classes of one item that a level may have; a tokenizer learns nothing from them."""
_NO_TAGS = pl.DataFrame(
    schema={
        "tag_id": pl.Int64,
        "tag": pl.String,
        "path": pl.String,
        "parent_id": pl.Int64,
        "count": pl.Int64,
    }
)


def tags_from_categories(
    catalogue: Catalogue,
    *,
    num_levels: int,
    depths: Sequence[int] = (),
    min_count: int = 1,
) -> tuple[np.ndarray, TagVocabulary]:
    """Tag ids of every item, and the vocabulary they index.

    Ids of a level run from 0 in the order of the paths. With ``min_count`` above 1, all tags of a
    level with fewer items are merged into one extra, last class "Other" (parent -1); their
    descendants are rarer still and end up in "Other" of their own level.

    Args:
        catalogue: N items; a path ends before its first null or blank label.
        num_levels: L.
        depths: L rising depths of the path that become levels (0 is the root); empty takes the
            first L on which items differ.
        min_count: Fewest items of a tag that stays on its own, at least 1.

    Returns: (N, L) int64 and the vocabulary.

    Raises:
        DataError: If no item has a category path, or none is as deep as ``depths``.
    """
    labels = _labels_by_depth(catalogue)
    _check_missing(labels, catalogue)
    start = num_constant_levels(labels)
    if depths:
        _check_depths(labels, depths)
        start = min(start, depths[0])
    ends = [depth + 1 for depth in depths] or [start + level + 1 for level in range(num_levels)]
    ids = np.full((catalogue.num_items, num_levels), -1, np.int64)
    levels = []
    for level, end in enumerate(ends):
        tags = _NO_TAGS
        if end <= labels.width:  # else no path is this deep
            prefix = labels.columns[start:end]
            if min_count == 1:  # else they are in "Other"
                labels = _without_many_singletons(labels, prefix, level)
            parent_ids = ids[:, level - 1] if level else ids[:, 0]
            ids[:, level], tags = _number_tags(labels, prefix, parent_ids, min_count)
        levels.append(tags.with_columns(level=pl.lit(level)))
    return ids, TagVocabulary.from_frame(pl.concat(levels), num_levels)


def has_categories(catalogue: Catalogue) -> bool:
    """Whether most items have a category path, not all the same, and not all of one item each."""
    labels = _labels_by_depth(catalogue)
    num_items = max(catalogue.num_items, 1)
    known = labels.drop_nulls("0")
    has_paths = labels.to_series(0).null_count() / num_items < 0.5
    if not has_paths or known.n_unique() < 2:
        return False
    first = known.columns[: num_constant_levels(labels) + 1]
    return known.select(first).n_unique() < known.height


def num_constant_levels(labels: pl.DataFrame) -> int:
    """Leading levels on which every item (that has a path) carries the same label.

    The deepest level of all is never counted: paths that are all alike keep one tag.

    Args:
        labels: One column per depth, null below an item's last label.
    """
    known = labels.filter(labels.to_series(0).is_not_null())
    depth = 0
    while depth < known.width - 1:
        column = known.to_series(depth)
        if column.null_count() or column.n_unique() > 1:
            break
        depth += 1
    return depth


def _labels_by_depth(catalogue: Catalogue) -> pl.DataFrame:
    """Column "0", "1", … per depth of the deepest path; null below an item's last label."""
    frame = catalogue.frame
    if Columns.CATEGORIES not in frame.columns:
        return pl.DataFrame({"0": pl.Series([None] * frame.height, dtype=pl.String)})
    path = pl.col(Columns.CATEGORIES)
    deepest = max(int(frame.select(path.list.len().max()).item() or 0), 1)
    labels = frame.select(
        path.list.get(depth, null_on_oob=True).str.strip_chars().replace("", None).alias(str(depth))
        for depth in range(deepest)
    )
    whole = [
        pl.when(pl.all_horizontal(pl.col(labels.columns[: depth + 1]).is_not_null())).then(
            pl.col(str(depth))
        )
        for depth in range(deepest)
    ]
    labels = labels.select(whole)
    kept = [name for name in labels.columns if labels[name].null_count() < labels.height]
    return labels.select(kept or ["0"])


def _check_missing(labels: pl.DataFrame, catalogue: Catalogue) -> None:
    missing = int(labels.to_series(0).null_count())
    if missing == catalogue.num_items:
        raise DataError(
            f"items column {Columns.CATEGORIES}: expected category paths to make tags from; found "
            f"none on any of {catalogue.num_items} items; use --set TagConfig.source=clusters "
            "(or none)"
        )
    if missing:
        logger.warning("%d of %d items have no category path", missing, catalogue.num_items)


def _check_depths(labels: pl.DataFrame, depths: Sequence[int]) -> None:
    if depths[-1] >= labels.width:
        raise DataError(
            f"TagConfig.depths: expected depths within the category paths, 0 to "
            f"{labels.width - 1} here; found {depths[-1]}; leave it out or choose a smaller one"
        )


def _without_many_singletons(
    labels: pl.DataFrame, prefix: Sequence[str], level: int
) -> pl.DataFrame:
    """Cut the paths of items that are alone in their class, if a level has too many such."""
    is_single = (pl.len().over(prefix) == 1) & pl.col(prefix[-1]).is_not_null()
    num_singles = int(labels.select(is_single.sum()).item())
    if num_singles <= MAX_SINGLETONS:
        return labels
    num_classes = labels.drop_nulls(prefix[-1]).select(prefix).n_unique()
    logger.warning(
        "tag level %d: expected at most %d classes of one item; found %d of %d classes; these "
        "items get no tag there or deeper (TagConfig.min_count=2 merges them instead)",
        level,
        MAX_SINGLETONS,
        num_singles,
        num_classes,
    )
    deeper = labels.columns[labels.columns.index(prefix[-1]) :]
    return labels.with_columns(
        pl.when(labels.select(is_single).to_series())
        .then(None)
        .otherwise(pl.col(deeper))
        .name.keep()
    )


def _number_tags(
    labels: pl.DataFrame, prefix: Sequence[str], parent_ids: np.ndarray, min_count: int
) -> tuple[np.ndarray, pl.DataFrame]:
    """Number the distinct prefixes of one level: (N,) tag ids, and a table row per tag."""
    rows = labels.select(
        *prefix, item=pl.int_range(pl.len()), parent_id=pl.Series(parent_ids, dtype=pl.Int64)
    ).drop_nulls(prefix[-1])
    tags = rows.group_by(prefix).agg(
        count=pl.len().cast(pl.Int64), parent_id=pl.col("parent_id").first()
    )
    kept = tags.filter(pl.col("count") >= min_count).sort(prefix)
    kept = kept.with_columns(tag_id=pl.int_range(pl.len(), dtype=pl.Int64))
    rows = rows.join(kept.select(*prefix, "tag_id"), on=prefix, how="left")
    tag_ids = np.full(len(parent_ids), -1, np.int64)
    tag_ids[rows["item"].to_numpy()] = rows["tag_id"].fill_null(kept.height).to_numpy()
    table = kept.select(
        "tag_id",
        pl.col(prefix[-1]).alias("tag"),
        pl.concat_str(prefix, separator=PATH_SEPARATOR).alias("path"),
        "parent_id",
        "count",
    )
    num_merged = rows["tag_id"].null_count()
    if num_merged:
        other = pl.DataFrame(
            [(kept.height, OTHER, OTHER, -1, num_merged)], table.schema, orient="row"
        )
        table = pl.concat([table, other])
    return tag_ids, table
