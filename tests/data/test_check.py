from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.check import ProblemReport, find_problems
from hidvae.data.prepare import read_source
from hidvae.data.sources.folder import read_folder
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError

GOOD_ITEMS = "item_id,categories\na,A > B\nb,\nc,A\n"
GOOD_LOG = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{item},{n}\n" for user in ("u", "o") for n, item in enumerate("abc")
)


def write(folder: Path, items: str = GOOD_ITEMS, log: str = GOOD_LOG) -> DatasetConfig:
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text(items)
    (folder / "interactions.csv").write_text(log)
    return DatasetConfig(folder=str(folder))


def report_of(config: DatasetConfig, **settings: object) -> ProblemReport:
    changed = DatasetConfig(folder=config.folder, **settings)  # type: ignore[arg-type]
    return find_problems(read_folder(changed), changed)


def test_good_tables_have_no_problems(tmp_path: Path) -> None:
    config = write(tmp_path / "shop")
    before = sorted(tmp_path.rglob("*"))
    report = report_of(config)
    assert report.is_clean
    assert (report.problems, report.num_problems) == ([], 0)
    assert report.lines()[-1] == "no problems in 3 items and 6 events"
    assert sorted(tmp_path.rglob("*")) == before


def test_all_rules_of_both_tables_at_once(tmp_path: Path) -> None:
    items = "item_id,categories\na,A > > B\na,A\n,A\nb,A\n"
    log = (
        "user_id,item_id,timestamp,position\n"
        "u,a,1,0\nu,zz,yesterday,1\nu,zz,3,1.5\n,zz,4,3\nv,,5,4\nv,zz,6,5\n"
    )
    report = report_of(write(tmp_path / "shop", items, log), strict=True)
    shown = [(Path(p.file).name, p.row, p.column, p.value) for p in report.problems]
    assert sorted(shown, key=str) == sorted(
        [
            ("items.csv", 3, "item_id", "a"),
            ("items.csv", 4, "item_id", None),
            ("items.csv", 2, "categories", "A > > B"),
            ("interactions.csv", 3, "timestamp", "yesterday"),
            ("interactions.csv", 4, "position", "1.5"),
            ("interactions.csv", 5, "user_id", None),
            ("interactions.csv", 6, "item_id", None),
        ],
        key=str,
    )
    assert report.num_problems == sum(report.totals.values()) == 7
    lines = report.lines()
    assert not any("\n" in line for line in lines)
    path = tmp_path / "shop" / "interactions.csv"
    assert (
        f"{path}, line 3, column timestamp: expected a time: a number or a date; found "
        "'yesterday'; convert the column or remove the row, or set DatasetConfig.time_format"
        in lines
    )
    assert "7 problems:" in lines


def test_ten_are_shown_of_every_rule_some_and_all_are_counted(tmp_path: Path) -> None:
    items = "item_id\n" + "a\n" * 30
    log = "user_id,item_id,timestamp\n" + "u,a,x\n" * 25
    report = report_of(write(tmp_path / "shop", items, log), strict=True)
    assert list(report.totals.values()) == [29, 25]
    assert report.num_problems == 54
    assert [(p.column, p.row) for p in report.problems] == [
        *[("item_id", row) for row in (3, 4, 5, 6, 7)],
        *[("timestamp", row) for row in (2, 3, 4, 5, 6)],
    ]
    assert report.lines()[10] == "54 problems, 10 shown:"


def test_rules_are_counted_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hidvae.data.events._ROWS_PER_BATCH", 7)
    users = ["v" if row in (3, 17, 38) else "u" for row in range(40)]
    log = pl.DataFrame({"user_id": users, "item_id": (["a"] * 4 + ["z"] * 6) * 4})
    log = log.with_columns(timestamp=pl.when(pl.int_range(40) % 5 > 0).then(1))
    tables = SourceTables("x", pl.DataFrame({"item_id": ["a"]}), log.lazy(), "items", "log")
    report = find_problems(tables, DatasetConfig())
    assert list(report.totals.values()) == [8]
    assert [p.row for p in report.problems if p.column == "timestamp"] == [*range(1, 40, 5)]


