"""KuaiRand (Gao et al., CIKM 2022) from its official files: Pure, 1K and 27K.

Events are exposures that were clicked, or that ``DatasetConfig.events_where`` asks for; items are
the videos of these events. Left out on purpose: ``video_features_statistic_*``, averages over the
whole month that hold the popularity of the test period, and ``user_features_*``, which no model
here uses. Rules: docs/datasets.md.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.conditions import parse_condition
from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import (
    collect,
    drop_broken_lines,
    find_file,
    read_with_notes,
    scan_columns,
)
from hidvae.data.sources.folder import has_tables, read_tables, table_files
from hidvae.data.sources.kuairand_captions import read_captions
from hidvae.data.sources.locate import locate_folder
from hidvae.data.sources.remote import dataset_name
from hidvae.data.tables import SourceTables, reading
from hidvae.errors import DataError

_ARCHIVES = {"pure": "KuaiRand-Pure", "1k": "KuaiRand-1K", "27k": "KuaiRand-27K"}
_STANDARD_LOGS = {
    "pure": ("4_08_to_4_21_pure", "4_22_to_5_08_pure"),
    "1k": ("4_08_to_4_21_1k", "4_22_to_5_08_1k"),
    "27k": tuple(
        f"{period}_27k_part{part}" for period in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2)
    ),
}
_CLICKED = ("is_click = 1",)
_CAPTIONS = "kuairand_video_captions.csv"
_CATEGORIES = "kuairand_video_categories.csv"
_LEVELS = ("first", "second", "third", "fourth")
_MISSING = ("UNKNOWN", "-124", "-124.0", "")
_FEATURES = (
    "author_id",
    "video_type",
    "upload_dt",
    "upload_type",
    "visible_status",
    "video_duration",
    "server_width",
    "server_height",
    "music_id",
    "music_type",
    "tag",
)
_IDS = ("author_id", "music_id")
_WHOLE_NUMBERS = ("visible_status", "video_duration", "server_width", "server_height", "music_type")


def source_files(config: DatasetConfig) -> dict[str, Path]:
    """The files that ``read_kuairand`` reads, by name.

    Raises:
        ConfigError: If dataset_split is no release.
        DataError: If the folder or a file is missing.
    """
    folder = _locate(config)
    if has_tables(folder):
        return table_files(folder, config)
    folders = _places(folder, config)
    found = {name: find_file(folders, name) for name in _required(config)}
    if missing := [name for name, path in found.items() if path is None]:
        raise DataError(
            f"{folder}: expected the files of {_ARCHIVES[config.dataset_split]}; missing "
            f"{', '.join(missing)}; unpack the archive there, or name its folder with "
            "--set DatasetConfig.folder=PATH"
        )
    found |= {name: find_file(folders, name) for name in (_CAPTIONS, _CATEGORIES)}
    return {name: path for name, path in found.items() if path is not None}


def read_kuairand(config: DatasetConfig) -> SourceTables:
    """Read the configured release, or tables that were already made from it.

    Items carry ``title`` and ``text`` (the caption), ``description`` (the text on the cover) and
    ``categories`` where the supplementary files are there, else a ``text`` made of the features,
    and the features themselves. Interactions are scanned lazily.

    Raises:
        ConfigError: If dataset_split is no release.
        DataError: If a file is missing or cannot be used.
    """
    folder = _locate(config)
    if has_tables(folder):
        return read_tables(folder, config, dataset_name(config))
    return read_with_notes(config, lambda notes: _read(config, notes))


def _read(config: DatasetConfig, notes: Notes) -> SourceTables:
    files = source_files(config)
    logs, basic = [name for name in files if name.startswith("log_")], _required(config)[-1]
    events, counts = _scan_events([files[name] for name in logs], config, notes)
    videos = collect(events.select(video_id=Columns.ITEM).unique(), files[logs[0]])
    if videos.is_empty():
        wanted = " and ".join(_conditions(config))
        raise DataError(
            f"{files[logs[0]].parent}: expected exposures with {wanted}; found "
            "none in the logs; choose others with --set DatasetConfig.events_where"
        )
    items, more = _read_items(files, basic, videos, notes)
    return SourceTables(
        name=dataset_name(config),
        items=items,
        interactions=events,
        items_file=str(files[basic]),
        interactions_file=", ".join(str(files[name]) for name in logs),
        counts=counts | more,
        used=frozenset({"events_where"}),
    )


def _locate(config: DatasetConfig) -> Path:
    def has_files(folder: Path) -> bool:
        folders = _places(folder, config)
        return has_tables(folder) or find_file(folders, _required(config)[0]) is not None

    dataset_name(config)  # refuses an unknown release
    wanted = f"{_required(config)[0]} and the other files of the archive"
    return locate_folder(config, wanted=wanted, has_files=has_files)


def _places(folder: Path, config: DatasetConfig) -> tuple[Path, ...]:
    """Where in a folder the files may be: there, or in the archive's own folders."""
    archive = folder / _ARCHIVES[config.dataset_split]
    return folder, folder / "data", archive, archive / "data"


