from __future__ import annotations

import csv
import gzip
import shutil
from pathlib import Path

import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig, load_config
from hidvae.data.prepare import load_dataset
from hidvae.data.schema import check_items
from hidvae.data.sources import kuairand_captions
from hidvae.data.sources.kuairand import read_kuairand, source_files
from hidvae.data.sources.kuairand_captions import read_captions
from hidvae.data.tables import SourceTables
from hidvae.errors import ConfigError, DataError

LOG_COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
VIDEO_COLUMNS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)
CATEGORY_COLUMNS = ["final_video_id"] + [
    f"{level}_level_category_{part}"
    for level in ("first", "second", "third", "fourth")
    for part in ("id", "name", "prob")
]
NUM_USERS, NUM_VIDEOS = 5, 12
EARLY, LATE, RANDOM = 1_649_400_000_000, 1_650_600_000_000, 1_650_700_000_000


def exposure(user: int, video: int, time_ms: int, *, click: int = 1, is_rand: int = 0) -> str:
    """A line of a log; long views are the clicks on even videos."""
    long_view = click * (video % 2 == 0)
    return (
        f"{user},{video},20220408,400,{time_ms},{click},0,0,0,0,0,{int(long_view)},900,1000,0,0,0,"
        f"{is_rand},1"
    )


def standard_log(start: int, num_rounds: int) -> list[str]:
    """Every user clicks on video (user + round), and is shown video 11 without clicking."""
    lines = []
    for number in range(num_rounds):
        for user in range(NUM_USERS):
            time_ms = start + 60_000 * number + user
            lines.append(exposure(user, (user + number) % 10, time_ms))
            lines.append(exposure(user, 11, time_ms + 7, click=0))
    return lines


def known(*levels: str) -> list[str]:
    """A category row: four levels, missing ones as published."""
    row = [part for i, name in enumerate(levels) for part in (f"{i + 7}.0", name, "0.75")]
    return row + ["-124.0", "UNKNOWN", "0.0"] * (4 - len(levels))