def test_faults_of_whole_tables_do_not_hide_the_rows(tmp_path: Path) -> None:
    report = report_of(
        write(tmp_path / "shop", "what\na\n", "who,item_id,timestamp\nu,a,x\nu,a,y\n")
    )
    assert [p.row for p in report.problems] == [None, None, 2, 3]
    assert "missing item_id; found what" in report.problems[0].message
    assert "missing user_id; found who, item_id, timestamp" in report.problems[1].message
    totals = [rule.rpartition("/")[2] for rule in report.totals]
    assert totals == [
        "items.csv: expected columns item_id",
        "interactions.csv: expected columns user_id, item_id",
        "interactions.csv, column timestamp: a time: a number or a date",
    ]


def test_items_without_any_id(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "shop", "item_id,title\n,x\n", GOOD_LOG))
    assert list(report.totals.values()) == [1]
    assert "in 6 of 6 events" in report.problems[0].message


def test_what_would_be_left_out_is_said_and_is_no_problem(tmp_path: Path) -> None:
    config = write(tmp_path / "shop", log=GOOD_LOG + "u,x,9\nv,a,9\n,a,9\n")
    report = report_of(config)
    assert report.is_clean
    said = "\n".join(report.lines())
    assert "1 row of items that" in said and "1 row without a user id is left out" in said
    assert "1 of 3 users have fewer than 3 events" in said
    assert said.endswith("no problems in 3 items and 7 events")
    strict = report_of(config, strict=True)
    assert strict.num_problems == 1  # the unknown item is looked for where the rows are sound


CASES: list[tuple[str, str, dict[str, object]]] = [
    (GOOD_ITEMS, GOOD_LOG, {}),
    (GOOD_ITEMS + "a,\n", GOOD_LOG, {}),
    (GOOD_ITEMS, GOOD_LOG + "u,x,9\n", {}),
    (GOOD_ITEMS, GOOD_LOG + "v,x,9\n", {}),
    (GOOD_ITEMS, GOOD_LOG + "v,x,9\n" * 3, {}),
    (GOOD_ITEMS, GOOD_LOG + "v,x,9\n" * 200, {}),  # most items are unknown
    (GOOD_ITEMS, "user_id,item_id\nu,x\nu,y\nu,z\n", {}),
    (GOOD_ITEMS, "user_id,item_id\nu,a\nu,b\n", {}),  # nobody has three events
    (GOOD_ITEMS, GOOD_LOG + "v,a,9\n", {}),
    (GOOD_ITEMS, GOOD_LOG + "v,a,9\nv,a,9\nv,b,9\n", {}),  # a duplicate: two events are left
    (GOOD_ITEMS, "user_id,item_id,timestamp\nv,a,9\nv,a,9\nv,b,9\n", {}),
    (GOOD_ITEMS, GOOD_LOG + "v,a,9\nv,a,8\nv,b,9\n", {}),
    (GOOD_ITEMS, GOOD_LOG + "v,a,9\nv,a,8\nv,b,9\n", {"repeated_items": "first"}),
    (GOOD_ITEMS, GOOD_LOG + "v,a,9\n", {"min_events": 1}),
    (GOOD_ITEMS, GOOD_LOG + "v,a,9\nv,b,8\nv,c,7\nw,a,1\n", {"min_events": 2}),
    (GOOD_ITEMS, GOOD_LOG, {"min_events": 9}),
]


@pytest.mark.parametrize(("items", "log", "settings"), CASES)
def test_the_check_and_prepare_agree(
    tmp_path: Path, items: str, log: str, settings: dict[str, object]
) -> None:
    config = DatasetConfig(folder=write(tmp_path / "shop", items, log).folder, **settings)  # type: ignore[arg-type]
    report = find_problems(read_source(config), config)
    try:
        prepare(config, tmp_path / "out")
    except DataError as error:
        assert report.problems, str(error)
        expected = str(error).split(": expected ")[1].split("; found")[0]
        assert any(expected in line for line in report.lines())
    else:
        assert report.is_clean, report.lines()


def test_generated_data_has_no_problems() -> None:
    config = DatasetConfig(source="demo", demo_num_items=60, demo_num_users=20)
    assert find_problems(read_source(config), config).is_clean
