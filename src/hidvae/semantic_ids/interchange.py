"""Semantic IDs in the formats of other tools, both ways.

- ``.json``: index JSON, ``{"item": ["<a_12>", "<b_3>"], …}``, one item per line.
- ``.parquet``: columns ``item_id`` (string) and ``codes`` (list of integers).
- ``.item``: RecBole atomic file, ``item_id:token`` and ``codes:token_seq``, tab separated.

They hold codes only: no tags, and no sizes of the levels. On import the sizes are given, or the
smallest that fit the codes are taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hidvae.errors import ArtifactError, DataError
from hidvae.semantic_ids.table import LEVEL_LETTERS, SemanticIds, list_column

_TOKEN = r"^<([a-z])_(0|[1-9][0-9]{0,17})>$"
_ITEM_COLUMN, _CODES_COLUMN = "item_id:token", "codes:token_seq"


def export_ids(ids: SemanticIds, path: Path) -> None:
    """Write a ``.json``, ``.parquet`` or ``.item`` file, whole or not at all.

    Raises:
        DataError: If the ending is none of these, or an item's name does not fit the format.
        ArtifactError: If the file cannot be written.
    """
    _check_ending(path)
    _EXPORTERS[path.suffix](ids, path)


def import_ids(
    path: Path, level_sizes: Sequence[int] | None = None, *, is_disambiguated: bool = False
) -> SemanticIds:
    """Read a ``.json``, ``.parquet`` or ``.item`` file.

    Args:
        path: The file.
        level_sizes: Codes of each level; None takes the largest code of each level plus one.
        is_disambiguated: Whether the last level only parts items; the formats do not say.

    Returns: A table without tags, items in the order of the file.

    Raises:
        DataError: If the file cannot be read, a token is malformed, IDs differ in length, an item
            is there twice, or a code is out of range.
    """
    _check_ending(path)
    frame = _IMPORTERS[path.suffix](path)
    return _checked(frame, path, level_sizes, is_disambiguated)


def export_index_json(ids: SemanticIds, path: Path) -> None:
    """Write ``{"item": ["<a_12>", …]}``; see ``export_ids``."""
    tokens = _token_columns(ids)
    lists = tokens.select(pl.concat_list(pl.all())).to_series().to_list() if ids.num_items else []
    lines = (
        f"{json.dumps(item, ensure_ascii=False)}: {json.dumps(codes)}"
        for item, codes in zip(ids.item_ids, lists, strict=True)
    )
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    _write(path, lambda file: file.write_text(text, encoding="utf-8", newline="\n"))


def export_parquet(ids: SemanticIds, path: Path) -> None:
    """Write columns ``item_id`` and ``codes``; see ``export_ids``."""
    frame = pl.DataFrame(
        {"item_id": pl.Series(ids.item_ids, dtype=pl.String), "codes": list_column(ids.codes)}
    )
    _write(path, frame.write_parquet)


def export_recbole(ids: SemanticIds, path: Path) -> None:
    """Write a RecBole atomic ``.item`` file; see ``export_ids``."""
    items = pl.Series(ids.item_ids, dtype=pl.String)
    unfit = items.filter(items.str.contains('[\t\r\n"]') | (items == ""))
    if len(unfit):
        raise DataError(
            f"{path}: a RecBole file cannot hold an empty item_id, nor one with a tab, line break "
            f"or quote; found {unfit[0]!r}; rename the item or export .json or .parquet"
        )
    frame = pl.DataFrame(
        {
            _ITEM_COLUMN: items,
            _CODES_COLUMN: _token_columns(ids)
            .select(pl.concat_str(pl.all(), separator=" "))
            .to_series(),
        }
    )
    _write(path, lambda file: frame.write_csv(file, separator="\t", quote_style="never"))


def import_index_json(path: Path) -> pl.DataFrame:
    """Read index JSON into item_id and codes (list of Int64), tokens checked."""
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, "an index JSON file", error) from error
    if not isinstance(pairs, _Pairs):
        raise DataError(
            f'{path}: expected an object {{"item": ["<a_12>", …]}}; found '
            f"{type(pairs).__name__}; export the index again"
        )
    for item, tokens in pairs:
        if type(tokens) is not list or not all(isinstance(token, str) for token in tokens):
            raise DataError(
                f'{path}: item {item!r}: expected a list of tokens such as "<a_12>"; found '
                f"{_shown(tokens)}; mend this entry"
            )
    try:
        items = pl.Series("item_id", [item for item, _ in pairs], dtype=pl.String)
        lists = pl.Series("tokens", [tokens for _, tokens in pairs], dtype=pl.List(pl.String))
    except UnicodeEncodeError as error:  # half of a surrogate pair, "\\ud800"
        raise _unreadable(path, "an index JSON file", error) from error
    return _parsed(path, items, lists)


def import_parquet(path: Path) -> pl.DataFrame:
    """Read item_id and codes (list of Int64); a column of whole numbers may name the items."""
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, "a Parquet file", error) from error
    _require_columns(path, frame, ("item_id", "codes"))
    items, codes = frame["item_id"], frame["codes"]
    inner = codes.dtype.inner if isinstance(codes.dtype, (pl.List, pl.Array)) else None
    if inner is None or not inner.is_integer():
        raise DataError(
            f"{path}: column codes: expected lists of integers; found {codes.dtype}; "
            "cast the column"
        )
    if not (items.dtype == pl.String or items.dtype.is_integer()):
        raise DataError(
            f"{path}: column item_id: expected strings; found {items.dtype}; cast the column"
        )
    try:
        codes = codes.cast(pl.List(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, "codes of 64 bits", error) from error
    frame = pl.DataFrame({"item_id": items.cast(pl.String), "codes": codes})
    missing = (
        pl.any_horizontal(pl.all().is_null())
        | pl.col("codes").list.eval(pl.element().is_null()).list.any()
    )
    rows = frame.select(missing.fill_null(True).arg_true()).to_series()
    if len(rows):
        item_id, found = frame.row(rows[0])
        raise DataError(
            f"{path}: row {rows[0]}, item {item_id!r}: expected a name and integers without gaps; "
            f"found {found}; fill or drop the row"
        )
    return frame


def import_recbole(path: Path) -> pl.DataFrame:
    """Read a ``.item`` file into item_id and codes (list of Int64); other columns are ignored."""
    try:
        frame = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, "a RecBole atomic file", error) from error
    _require_columns(path, frame, (_ITEM_COLUMN, _CODES_COLUMN))
    missing = pl.col(_ITEM_COLUMN).is_null() | pl.col(_CODES_COLUMN).is_null()
    rows = frame.select(missing.arg_true()).to_series()
    if len(rows):
        raise DataError(
            f"{path}: line {rows[0] + 2}: expected an item and its codes; found "
            f"{frame.select(_ITEM_COLUMN, _CODES_COLUMN).row(rows[0])}; fill or drop the line"
        )
    return _parsed(path, frame[_ITEM_COLUMN], frame[_CODES_COLUMN].str.split(" "))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as written, so that a second entry of an item is seen."""


