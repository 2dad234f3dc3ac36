"""The numbers that ``hidvae prepare`` wrote into its manifest, with what they are a share of.

A name that is not known here is shown as it is: sources count what they like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hidvae.apps.show.dataset_facts import Count

_KNOWN = {
    "dropped_users": ("users read", "left out with all their events"),
    "dropped_items": ("items read", "left out by the k-core or as repeated rows"),
    "dropped_events": ("events read", "left out, for all reasons together"),
    "unknown_item_events": ("events read", "their item is not in the catalogue"),
    "duplicate_events": ("events read", "same user, item and time as another"),
    "repeated_events": ("events", "the user had the item before"),
    "items_without_events": ("items", "nobody took them: cold items"),
    "items_without_categories": ("items", "no category path"),
    "broken_lines": ("", "lines of the files that could not be read"),
    "duplicate_items": ("", "rows that repeat an item id"),
    "tied_events": ("events", "share their time with another event of the user"),
    "tied_validation_targets": ("users", "the tie rule decides which event they are"),
    "tied_test_targets": ("users", "the tie rule decides which event they are"),
}
_TIES = "tied_"
_SIZES = ("num_users", "num_items", "num_events")
_LENGTHS = "sequence_length_"


def read_counts(
    metrics: Mapping[str, Any], sizes: Mapping[str, int]
) -> tuple[list[Count], list[Count]]:
    """Every number of the manifest but the sizes and lengths, which have sections of their own.

    Args:
        metrics: The stage's metrics.
        sizes: users, items and events that are left.

    Returns:
        The numbers in the manifest's order; those about ties apart.
    """
    wholes = dict(sizes)
    for name, size in sizes.items():
        wholes[f"{name} read"] = size + int(metrics.get(f"dropped_{name}", 0))
    counts = []
    for name, value in metrics.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or name in _SIZES or name.startswith(_LENGTHS):
            continue
        whole, meaning = _KNOWN.get(name, ("", ""))
        share = value / wholes[whole] if wholes.get(whole) else None
        counts.append(Count(name, value, share, whole if share is not None else "", meaning))
    ties = [count for count in counts if count.name.startswith(_TIES)]
    return [count for count in counts if not count.name.startswith(_TIES)], ties
