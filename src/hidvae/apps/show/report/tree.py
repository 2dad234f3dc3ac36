"""A tree of items as nested areas, of tags or of codes."""

from __future__ import annotations

import polars as pl

from hidvae.apps.show.report.figures import treemap

MAX_TILES = 3000
"""More are too many to see, and make a page large."""


def tree(
    name: str, nodes: pl.DataFrame, root: str, size: int, *, root_id: str = "", max_depth: int = 3
) -> tuple[str, int]:
    """Draw a tree; its smallest nodes are left out where there are too many.

    Args:
        name: Of the figure, unique on its page.
        nodes: ``id``, ``parent`` (an id), ``name``, ``count`` and ``depth`` of each but the root.
        root: Name of the root.
        size: Items under the root.
        root_id: What its children call it.
        max_depth: Levels that are drawn at once.

    Returns:
        The figure, and how many nodes are not in it.
    """
    num_left_out = max(0, nodes.height - MAX_TILES)
    if num_left_out:
        # a parent is at least as large as its children, and comes first where it is as large
        nodes = nodes.sort("count", "depth", descending=[True, False], maintain_order=True).head(
            MAX_TILES
        )
    drawn = treemap(
        name,
        ["root", *(f"/{path}" for path in nodes["id"])],
        ["", *("root" if path == root_id else f"/{path}" for path in nodes["parent"])],
        [root, *nodes["name"]],
        [size, *nodes["count"]],
        max_depth=max_depth,
    )
    return drawn, num_left_out