def _token_columns(ids: SemanticIds) -> pl.DataFrame:
    """Text of the codes, a column per level."""
    return pl.DataFrame(
        [
            pl.Series(letter, ids.codes[:, level], dtype=pl.Int64)
            for level, letter in enumerate(LEVEL_LETTERS[: ids.num_levels])
        ]
    ).select(
        pl.format("<{}_{}>", pl.lit(name), name).alias(name)
        for name in LEVEL_LETTERS[: ids.num_levels]
    )


def _parsed(path: Path, item_ids: pl.Series, tokens: pl.Series) -> pl.DataFrame:
    """Tokens (lists of strings) as codes; a malformed one raises DataError."""
    frame = pl.DataFrame({"item_id": item_ids, "token": tokens})
    letters = pl.Series([*LEVEL_LETTERS], dtype=pl.String)
    long = (
        frame.with_row_index("row")
        .with_columns(level=pl.int_ranges(pl.col("token").list.len()))
        .filter(pl.col("token").list.len() > 0)
        .explode("token", "level")
        .with_columns(
            code=pl.col("token").str.extract(_TOKEN, 2).cast(pl.Int64),
            is_in_place=pl.col("token").str.extract(_TOKEN, 1)
            == pl.lit(letters).gather(pl.col("level").clip(upper_bound=len(letters) - 1)),
        )
    )
    wrong = long.filter(pl.col("code").is_null() | ~pl.col("is_in_place"))
    if wrong.height:
        first = wrong.row(0, named=True)
        letter = LEVEL_LETTERS[min(first["level"], len(LEVEL_LETTERS) - 1)]
        raise DataError(
            f"{path}: item {first['item_id']!r}, level {first['level']}: expected a token such as "
            f"<{letter}_12>; found {first['token']!r}; mend this entry"
        )
    codes = long.group_by("row", maintain_order=True).agg("code")
    joined = frame.with_row_index("row").join(codes, on="row", how="left", maintain_order="left")
    empty = pl.lit([], dtype=pl.List(pl.Int64))
    return joined.select("item_id", codes=pl.col("code").fill_null(empty))