def write(path: Path, header: str, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")


def write_release(folder: Path, release: str = "pure") -> Path:
    """The official files in ``folder``, with the oddities that the real ones have."""
    early = standard_log(EARLY, 11)
    early.insert(40, early[40])  # a duplicate line
    early.insert(50, "")
    early.insert(60, "1,4,2022")  # a broken line, cut off
    write(folder / f"log_standard_4_08_to_4_21_{release}.csv", LOG_COLUMNS, early)
    late = standard_log(LATE, 11)
    late.insert(3, '3,"4,20220408')  # broken: a quotation mark that nobody closes
    write(folder / f"log_standard_4_22_to_5_08_{release}.csv", LOG_COLUMNS, late)
    randomly = [exposure(user, 10, RANDOM + user, is_rand=1) for user in range(NUM_USERS)]
    write(folder / f"log_random_4_22_to_5_08_{release}.csv", LOG_COLUMNS, randomly)
    videos = [
        f"{video},{700 + video},NORMAL,2022-04-0{video % 9 + 1},Web,0.0,{video}500.0,720.0,1280.0,"
        '915,9.0,"12,65"'
        for video in range(NUM_VIDEOS)
    ]
    videos[1] = "1,701,UNKNOWN,2022-04-10,UNKNOWN,0.0,,,,-124,,"
    videos.append(videos[2])
    write(folder / f"video_features_basic_{release}.csv", VIDEO_COLUMNS, videos)
    (folder / f"video_features_statistic_{release}.csv").write_text("video_id,counts\n0,9\n")
    (folder / f"user_features_{release}.csv").write_text("user_id\n0\n")
    return folder


def write_categories(folder: Path, offset: int = 0) -> None:
    rows = [[str(video + offset), *known("运动", "球类运动", "篮球")] for video in range(12)]
    rows[1][1:] = known("美食", "家常菜", "川菜", "火锅")
    rows[2][1:] = known("美食")
    rows[3][1:] = known()
    rows[4][1:] = (
        [*known("运动"), *known("篮球")][:3]
        + ["-124.0", "UNKNOWN", "0.0"]
        + (
            ["3.0", "篮球", "0.9"] + ["-124.0", "UNKNOWN", "0.0"]  # a level below an unknown one
        )
    )
    del rows[5]
    with (folder / "kuairand_video_categories.csv").open("w", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([CATEGORY_COLUMNS, *rows])


CAPTIONS = [
    "0,#王者荣耀 教程在下方,妲己,114500.0",
    '1,"逗号, 和""引号""",,1500.0',
    '2,"两行\n3个字",封面,2500.0',  # 3 is no id: there is no comma after it
    "3,,,3500.0",
    "4, ,只有封面,4500.0",
    '5,"Spark \\"引号, 里\\" 面",封面,5500.0',
    "6,没有,引号的,逗号,很多,6500.0",  # commas that are not quoted
    '7,"没有结束,7500.0',
    "8,转义&amp;符号,封面,8500.0",
    "9.0,小数编号,封面,9500.0",
    "9,第二次,封面,9500.0",
    "77,别的视频,封面,1.0",
]


def write_captions(folder: Path, lines: list[str] = CAPTIONS) -> None:
    header = "final_video_id,caption,show_cover_text,duration"
    write(folder / "kuairand_video_captions.csv", header, lines)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """KuaiRand-Pure as unpacked, with the supplementary files beside the archive's folder."""
    write_release(tmp_path / "kuairand" / "KuaiRand-Pure" / "data")
    write_categories(tmp_path / "kuairand")
    write_captions(tmp_path / "kuairand")
    return tmp_path / "kuairand"


def config(folder: Path, **settings: object) -> DatasetConfig:
    values = {"source": "kuairand", "dataset_split": "pure", "folder": str(folder)} | settings
    return DatasetConfig(**values)  # type: ignore[arg-type]


def log_of(tables: SourceTables) -> pl.DataFrame:
    return tables.interactions.collect(engine="streaming")


def item(tables: SourceTables, video: int) -> dict[str, object]:
    return tables.items.filter(pl.col("item_id") == video).row(0, named=True)


def test_events_are_exposures_with_the_signal(release: Path) -> None:
    tables = read_kuairand(config(release))
    events = log_of(tables)
    assert events.columns == ["user_id", "item_id", "timestamp"]
    assert events.height == 2 * 11 * NUM_USERS + 1  # a duplicate line is prepare's to drop
    assert 11 not in events["item_id"]  # shown, never clicked
    assert events["timestamp"][0] == EARLY
    assert tables.counts["broken_lines"] == 2
    assert tables.items["item_id"].to_list() == list(range(10))
    assert tables.name == "kuairand-pure"
    long_views = log_of(read_kuairand(config(release, events_where=("long_view = 1",))))
    assert set(long_views["item_id"]) == {0, 2, 4, 6, 8}
    with pytest.raises(DataError, match=r"exposures with is_follow = 1; found none in the logs"):
        read_kuairand(config(release, events_where=("is_follow = 1",)))


def test_the_random_log_is_not_read(release: Path) -> None:
    assert 10 not in log_of(read_kuairand(config(release)))["item_id"]
    assert not any("random" in name for name in source_files(config(release)))


def test_statistics_and_user_features_are_not_read(release: Path) -> None:
    assert list(source_files(config(release))) == [
        "log_standard_4_08_to_4_21_pure.csv",
        "log_standard_4_22_to_5_08_pure.csv",
        "video_features_basic_pure.csv",
        "kuairand_video_captions.csv",
        "kuairand_video_categories.csv",
    ]


def test_categories_end_before_the_first_unknown_level(release: Path) -> None:
    tables = read_kuairand(config(release))
    paths = dict(tables.items.select("item_id", "categories").iter_rows())
    assert paths[0] == ["运动", "球类运动", "篮球"]
    assert paths[1] == ["美食", "家常菜", "川菜", "火锅"]
    assert paths[2] == ["美食"]
    assert paths[3] is None
    assert paths[4] == ["运动"]
    assert paths[5] is None  # not in the file
    assert item(tables, 2)["category_probabilities"] == [0.75]
    assert tables.counts["videos_without_category"] == 2


def test_captions_are_read_however_they_are_quoted(release: Path) -> None:
    tables = read_kuairand(config(release))
    titles = dict(tables.items.select("item_id", "title").iter_rows())
    assert titles == {
        0: "#王者荣耀 教程在下方",
        1: '逗号, 和"引号"',
        2: "两行\n3个字",
        3: None,
        4: None,
        5: 'Spark "引号, 里" 面',
        6: "没有,引号的,逗号,很多",
        7: "没有结束",
        8: "转义&amp;符号",
        9: "小数编号",
    }
    assert item(tables, 2)["description"] == "封面"
    assert item(tables, 5)["description"] == "封面"
    assert item(tables, 6)["description"] is None
    assert tables.counts["mended_captions"] == 2
    assert tables.counts["videos_without_caption"] == 2
    checked = check_items(tables.items, "items")
    assert checked.filter(pl.col("item_id") == "8")["title"].item() == "转义&符号"


def test_captions_that_ran_into_other_fields(tmp_path: Path) -> None:
    lines = [
        "1,一段,又一段,文字在时长里",  # as in the published file: text where the duration is
        "2,完整的,封面,2000.0",
        "无编号的一行",  # belongs to nothing: the record above it is complete
        "",
        '3,"有,逗号",封面,3000.0',
    ]
    write_captions(tmp_path, lines)
    wanted = pl.DataFrame({"video_id": [1, 2, 3]})
    captions, num_mended = read_captions(tmp_path / "kuairand_video_captions.csv", wanted)
    assert captions.rows() == [
        (1, "一段,又一段,文字在时长里", None),
        (2, "完整的", "封面"),
        (3, "有,逗号", "封面"),
    ]
    assert num_mended == 1


def test_text_is_the_caption_else_the_cover_else_the_features(release: Path) -> None:
    tables = read_kuairand(config(release))
    assert item(tables, 1)["text"] == '逗号, 和"引号"'
    assert item(tables, 4)["text"] == "只有封面"
    assert item(tables, 3)["text"] == (
        "Tags: tag12, tag65; Video type: NORMAL; Upload type: Web; Upload date: 2022-04-04; "
        "Duration: 4 s; Author: 703; Music type: 9"
    )


def test_captions_do_not_depend_on_the_batches(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_kuairand(config(release))
    for size in (1, 2, 3, 5):
        monkeypatch.setattr(kuairand_captions, "_LINES_PER_BATCH", size)
        again = read_kuairand(config(release))
        assert again.items.equals(whole.items, null_equal=True)
        assert again.counts == whole.counts


def test_features_stand_in_for_captions(release: Path) -> None:
    (release / "kuairand_video_captions.csv").unlink()
    (release / "kuairand_video_categories.csv").unlink()
    tables = read_kuairand(config(release))
    assert "title" not in tables.items.columns
    assert "categories" not in tables.items.columns
    assert str(item(tables, 0)["text"]).startswith("Tags: tag12, tag65; Video type: NORMAL; ")
    # UNKNOWN, -124 and empty are no values
    assert item(tables, 1)["text"] == "Upload date: 2022-04-10; Author: 701"
    assert item(tables, 1)["tag_ids"] is None
    assert item(tables, 0)["tag_ids"] == ["12", "65"]
    assert item(tables, 0)["video_duration"] == 500
    assert item(tables, 1)["music_id"] is None
    assert tables.counts["duplicate_videos"] == 1


def test_videos_without_features_are_counted(release: Path) -> None:
    data = release / "KuaiRand-Pure" / "data"
    log = data / "log_standard_4_22_to_5_08_pure.csv"
    log.write_text(log.read_text() + exposure(1, 999, LATE) + "\n")
    tables = read_kuairand(config(release))
    assert 999 in log_of(tables)["item_id"]
    assert 999 not in tables.items["item_id"]
    assert tables.counts["videos_without_features"] == 1


def test_features_of_other_videos_are_refused(release: Path) -> None:
    path = release / "KuaiRand-Pure" / "data" / "video_features_basic_pure.csv"
    write(
        path, VIDEO_COLUMNS, ["100000,700,NORMAL,2022-04-01,Web,0.0,500.0,720.0,1280.0,915,9.0,12"]
    )
    with pytest.raises(DataError, match="features_basic_pure.csv: expected ids of this release's"):
        read_kuairand(config(release))


@pytest.mark.parametrize("name", ["kuairand_video_captions.csv", "kuairand_video_categories.csv"])
def test_supplementary_files_of_other_videos_are_refused(release: Path, name: str) -> None:
    write_categories(release, offset=100_000)
    write_captions(release, ["100000,别的,封面,1.0"])
    other = {"kuairand_video_captions.csv", "kuairand_video_categories.csv"} - {name}
    (release / other.pop()).unlink()
    with pytest.raises(DataError, match=rf"{name}: expected ids of this .* none of 10") as caught:
        read_kuairand(config(release))
    assert "\n" not in str(caught.value)


def test_the_id_column_may_be_called_video_id(release: Path) -> None:
    for name in ("kuairand_video_captions.csv", "kuairand_video_categories.csv"):
        path = release / name
        path.write_text(path.read_text(encoding="utf-8").replace("final_video_id", "video_id", 1))
    tables = read_kuairand(config(release))
    assert item(tables, 0)["title"] == "#王者荣耀 教程在下方"
    assert item(tables, 2)["categories"] == ["美食"]


def test_another_header_of_captions_is_refused(release: Path) -> None:
    (release / "kuairand_video_captions.csv").write_text("video,caption\n1,a\n")
    with pytest.raises(DataError, match="expected the header final_video_id,caption.*'video,capt"):
        read_kuairand(config(release))


@pytest.mark.parametrize("place", ["", "data", "KuaiRand-Pure", "KuaiRand-Pure/data"])
def test_the_folder_may_be_any_of_the_archive(tmp_path: Path, place: str) -> None:
    write_release(tmp_path / place)
    assert read_kuairand(config(tmp_path)).items.height == 10


def test_gzipped_files(release: Path) -> None:
    whole = read_kuairand(config(release))
    log = log_of(whole)
    for path in [*release.rglob("*.csv")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    again = read_kuairand(config(release))
    assert again.items.equals(whole.items, null_equal=True)
    assert log_of(again).equals(log)
    assert again.counts == whole.counts


def test_27k_is_read_in_its_parts(tmp_path: Path) -> None:
    write_release(tmp_path, "27k")
    for period in ("4_08_to_4_21", "4_22_to_5_08"):
        whole = tmp_path / f"log_standard_{period}_27k.csv"
        header, *lines = whole.read_text().splitlines()
        write(tmp_path / f"log_standard_{period}_27k_part1.csv", header, lines[:104])
        write(tmp_path / f"log_standard_{period}_27k_part2.csv", header, lines[104:])
        whole.unlink()
    pure = write_release(tmp_path / "pure")
    settings = {"dataset_split": "27k"}
    assert log_of(read_kuairand(config(tmp_path, **settings))).equals(
        log_of(read_kuairand(config(pure)))
    )
    (tmp_path / "log_standard_4_22_to_5_08_27k_part2.csv").unlink()
    with pytest.raises(
        DataError, match=r"files of KuaiRand-27K; missing log_standard_4_22_to_5_08_27k_part2.csv;"
    ):
        read_kuairand(config(tmp_path, **settings))


def test_many_broken_lines_are_refused(release: Path) -> None:
    log = release / "KuaiRand-Pure" / "data" / "log_standard_4_08_to_4_21_pure.csv"
    header, *lines = log.read_text().splitlines()
    lines[3] = lines[5] = "<html>not found</html>"
    write(log, header, lines)
    with pytest.raises(DataError) as caught:
        read_kuairand(config(release))
    message = str(caught.value)
    assert (
        "expected at most 1% broken lines; found 3 of 112 lines broken, first line 5: '<html>not"
        in message
    )
    assert "\n" not in message
    write(log, header.replace("is_click", "clicked"), lines)
    with pytest.raises(DataError, match="missing is_click; found user_id, video_id.*to 'is_click'"):
        read_kuairand(config(release))
    write(log, header, [])
    with pytest.raises(DataError, match="log_standard.*expected rows; found an empty file"):
        read_kuairand(config(release))


def test_prepared_tables_are_read_first(release: Path) -> None:
    pl.DataFrame({"item_id": ["a"]}).write_csv(release / "items.csv")
    pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}).write_csv(release / "interactions.csv")
    tables = read_kuairand(config(release))
    assert (tables.name, tables.items["item_id"].to_list()) == ("kuairand-pure", ["a"])
    assert list(source_files(config(release))) == ["items.csv", "interactions.csv"]


def test_missing_files_say_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIDVAE_DATA", raising=False)
    with pytest.raises(ConfigError, match="expected 'pure' or '1k' or '27k'"):
        source_files(DatasetConfig(source="kuairand", dataset_split="2k"))
    write_release(tmp_path / "data" / "kuairand-1k" / "KuaiRand-1K" / "data", "1k")
    one_k = DatasetConfig(source="kuairand", dataset_split="1k")
    assert read_kuairand(one_k).name == "kuairand-1k"
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DataError, match=r"log_standard_4_08_to_4_21_1k.csv"):
        read_kuairand(one_k)


# --- a split that cannot leak -----------------------------------------------------------------


def test_no_training_window_shows_a_test_target(release: Path, tmp_path: Path) -> None:
    """The published code cut windows over whole sequences, and so trained on test targets."""
    settings = config(release, repeated_items="first")
    dataset = load_dataset(prepare(settings, tmp_path / "dataset"))
    events = dataset.events_frame()
    assert dataset.split.train.num_users == NUM_USERS
    for user in range(NUM_USERS):
        told = events.filter(pl.col("user_id") == dataset.interactions.user_ids[user])
        *history, validation, test = dataset.catalogue.index_of(told["item_id"].to_list()).tolist()
        assert dataset.split.train[user].tolist() == history
        assert dataset.split.validation_histories[user].tolist() == history
        assert dataset.split.validation_targets[user] == validation
        assert dataset.split.test_histories[user].tolist() == [*history, validation]
        assert dataset.split.test_targets[user] == test
        # every window of training is a part of the training history
        assert not {validation, test} & set(history)


def test_repeat_views_follow_the_setting(release: Path, tmp_path: Path) -> None:
    lengths = {}
    for choice in ("keep", "first", "last"):
        settings = config(release, repeated_items=choice)
        dataset = load_dataset(prepare(settings, tmp_path / choice))
        lengths[choice] = dataset.interactions.sequences.lengths.tolist()
        ids = dataset.catalogue.item_ids
        ends = {choice: [ids[i] for i in dataset.interactions.sequences[0][-2:]]}
        # user 0 clicks on 0, 1, … 9, 0, twice; the last click is on 0
        assert ends[choice] == {"keep": ["9", "0"], "first": ["8", "9"], "last": ["9", "0"]}[choice]
    assert lengths == {"keep": [22] * 5, "first": [10] * 5, "last": [10] * 5}


def test_the_config_chooses_a_chinese_encoder() -> None:
    configs = Path(__file__).parents[2] / "configs"
    official = load_config([configs / "h_rqvae_kuairand.gin"])
    assert official.embedding.text_encoder == "BAAI/bge-base-zh-v1.5"
    partial = load_config([configs / "h_rqvae_kuairand_partial.gin"])
    assert partial.dataset == official.dataset
    assert (partial.embedding.text_encoder, partial.tags.source) == ("all-MiniLM-L6-v2", "none")