def release_of(folder: Path) -> str:
    """The release whose logs are in a folder; empty if there are none."""
    for release in _ARCHIVES:
        config = DatasetConfig(source="kuairand", dataset_split=release)
        if all(find_file(_places(folder, config), name) for name in _required(config)):
            return release
    return ""


def _required(config: DatasetConfig) -> list[str]:
    """Names of the files that must be there: logs first, the features of the videos last."""
    release = config.dataset_split
    names = [f"log_standard_{period}.csv" for period in _STANDARD_LOGS[release]]
    return [*names, f"video_features_basic_{release}.csv"]


def _scan_events(
    logs: list[Path], config: DatasetConfig, notes: Notes
) -> tuple[pl.LazyFrame, dict[str, int]]:
    """Exposures that count as user_id, item_id and timestamp (ms), and what was left out."""
    conditions = [parse_condition(text) for text in _conditions(config)]
    signals = dict.fromkeys(condition.column for condition in conditions)
    whole_numbers = ("video_id", "time_ms", *signals)
    schema = dict.fromkeys(("user_id", *whole_numbers), pl.String)
    is_usable = pl.col("user_id").str.contains(r"^\s*\d+\s*$") & pl.all_horizontal(
        pl.col(whole_numbers).is_not_null()
    )
    parts, num_broken = [], 0
    for path in logs:
        scanned = scan_columns(path, schema).with_columns(
            _without_point("user_id"), *map(_whole_number, whole_numbers)
        )
        rows, broken = drop_broken_lines(scanned, is_usable, path, notes=notes)
        parts.append(rows)
        num_broken += broken
    events = pl.concat(parts).filter(*(condition.is_met() for condition in conditions))
    columns = {Columns.USER: "user_id", Columns.ITEM: "video_id", Columns.TIMESTAMP: "time_ms"}
    return events.select(**columns), {"broken_lines": num_broken}


def _without_point(column: str) -> pl.Expr:
    """An id as text; pandas writes 7 as 7.0 in a column that had a gap."""
    return pl.col(column).str.strip_chars().str.replace(r"\.0$", "")


def _whole_number(column: str) -> pl.Expr:
    """A number as Int64, also where pandas wrote 1.0 or True; null if it is none."""
    text = pl.col(column).str.strip_chars().replace({"True": "1", "False": "0"})
    whole = text.cast(pl.Int64, strict=False)
    return pl.coalesce(whole, text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False))


def _conditions(config: DatasetConfig) -> tuple[str, ...]:
    return config.events_where or _CLICKED