def _checked(
    frame: pl.DataFrame, path: Path, level_sizes: Sequence[int] | None, is_disambiguated: bool
) -> SemanticIds:
    """Items once, IDs of one length, codes in range; or DataError naming file, item and value."""
    if frame.is_empty():
        raise DataError(f"{path}: expected semantic IDs; found no items; export the table again")
    twice = frame.filter(~pl.col("item_id").is_first_distinct())
    if twice.height:
        raise DataError(
            f"{path}: item {twice['item_id'][0]!r}: expected one entry; found another with codes "
            f"{twice['codes'][0].to_list()}; drop one of them"
        )
    num_levels = len(level_sizes) if level_sizes is not None else len(frame["codes"][0])
    if not 1 <= num_levels <= len(LEVEL_LETTERS):
        raise DataError(
            f"{path}: item {frame['item_id'][0]!r}: expected 1 to {len(LEVEL_LETTERS)} codes; "
            f"found {num_levels}; mend this entry"
        )
    other = frame.filter(pl.col("codes").list.len() != num_levels)
    if other.height:
        raise DataError(
            f"{path}: item {other['item_id'][0]!r}: expected {num_levels} codes; found "
            f"{_shown(other['codes'][0].to_list())}; give every item an ID of the same length"
        )
    codes = frame["codes"].explode().to_numpy().reshape(frame.height, num_levels)
    sizes = codes.max(axis=0) + 1 if level_sizes is None else np.asarray(level_sizes)
    wrong = np.argwhere((codes < 0) | (codes >= sizes))
    if len(wrong):
        row, level = wrong[0]
        expected = f"in [0, {sizes[level]})" if level_sizes is not None else "of at least 0"
        raise DataError(
            f"{path}: item {frame['item_id'][int(row)]!r}, level {level}: expected a code "
            f"{expected}; found {codes[row, level]}; pass the level sizes of this table"
        )
    return SemanticIds.without_tags(
        frame["item_id"].to_list(), codes, sizes.tolist(), is_disambiguated=is_disambiguated
    )


def _require_columns(path: Path, frame: pl.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: expected a column {missing[0]}; found {', '.join(frame.columns)}; "
            "rename the column"
        )


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name and rename."""
    temporary = path.with_name(path.name + ".writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(
            f"could not write {path}: {error.strerror or error}; choose another file"
        ) from error


def _check_ending(path: Path) -> None:
    if path.suffix not in _EXPORTERS:
        raise DataError(
            f"{path}: expected a file name ending in {', '.join(_EXPORTERS)}; found "
            f"{path.suffix or 'no ending'}; choose the format by the ending"
        )


def _unreadable(path: Path, expected: str, error: Exception) -> DataError:
    return DataError(
        f"{path}: expected {expected}; found {' '.join(str(error).split())}; check the path and "
        "the format"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_EXPORTERS = {".json": export_index_json, ".parquet": export_parquet, ".item": export_recbole}
_IMPORTERS = {".json": import_index_json, ".parquet": import_parquet, ".item": import_recbole}
