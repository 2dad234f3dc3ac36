"""The supplementary ``kuairand_video_captions.csv``: a few GB of Chinese text, loosely quoted.

Its columns are final_video_id, caption, show_cover_text and duration. Captions hold commas, line
breaks and quotation marks, not all of them quoted as CSV asks for, so that a strict parser stops.
Records are therefore told apart by the id at the start of a line; one whose fields cannot be told
apart keeps all its text as the caption, and is counted.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hidvae.data.sources.delimited import collect, scan_lines
from hidvae.data.tables import reading
from hidvae.errors import DataError

_LINES_PER_BATCH = 1_000_000
_HEADERS = tuple(
    f"{video_id},caption,show_cover_text,duration" for video_id in ("final_video_id", "video_id")
)
_ID = r'^"?(\d+)(?:\.0+)?"?,'
_TEXT = r'("(?:[^"]|""|\\")*"|[^",\n][^,\n]*|)'
_RECORD = rf'(?s){_ID}{_TEXT},{_TEXT},"?[0-9.]*"?\s*$'
_DURATION = r'(?s),"?[0-9.]*"?\s*$'


def read_captions(path: Path, video_ids: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Captions of some videos.

    Args:
        path: The file, plain or gzipped.
        video_ids: The videos wanted, column ``video_id`` (Int64).

    Returns:
        A row per video that the file has (its first one): ``video_id``, ``caption`` and
        ``cover_text``, null where empty; and how many of them had fields that ran together.

    Raises:
        DataError: If the header is another one.
    """
    header = collect(scan_lines(path).head(1), path)
    found = (header["line"][0] or "").strip("\ufeff \r") if header.height else ""
    if found not in _HEADERS:
        raise DataError(
            f"{path}: expected the header {_HEADERS[0]}; found {found[:120]!r}; download it again"
        )
    parts, rest = [], pl.DataFrame(schema={"line": pl.String})
    with reading(path):
        for batch in scan_lines(path).slice(1).collect_batches(chunk_size=_LINES_PER_BATCH):
            lines = pl.concat([rest, batch])
            starts = lines["line"].str.contains(_ID).fill_null(value=False).arg_true()
            end = starts[-1] if len(starts) else 0  # the last record may go on in the next batch
            parts.append(_parse(lines.head(end), video_ids))
            rest = lines.slice(end)
    parts.append(_parse(rest, video_ids))
    captions = pl.concat(parts).unique("video_id", keep="first", maintain_order=True)
    return captions.drop("is_mended"), int(captions["is_mended"].sum())


def _parse(lines: pl.DataFrame, video_ids: pl.DataFrame) -> pl.DataFrame:
    """Whole records among lines: video_id, caption, cover_text, is_mended."""
    line = pl.col("line")
    video_id = line.str.extract(_ID, 1).cast(pl.Int64, strict=False)
    records = (
        lines.with_columns(line.fill_null(""), video_id=video_id)
        .with_columns(
            pl.col("video_id").forward_fill(),
            record=pl.col("video_id").is_not_null().cum_sum(),
        )
        .join(video_ids, on="video_id", how="semi", maintain_order="left")
        .group_by("record", maintain_order=True)
        .agg(pl.col("video_id").first(), first=line.first(), whole=line.str.join("\n"))
    )
    # a record that is complete on its line does not go on below it
    text = pl.when(pl.col("first").str.contains(_RECORD)).then("first").otherwise("whole")
    fields = text.str.extract_groups(_RECORD).struct
    ran_together = text.str.replace(_ID, "").str.replace(_DURATION, "").str.strip_chars('", ')
    return records.select(
        "video_id",
        caption=pl.coalesce(fields.field("2"), ran_together).pipe(_unquoted),
        cover_text=fields.field("3").pipe(_unquoted),
        is_mended=fields.field("2").is_null(),
    )


def _unquoted(field: pl.Expr) -> pl.Expr:
    """A field as text: outer quotation marks gone, inner ones single, blank null."""
    text = field.str.strip_chars().str.strip_prefix('"').str.strip_suffix('"')
    text = text.str.replace_all('""', '"', literal=True).str.replace_all(r"\"", '"', literal=True)
    return text.str.strip_chars().replace("", None)
