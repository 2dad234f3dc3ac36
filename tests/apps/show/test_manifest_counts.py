from __future__ import annotations

from hidvae.apps.show.dataset_facts import Count
from hidvae.apps.show.manifest_counts import read_counts

SIZES = {"users": 10, "items": 20, "events": 60}


def by_name(counts: list[Count]) -> dict[str, Count]:
    return {count.name: count for count in counts}


def test_every_number_is_shown_but_sizes_and_lengths() -> None:
    metrics = {
        "num_users": 10,
        "sequence_length_mean": 6.0,
        "num_odd_lines": 4,
        "mended_captions": 0,
        "seconds": 0.5,
        "broken_lines": 3,
        "tied_events": 6,
        "tied_test_targets": 2,
        "is_whole": True,
        "name": "demo",
        "levels": [1, 2],
    }
    counts, ties = read_counts(metrics, SIZES)
    assert [count.name for count in counts] == [
        "num_odd_lines",
        "mended_captions",
        "seconds",
        "broken_lines",
    ]
    assert [(count.name, count.share, count.whole) for count in ties] == [
        ("tied_events", 6 / 60, "events"),
        ("tied_test_targets", 2 / 10, "users"),
    ]


def test_what_was_dropped_is_a_share_of_what_was_read() -> None:
    metrics = {"dropped_events": 40, "duplicate_events": 10, "repeated_events": 15, "odd": 1}
    counts = by_name(read_counts(metrics, SIZES)[0])
    assert counts["dropped_events"].share == 40 / 100
    assert counts["duplicate_events"].share == 10 / 100
    assert counts["repeated_events"].share == 15 / 60
    assert counts["repeated_events"].meaning
    assert (counts["odd"].share, counts["odd"].meaning) == (None, "")


def test_nothing_of_nothing_has_no_share() -> None:
    counts, _ = read_counts({"dropped_users": 0}, {"users": 0, "items": 0, "events": 0})
    assert counts[0].share is None
