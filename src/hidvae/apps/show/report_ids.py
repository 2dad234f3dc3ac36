"""The semantic IDs of a run: codebooks, collisions, tags, purity, and the tree they form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from hidvae.apps.show.figures import lines, tree
from hidvae.apps.show.formats import NOTHING, level_value, number, percent, short
from hidvae.apps.show.page import figures, paragraph, table
from hidvae.data.prepare import load_dataset
from hidvae.features.tags.vocabulary import TagVocabulary, load_tags
from hidvae.run.run import Run
from hidvae.semantic_ids.table import LEVEL_LETTERS, SemanticIds
from hidvae.store.artifacts import StageFolder, read_json
from hidvae.tokenizer.encode import QUALITY

_LONGEST_NAME = 40


def codebook_parts(run: Path) -> Iterator[Markup]:
    """How many codes of each level are in use, and how evenly."""
    folder, quality = read_quality(run)
    codes = SemanticIds.load(folder).codes
    rows = [
        (
            str(level + 1),
            number(size),
            percent(quality["codebook_usage"][level]),
            number(quality["dead_codes"][level]),
            f"{quality['perplexity'][level]:.1f}",
            f"{quality['code_entropy'][level]:.3f}",
        )
        for level, size in enumerate(quality["level_sizes"])
    ]
    header = ("level", "codes", "in use", "never used", "perplexity", "entropy (nats)")
    yield table(rows, header, numbers=range(1, 6))
    taken = {}
    for level in range(codes.shape[1]):
        falling = np.sort(np.bincount(codes[:, level]))[::-1]
        falling = falling[falling > 0]
        taken[f"level {level + 1}"] = (np.arange(1, falling.size + 1), falling)
    drawn = lines("codes", taken, x="rank of the code", y="items", log_y=True)
    yield figures([("Items of each code, in the IDs as written", drawn)])


def collision_parts(run: Path) -> Iterator[Markup]:
    """IDs that items shared as the tokenizer gave them, and as they were written."""
    folder, quality = read_quality(run)
    groups = np.unique(SemanticIds.load(folder).codes, axis=0, return_counts=True)[1]
    before, after = quality["collision_rate_before"], quality["collision_rate_after"]
    rows = [
        ("collision rate", percent(before, 2), percent(after, 2)),
        ("different IDs", number(quality["num_ids"]), number(groups.size)),
        (
            "items that share an ID",
            number(quality["num_colliding_items"]),
            number(int(groups[groups > 1].sum())),
        ),
        (
            "items of the most shared ID",
            number(quality["largest_collision"]),
            number(int(groups.max())),
        ),
    ]
    yield table(rows, ("", "before", "after"), numbers=(1, 2))
    yield paragraph(
        f"Of {number(quality['num_items'])} items, {number(quality['items_moved'])} were given "
        "other codes than the tokenizer's."
    )


def purity_parts(run: Path) -> Iterator[Markup]:
    """How far the items under one prefix agree on their tag."""
    folder, quality = read_quality(run)
    codes = SemanticIds.load(folder).codes
    levels = Run(run).folder("tags").metrics["levels"]
    rows = []
    for level, purity in enumerate(quality["prefix_purity"]):
        tagged = level_value(levels, level) or {}
        num_prefixes = len(np.unique(codes[:, : level + 1], axis=0))
        rows.append(
            (
                str(level + 1),
                number(num_prefixes),
                number(tagged.get("classes")),
                percent(purity),
                percent(tagged.get("majority_share")),
            )
        )
    header = ("level", "prefixes", "tags", "purity", "largest tag alone")
    yield table(rows, header, numbers=range(1, 5))
    yield paragraph(
        "Purity is the share of the items whose tag is the most frequent one under their prefix. "
        "An item alone under its prefix is pure by itself, so read deep levels together with the "
        "number of prefixes."
    )


def tree_parts(run: Path) -> Iterator[Markup]:
    """The items by their codes, each code with the tag that it stands for."""
    folders = Run(run).folders(["dataset", "embeddings", "tags", "semantic_ids"])
    ids = SemanticIds.load(folders["semantic_ids"])
    titles = load_dataset(folders["dataset"]).catalogue.titles
    nodes = code_nodes(ids, load_tags(folders["tags"]).vocabulary, titles)
    caption = "Items by coarsest tag, then by code and the tag it predicts; a click opens a tile"
    yield figures([tree("ids", caption, nodes, "all items", ids.num_items)])


def code_nodes(ids: SemanticIds, tags: TagVocabulary, titles: Sequence[str]) -> pl.DataFrame:
    """Coarsest predicted tags, under them every prefix of an ID, as ``tree`` wants it.

    Args:
        ids: N items; a whole ID is called as its item.
        tags: Names of the tags, which stand beside the codes that predict them.
        titles: N.
    """
    paths = [""] * ids.num_items
    levels = []
    if ids.num_tag_levels:
        roots = [f"tag {tag} " for tag in ids.tag_ids[:, 0].tolist()]
        levels.append(_nodes_of_level(roots, paths, _tags_at(ids, tags, 0)))
        paths = roots
    for level in range(ids.num_levels):
        letter = LEVEL_LETTERS[level]
        codes = [f"<{letter}_{code}>" for code in ids.codes[:, level].tolist()]
        is_item = level == ids.num_levels - 1
        said = titles if is_item else _tags_at(ids, tags, level)
        names = [f"{code} {name}" for code, name in zip(codes, said, strict=True)]
        longer = [path + code for path, code in zip(paths, codes, strict=True)]
        levels.append(_nodes_of_level(longer, paths, names))
        paths = longer
    return pl.concat(
        [nodes.with_columns(depth=pl.lit(depth)) for depth, nodes in enumerate(levels)]
    )


def read_quality(run: Path) -> tuple[StageFolder, Mapping[str, Any]]:
    """The stage folder ``semantic_ids``, and its ``quality.json``."""
    folder = Run(run).folder("semantic_ids")
    return folder, read_json(folder.path / QUALITY)


def _nodes_of_level(
    paths: Sequence[str], parents: Sequence[str], names: Sequence[str]
) -> pl.DataFrame:
    """A row per different path, from the items' paths, in the order of the items."""
    shown = [short(name or NOTHING, _LONGEST_NAME) for name in names]
    return (
        pl.DataFrame({"id": paths, "parent": parents, "name": shown})
        .group_by("id", maintain_order=True)
        .agg(pl.first("parent", "name"), count=pl.len().cast(pl.Int64))
    )


def _tags_at(ids: SemanticIds, tags: TagVocabulary, level: int) -> list[str]:
    """(N,) names of the predicted tags at a level, empty where there is none."""
    if level >= ids.num_tag_levels:
        return [""] * ids.num_items
    predicted = ids.tag_ids[:, level].tolist()
    return [tags.names[level][tag] if tag >= 0 else "" for tag in predicted]
