from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.check import ProblemReport, find_problems
from hidvae.data.notes import Notes
from hidvae.data.prepare import assemble, read_source
from hidvae.data.sources.folder import read_folder
from hidvae.data.tables import SourceTables
from hidvae.errors import ConfigError, DataError

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


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_row_of_a_table_in_parts_is_that_of_its_part(tmp_path: Path, suffix: str) -> None:
    items = [
        pl.DataFrame({"item_id": ["1", "2"], "categories": ["A > B", "A"]}),
        pl.DataFrame({"item_id": ["3", "1"], "categories": ["A > > C", "B"]}),
    ]
    logs = [
        pl.DataFrame({"user_id": ["u", "v"], "item_id": ["1", "2"], "timestamp": ["3", "4"]}),
        pl.DataFrame({"user_id": ["v", "u"], "item_id": ["1", "2"], "timestamp": ["5", "6"]}),
        pl.DataFrame({"user_id": ["NA", "u"], "item_id": ["2", "9"], "timestamp": ["7", "8"]}),
    ]
    for stem, parts in (("items", items), ("interactions", logs)):
        for number, part in enumerate(parts, 1):
            path = tmp_path / f"{stem}-{number}.{suffix}"
            if suffix == "csv":
                part.write_csv(path)
            elif suffix == "jsonl":
                part.write_ndjson(path)
            else:
                part.write_parquet(path)
    first = 2 if suffix == "csv" else 1
    place = "row" if suffix == "parquet" else "line"
    config = DatasetConfig(folder=str(tmp_path))
    said = " ".join(find_problems(read_source(config), config).lines())
    for where in (
        f"repeating an item is left out ({place} {first + 1} of items-2.{suffix})",
        f"cut before an empty label ({place} {first} of items-2.{suffix}: 'A > > C')",
        f"such as NA or null, is left out ({place} {first} of interactions-3.{suffix})",
        f"lacks is left out ({place} {first + 1} of interactions-3.{suffix})",
    ):
        assert where in said, said
    strict = DatasetConfig(folder=str(tmp_path), strict=True)
    problems = find_problems(read_source(strict), strict).problems
    last = tmp_path / f"interactions-3.{suffix}"
    assert any((problem.file, problem.row) == (str(last), first) for problem in problems)
    assert any(f"{last}, {place} {first}, column user_id" in each.message for each in problems)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"csv_separator": ";"}, "csv_separator=';' had no effect, as no table of text with"),
        ({"csv_quote": "single"}, "csv_quote='single' had no effect, as no table of text with"),
        ({"csv_encoding": "latin-1"}, "csv_encoding='latin-1' had no effect, as no table of text"),
        ({"time_format": "%d.%m.%Y"}, "time_format='%d.%m.%Y' had no effect, as no time is"),
        ({"category_separator": "/"}, "category_separator='/' had no effect, as no category path"),
        ({"match_ids": "loose"}, "match_ids='loose' had no effect, as no id of the log"),
        ({"demo_num_items": 99}, "demo_num_items=99 had no effect, as the dataset is not the demo"),
    ],
)
def test_settings_without_effect_are_said(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    days = [datetime(2014, 1, day) for day in (13, 14, 15, 16)]
    log = pl.DataFrame({"user_id": list("uuvv"), "item_id": list("abab"), "timestamp": days})
    log.write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame({"item_id": ["a", "b"], "categories": [["A"], ["B"]]}).write_parquet(
        tmp_path / "items.parquet"
    )
    config = DatasetConfig(folder=str(tmp_path), **settings)  # type: ignore[arg-type]
    found = find_problems(read_source(config), config)
    assert found.is_clean
    assert [d.said for d in found.decisions if "no effect" in d.said] == [
        d.said for d in found.decisions if d.said.startswith(f"DatasetConfig.{said}")
    ]
    assert any(d.said.startswith(f"DatasetConfig.{said}") for d in found.decisions)
    if "category_separator" in settings:  # lists written as text are not split either
        pl.DataFrame({"item_id": ["a", "b"], "categories": ["['A']", "['B']"]}).write_parquet(
            tmp_path / "items.parquet"
        )
        found = find_problems(read_source(config), config)
        assert any(d.said.startswith(f"DatasetConfig.{said}") for d in found.decisions)
        pl.DataFrame({"item_id": ["a", "b"], "categories": [["A"], ["B"]]}).write_parquet(
            tmp_path / "items.parquet"
        )
    for stem in ("items", "interactions"):
        frame = pl.read_parquet(tmp_path / f"{stem}.parquet")
        (tmp_path / f"{stem}.parquet").unlink()
        if stem == "items":
            frame = frame.with_columns(pl.col("categories").list.join("/"))
        else:
            frame = frame.with_columns(
                pl.col("timestamp").dt.strftime("%d.%m.%Y"),
                item_id=pl.col("item_id").str.to_uppercase(),
            )
        frame.write_csv(tmp_path / f"{stem}.csv", separator=str(settings.get("csv_separator", ",")))
    if "match_ids" not in settings:
        log = (tmp_path / "interactions.csv").read_text().replace("A", "a").replace("B", "b")
        (tmp_path / "interactions.csv").write_text(log)
    used = find_problems(read_source(config), config)
    assert any("no effect" in d.said for d in used.decisions) == ("demo_num_items" in settings)


def test_conditions_that_a_dataset_cannot_meet_are_refused() -> None:
    config = DatasetConfig(source="demo", events_where=("rating >= 4",))
    with pytest.raises(ConfigError, match="events_where: expected conditions on columns of the"):
        assemble(read_source(config), config, Notes())
