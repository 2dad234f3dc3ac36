"""Tables of odd types and values come to a dataset, or to one clear line."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.prepare import Assembled, assemble
from hidvae.data.sources.frames import tables_from
from hidvae.errors import HidvaeError

TEXTS = st.sampled_from(
    ["", " ", "a", "b", "A", "1", "01", "1.0", "2.0", "NA", "null", "[]", "[1]", "['a' 'b']", "{}"]
    + [
        "a > b",
        "a, b",
        "b, a",
        "a/b",
        "a|b > c",
        ">",
        ",",
        "[[",
        '[{"name": "x"}]',
        "nan",
        "\x1b[1m",
    ]
    + ["2014-01-03", "03/01/2014", "13/01/2014", "1600000000", "1e300", "yesterday", "١", "&gt;"]
)
NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 16_000_000_00, 2**40, 2**53, 2**62])
FLOATS = st.sampled_from([0.0, 1.0, 1.5, -1.0, float("nan"), float("inf"), 2.0**53, 1e300])
KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.String, TEXTS),
    (pl.Categorical, TEXTS),
    (pl.Int64, NUMBERS),
    (pl.UInt8, st.integers(0, 3)),
    (pl.Float64, FLOATS),
    (pl.Float32, st.sampled_from([0.0, 1.0, 2.0**24, float("nan")])),
    (pl.Decimal(10, 2), st.sampled_from([Decimal("1.00"), Decimal("2.50")])),
    (pl.Boolean, st.booleans()),
    (pl.Binary, st.sampled_from([b"a", b"\xff"])),
    (pl.Date, st.dates(datetime.date(1960, 1, 1), datetime.date(2030, 1, 1))),
    (pl.Datetime("us"), st.datetimes(datetime.datetime(1960, 1, 1))),
    (pl.Datetime("ns", "UTC"), st.just(datetime.datetime(2014, 1, 3, tzinfo=datetime.UTC))),
    (pl.Time, st.times()),
    (pl.Duration, st.timedeltas(datetime.timedelta(0), datetime.timedelta(9))),
    (pl.Null, st.none()),
    (pl.List(pl.String), st.lists(st.none() | TEXTS, max_size=3)),
    (pl.Array(pl.Int64, 2), st.lists(NUMBERS, min_size=2, max_size=2)),
    (pl.List(pl.List(pl.String)), st.lists(st.lists(TEXTS, max_size=2), max_size=2)),
    (pl.List(pl.List(pl.List(pl.Int64))), st.just([[[1]], []])),
    (pl.Struct({"name": pl.String, "n": pl.Int64}), st.just({"name": "a", "n": 1})),
    (pl.Struct([]), st.just({})),
    (pl.List(pl.Struct({"name": pl.String})), st.just([{"name": "a"}, {"name": None}])),
    (pl.List(pl.Struct([])), st.just([{}])),
]
PLAIN = KINDS[:3]
LOG_NAMES = ("user_id", "item_id", "timestamp", "position", "userId", "date", "asin", "session_id")
ITEM_NAMES = ("item_id", "title", "categories", "price", "keywords", "category_1", "category_2")
ITEM_NAMES += ("name", "genres", "other", "description", "brand", "text", "id")


@st.composite
def tables(draw: st.DrawFn, names: tuple[str, ...], needed: tuple[str, ...]) -> pl.DataFrame:
    height = draw(st.integers(1, 12))
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=5))
    columns = []
    for name in {**dict.fromkeys(needed), **dict.fromkeys(chosen)}:
        kinds = PLAIN if name in needed and draw(st.booleans()) else KINDS
        dtype, values = draw(st.sampled_from(kinds))
        cells = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        columns.append(pl.Series(name, cells, dtype, strict=False))
    return pl.DataFrame(columns)


def outcome(config: DatasetConfig, items: pl.DataFrame | None, log: pl.DataFrame) -> Any:
    notes = Notes()
    try:
        made = assemble(tables_from(items, log, config), config, notes)
    except HidvaeError as error:
        assert "\n" not in str(error)
        return str(error)
    for decision in notes.decisions:
        assert "\n" not in decision.said
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.none() | tables(ITEM_NAMES, ("item_id",)),
    tables(LOG_NAMES, ("user_id", "item_id")),
    st.sampled_from(
        [
            DatasetConfig(),
            DatasetConfig(match_ids="loose", category_separator="/"),
            DatasetConfig(strict=True),
            DatasetConfig(time_format="%d/%m/%Y", min_events=2),
            DatasetConfig(events_where=("user_id != a",)),
        ]
    ),
)
def test_any_tables_come_to_a_dataset_or_one_line(
    items: pl.DataFrame | None, log: pl.DataFrame, config: DatasetConfig
) -> None:
    made = outcome(config, items, log)
    if not isinstance(made, Assembled):
        return
    counted = made.metrics
    assert counted["num_events"] + counted["dropped_events"] == log.height or config.events_where
    assert made.items.schema["categories"] == pl.List(pl.String)
    made.items.write_parquet(io.BytesIO())
    titles = made.items.select(pl.col("title")) if "title" in made.items.columns else None
    assert titles is None or titles.schema["title"] == pl.String
