from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.prepare import load_dataset
from hidvae.data.sources.frames import tables_from
from hidvae.errors import ConfigError, DataError, HidvaeError, MissingExtraError
from hidvae.store.artifacts import is_current

ITEMS = pl.DataFrame(
    {"item_id": ["a", "b", "c"], "title": ["x", None, "z"], "categories": [["p", "q"], None, ["r"]]}
)
LOG = pl.DataFrame({"user_id": [*"uuuvvv"], "item_id": [*"abcacb"], "timestamp": range(6)})


def as_pandas(frame: pl.DataFrame) -> Any:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    return frame.to_pandas()


FORMS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "frame": lambda frame, path: frame,
    "lazy": lambda frame, path: frame.lazy(),
    "pandas": lambda frame, path: as_pandas(frame),
    "Path": lambda frame, path: frame.write_parquet(path) or path,
    "str": lambda frame, path: (
        frame.write_ndjson(path.with_suffix(".jsonl")) or str(path.with_suffix(".jsonl"))
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_dataset(form: str, tmp_path: Path) -> None:
    items, log = (
        FORMS[form](frame, tmp_path / f"{name}.parquet")
        for name, frame in (("my_items", ITEMS), ("my_log", LOG))
    )
    made = prepare(DatasetConfig(), tmp_path / "dataset", tables_from(items, log, name="shop"))
    dataset = load_dataset(made)
    assert dataset.name == "shop"
    assert dataset.catalogue.frame["categories"].to_list() == ITEMS["categories"].to_list()
    assert dataset.catalogue.frame["title"].to_list() == ITEMS["title"].to_list()
    assert dataset.interactions.user_ids == ["u", "v"]
    assert dataset.interactions.sequences.items.tolist() == [0, 1, 2, 0, 2, 1]


def test_a_log_alone_brings_its_items() -> None:
    numbers = LOG.with_columns(item_id=pl.Series([7.0, 8.0, 9.0, 7.0, 9.0, 8.0]))
    for log, expected in ((LOG, ["a", "b", "c"]), (numbers, [7.0, 8.0, 9.0])):
        tables = tables_from(None, log)
        assert tables.items["item_id"].to_list() == expected
        assert set(tables.fingerprints) == {"interactions"}


def test_other_column_names_are_mapped() -> None:
    tables = tables_from(
        ITEMS, LOG.rename({"user_id": "who"}), DatasetConfig(column_names=("user_id=who",))
    )
    assert tables.interactions.collect().equals(LOG)
    with pytest.raises(ConfigError, match="expected a column of items or interactions after the ="):
        tables_from(ITEMS, LOG, DatasetConfig(column_names=("user_id=whom",)))


def test_the_stage_is_skipped_while_the_tables_hold_the_same(tmp_path: Path) -> None:
    config = DatasetConfig()

    def is_skipped(items: Any, log: Any) -> bool:
        inputs = tables_from(items, log).fingerprints
        return is_current(made.path, config=made.config, inputs=inputs, seed=None)

    made = prepare(config, tmp_path / "dataset", tables_from(ITEMS, LOG))
    assert is_skipped(ITEMS.clone(), LOG.lazy())
    assert not is_skipped(ITEMS, LOG[::-1])
    assert not is_skipped(ITEMS, LOG[:-1])
    assert not is_skipped(ITEMS.with_columns(title=pl.lit("other")), LOG)
    assert not is_skipped(None, LOG)
    lists = [ITEMS.with_columns(categories=pl.Series([[x]] * 3)) for x in "pq"]
    as_categories = [
        frame.with_columns(pl.col("categories").cast(pl.List(pl.Categorical))) for frame in lists
    ]
    for one, other in (lists, as_categories):
        assert tables_from(one, LOG).fingerprints != tables_from(other, LOG).fingerprints


def test_fingerprints_are_the_same_in_every_process() -> None:
    code = (
        "import polars as pl; from hidvae.data.sources.frames import tables_from; "
        "print(tables_from(None, pl.DataFrame({'user_id': ['u'], 'item_id': ['a']})).fingerprints)"
    )
    run = [sys.executable, "-c", code]
    first, second = (subprocess.run(run, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second != b""


@pytest.mark.parametrize(
    ("items", "log", "message"),
    [
        (
            [1, 2],
            LOG,
            "items: expected a mapping from column to value per row; found 1",
        ),
        ("none.csv", LOG, "items: expected the name of a file .* found no file none.csv"),
        (
            "postgresql://me:s3cret@host/shop",
            LOG,
            r"items: expected a table.*found postgresql://me:\*\*\*@host/shop; name a database in",
        ),
        (__file__, LOG, "items: expected a file of csv, tsv"),
        (ITEMS, LOG[:0], "interactions: expected at least one row; found 0 rows under the columns"),
        (ITEMS, LOG.drop("user_id"), "interactions: .*missing user_id"),
        (ITEMS.drop("item_id"), LOG, "items: expected columns item_id; missing item_id"),
        (ITEMS, LOG.with_columns(item_id=pl.lit("?")), "interactions: expected ids of items in"),
    ],
)
def test_a_table_that_is_none_is_named(items: Any, log: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare(DatasetConfig(), tmp_path / "dataset", tables_from(items, log))
    assert "\n" not in str(caught.value)


def test_what_pandas_cannot_give_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frame:
        __module__ = "pandas.core.frame"

    def refuse(error: Exception) -> Callable[[Any], Any]:
        def from_pandas(frame: Any) -> Any:
            raise error

        return from_pandas

    for error, kind, message in (
        (ImportError("no pyarrow"), MissingExtraError, "interactions: .*pip install pyarrow"),
        (TypeError("int is\nno str"), DataError, "found: int is no str; convert the column"),
    ):
        monkeypatch.setattr(pl, "from_pandas", refuse(error))
        with pytest.raises(kind, match=message) as caught:
            tables_from(None, Frame())
        assert isinstance(caught.value, HidvaeError) and "\n" not in str(caught.value)