def _read_items(
    files: dict[str, Path], basic: str, videos: pl.DataFrame, notes: Notes
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Features, captions and category paths of the videos that have features."""
    features, counts = _read_features(files[basic], videos, notes)
    counts["videos_without_features"] = videos.height - features.height
    known = features.select("video_id")
    columns = [pl.col("video_id").alias(Columns.ITEM), Columns.TEXT, *_FEATURES[:-1], "tag_ids"]
    if _CATEGORIES in files:
        categories = _read_categories(files[_CATEGORIES], known)
        counts["videos_without_category"] = known.height - len(categories.drop_nulls("categories"))
        features = features.join(categories, on="video_id", how="left", maintain_order="left")
        columns += [Columns.CATEGORIES, "category_probabilities"]
    if _CAPTIONS in files:
        captions, counts["mended_captions"] = read_captions(files[_CAPTIONS], known)
        _check_coverage(captions, known, files[_CAPTIONS])
        counts["videos_without_caption"] = known.height - len(captions.drop_nulls("caption"))
        features = features.join(captions, on="video_id", how="left", maintain_order="left")
        text = pl.coalesce("caption", "cover_text", Columns.TEXT).alias(Columns.TEXT)
        features = features.with_columns(text)
        columns += [
            pl.col("caption").alias(Columns.TITLE),
            pl.col("cover_text").alias(Columns.DESCRIPTION),
        ]
    return features.select(columns), counts


def _read_features(
    path: Path, videos: pl.DataFrame, notes: Notes
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Basic features of the videos, by id, and a text made of them."""
    rows = scan_columns(path, dict.fromkeys(("video_id", *_FEATURES), pl.String), quote='"')
    rows = rows.with_columns(_whole_number("video_id"), *map(_without_point, _IDS))
    rows, num_broken = drop_broken_lines(rows, pl.col("video_id") >= 0, path, notes=notes)
    found = collect(
        rows.join(videos.lazy(), on="video_id", how="semi", maintain_order="left"), path
    )
    _check_coverage(found, videos, path)
    features = found.unique("video_id", keep="first", maintain_order=True).sort("video_id")
    features = features.with_columns(
        pl.col(_FEATURES).str.strip_chars().replace(_MISSING, None)
    ).with_columns(
        pl.col(_WHOLE_NUMBERS).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
        tag_ids=pl.col("tag").str.split(","),
    )
    counts = {
        "broken_video_lines": num_broken,
        "duplicate_videos": found.height - features.height,
    }
    return features.with_columns(_features_text().alias(Columns.TEXT)), counts


def _features_text() -> pl.Expr:
    """``Tags: tag12, tag65; Video type: NORMAL; …``: what there is to say without a caption."""
    spoken = {
        "Tags: ": "tag" + pl.col("tag_ids").list.join(", tag"),
        "Video type: ": pl.col("video_type"),
        "Upload type: ": pl.col("upload_type"),
        "Upload date: ": pl.col("upload_dt"),
        "Duration: ": (pl.col("video_duration") / 1000).round().cast(pl.Int64).cast(pl.String)
        + " s",
        "Author: ": pl.col("author_id"),
        "Music type: ": pl.col("music_type").cast(pl.String),
    }
    parts = [pl.lit(label) + value for label, value in spoken.items()]
    text = pl.concat_str(parts, separator="; ", ignore_nulls=True)
    return text.replace("", None)


def _read_categories(path: Path, videos: pl.DataFrame) -> pl.DataFrame:
    """Path of each video down to its last known level, null if none is, and probabilities."""
    names = [f"{level}_level_category_name" for level in _LEVELS]
    probabilities = [f"{level}_level_category_prob" for level in _LEVELS]
    video_id = _id_column(path)
    schema = dict.fromkeys((video_id, *names, *probabilities), pl.String)
    rows = scan_columns(path, schema, quote='"').rename({video_id: "video_id"})
    rows = rows.with_columns(pl.col("video_id").cast(pl.Float64, strict=False).cast(pl.Int64))
    found = collect(
        rows.join(videos.lazy(), on="video_id", how="semi", maintain_order="left"), path
    )
    _check_coverage(found, videos, path)
    found = found.unique("video_id", keep="first", maintain_order=True)
    is_known = [~pl.col(name).str.strip_chars().is_in(_MISSING) for name in names]
    is_reached = [pl.all_horizontal(is_known[: depth + 1]) for depth in range(len(names))]
    levels = found.with_columns(
        pl.col(probabilities).cast(pl.Float64, strict=False),
        num_levels=pl.sum_horizontal(is_reached),
    )
    lists = {"categories": names, "category_probabilities": probabilities}
    return levels.select(
        "video_id",
        **{
            name: pl.when(pl.col("num_levels") > 0).then(
                pl.concat_list(columns).list.head(pl.col("num_levels"))
            )
            for name, columns in lists.items()
        },
    )


def _id_column(path: Path) -> str:
    """``final_video_id`` in the file as published, ``video_id`` in copies of it."""
    with reading(path):
        names = pl.scan_csv(path, glob=False, infer_schema=False).collect_schema().names()
    return "video_id" if "video_id" in names else "final_video_id"


def _check_coverage(found: pl.DataFrame, videos: pl.DataFrame, path: Path) -> None:
    if found.is_empty():
        raise DataError(
            f"{path}: expected ids of this release's videos, such as {videos['video_id'][0]}; "
            f"found none of {videos.height}; download the file again, or move it away"
        )
