"""Semantic IDs in the formats of other tools, both ways.

- ``.json``: index JSON, ``{"item": ["<a_12>", "<b_3>"], …}``, one item per line.
- ``.parquet``: columns ``item_id`` (string) and ``codes`` (list of integers).
- ``.item``: RecBole atomic file, ``item_id:token`` and ``codes:token_seq``, tab separated.
- A folder as LC-Rec, LETTER and MiniOneRec have it: ``NAME.index.json`` whose items are numbers,
  ``NAME.item2id`` (item id, tab, number), ``NAME.item.json`` (the items' texts by number).

They hold codes only: no tags, and no sizes of the levels. On import a level gets the smallest size
that fits its codes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hidvae.data.catalogue import Catalogue
from hidvae.data.schema import Columns
from hidvae.errors import ArtifactError, DataError
from hidvae.semantic_ids.collisions import colliding_groups, disambiguate
from hidvae.semantic_ids.table import LEVEL_LETTERS, SemanticIds, list_column
from hidvae.store.files import atomic_write

_TOKEN = r"^<([a-z])_(0|[1-9][0-9]{0,17})>$"
_ITEM_COLUMN, _CODES_COLUMN = "item_id:token", "codes:token_seq"
_INDEX, _NUMBERS, _TEXTS = ".index.json", ".item2id", ".item.json"
_LARGEST_LEVEL = 65536
"""Codes of a level, at most, unless there are more items: each has a vector in the retriever."""
_TEXT_COLUMNS = (Columns.TITLE, Columns.DESCRIPTION, Columns.BRAND, Columns.CATEGORIES)
"""Of a catalogue, those that ``NAME.item.json`` has."""


def export_ids(ids: SemanticIds, path: Path | str) -> None:
    """Write a ``.json``, ``.parquet`` or ``.item`` file, whole or not at all.

    Raises:
        DataError: If the ending is none of these, or an item's name does not fit the format.
        ArtifactError: If the file cannot be written.
    """
    path = Path(path)
    _check_ending(path)
    _EXPORTERS[path.suffix](ids, path)


def export_folder(ids: SemanticIds, catalogue: Catalogue, folder: Path | str) -> None:
    """Write a folder as LC-Rec, LETTER and MiniOneRec have it; its name is that of the files.

    Args:
        ids: N items.
        catalogue: The same items in the same order.
        folder: Made if it is not there.

    Raises:
        DataError: If an item's name does not fit the format.
        ArtifactError: If a file cannot be written.
    """
    folder = Path(folder)
    name = folder.resolve().name
    unfit = [
        item for item in ids.item_ids if not item or any(letter in item for letter in "\t\r\n")
    ]
    if unfit:
        raise DataError(
            f"{folder}: {name}{_NUMBERS} cannot hold an empty item_id, nor one with a tab or line "
            f"break; found {unfit[0]!r}; rename the item or export .json or .parquet"
        )
    numbers = [str(number) for number in range(ids.num_items)]
    numbered = SemanticIds.without_tags(numbers, ids.codes, ids.level_sizes)
    export_index_json(numbered, folder / f"{name}{_INDEX}")
    lines = "".join(f"{item}\t{number}\n" for number, item in enumerate(ids.item_ids))
    _write_text(folder / f"{name}{_NUMBERS}", lines)
    _write_text(folder / f"{name}{_TEXTS}", _texts(catalogue))


def import_ids(path: Path | str) -> SemanticIds:
    """Read a ``.json``, ``.parquet`` or ``.item`` file, or a folder of LC-Rec's files.

    Where ``NAME.item2id`` lies beside ``NAME.index.json``, the items of the latter are numbers.

    Returns: A table without tags, items in the order of the file; IDs may be alike.

    Raises:
        DataError: If the file cannot be read, a token is malformed, IDs differ in length, or an
            item is there twice.
    """
    path, *numbers = files_of_ids(path)
    _check_ending(path)
    frame = _IMPORTERS[path.suffix](path)
    if numbers:
        frame = _named(frame, path, numbers[0])
    return _checked(frame, path)


def files_of_ids(path: Path | str) -> list[Path]:
    """The file with the codes, then ``NAME.item2id`` if it lies beside ``NAME.index.json``.

    Args:
        path: Such a file, or a folder with one ``NAME.index.json``.

    Raises:
        DataError: If it is a folder with none or several.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob(f"*{_INDEX}"))
        if len(found) != 1:
            raise DataError(
                f"{path}: expected one file NAME{_INDEX}; found {len(found)}; name the file itself"
            )
        path = found[0]
    numbers = path.with_name(path.name.removesuffix(_INDEX) + _NUMBERS)
    has_numbers = path.name.endswith(_INDEX) and numbers.is_file()
    return [path, numbers] if has_numbers else [path]


def ids_of_catalogue(
    path: Path | str, item_ids: Sequence[str], *, may_add_code: bool
) -> tuple[SemanticIds, npt.NDArray[np.int64], list[str]]:
    """IDs of a catalogue's items, no two alike, from a file of another tool.

    Args:
        path: As for ``import_ids``.
        item_ids: (N,) of the catalogue.
        may_add_code: Whether items that share an ID may be parted by one more code.

    Returns: The table in the order of the catalogue, the codes (N, M) as the file has them, and the
        items of the file that the catalogue does not have.

    Raises:
        DataError: If the file is malformed, an item of the catalogue has no ID, a code is far above
            the number of items, or items share an ID and ``may_add_code`` is False.
    """
    found = import_ids(path)
    place = {item: row for row, item in enumerate(found.item_ids)}
    missing = [item for item in item_ids if item not in place]
    if missing:
        advice = (
            ""
            if len(files_of_ids(path)) > 1
            else f" (if these are numbers, put NAME{_NUMBERS} beside NAME{_INDEX})"
        )
        raise DataError(
            f"{path}: expected an ID for every item of the catalogue; found none for "
            f"{len(missing)} of {len(item_ids)}, first {missing[0]!r}; its items look like "
            f"{found.item_ids[0]!r}{advice}; give these items an ID or leave them out of the tables"
        )
    codes = found.codes[[place[item] for item in item_ids]]
    most = max(_LARGEST_LEVEL, len(item_ids))
    if (codes >= most).any():
        row, level = np.argwhere(codes >= most)[0]
        raise DataError(
            f"{path}: item {item_ids[int(row)]!r}, level {level}: expected a code below {most}; "
            f"found {codes[row, level]}; number the codes of each level from 0"
        )
    sizes = (codes.max(axis=0) + 1).tolist()
    groups = colliding_groups(codes)
    final = codes
    if groups:
        if not may_add_code:
            alike = [item_ids[item] for item in groups[0][:2]]
            raise DataError(
                f"{path}: expected an ID of its own for every item; found {sum(map(len, groups))} "
                f"that share theirs, such as {alike[0]!r} and {alike[1]!r}; add --set "
                "TokenizerConfig.collisions=disambiguate to part them by one more code"
            )
        final, last = disambiguate(codes)
        sizes.append(last)
    ids = SemanticIds.without_tags(item_ids, final, sizes, is_disambiguated=bool(groups))
    own = set(item_ids)
    return ids, codes, [item for item in found.item_ids if item not in own]


def export_index_json(ids: SemanticIds, path: Path) -> None:
    """Write ``{"item": ["<a_12>", …]}``; see ``export_ids``."""
    tokens = _token_columns(ids)
    lists = tokens.select(pl.concat_list(pl.all())).to_series().to_list() if ids.num_items else []
    lines = (
        f"{json.dumps(item, ensure_ascii=False)}: {json.dumps(codes)}"
        for item, codes in zip(ids.item_ids, lists, strict=True)
    )
    _write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


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
        frame = pl.read_parquet(path, glob=False)
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
        frame = pl.read_csv(path, glob=False, separator="\t", quote_char=None, infer_schema=False)
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


def _named(frame: pl.DataFrame, path: Path, numbers: Path) -> pl.DataFrame:
    """Items by their names instead of their numbers, which ``NAME.item2id`` has."""
    try:
        lines = numbers.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as error:
        raise _unreadable(numbers, "lines of item id, tab, number", error) from error
    for line in lines:
        if len(line.split("\t")) != 2:
            raise DataError(
                f"{numbers}: expected lines of item id, tab, number; found {_shown(line)}; mend "
                "the file"
            )
    rows = [line.split("\t") for line in lines]
    pairs = pl.DataFrame(rows, schema={"name": pl.String, "item_id": pl.String}, orient="row")
    twice = pairs.filter(pl.col("item_id").is_duplicated() | pl.col("name").is_duplicated())
    if twice.height:
        raise DataError(
            f"{numbers}: expected every item and number once; found {twice.row(0)} again; mend the "
            "file"
        )
    joined = frame.join(pairs, on="item_id", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("name").is_null())
    if unknown.height:
        raise DataError(
            f"{path}: expected numbers of {numbers.name}; found {unknown['item_id'][0]!r}, which "
            "it does not have; use two files of one dataset"
        )
    return joined.select(item_id="name", codes="codes")


def _checked(frame: pl.DataFrame, path: Path) -> SemanticIds:
    """Items once, IDs of one length, codes in range; or DataError naming file, item and value."""
    if frame.is_empty():
        raise DataError(f"{path}: expected semantic IDs; found no items; export the table again")
    twice = frame.filter(~pl.col("item_id").is_first_distinct())
    if twice.height:
        raise DataError(
            f"{path}: item {twice['item_id'][0]!r}: expected one entry; found another with codes "
            f"{twice['codes'][0].to_list()}; drop one of them"
        )
    num_levels = len(frame["codes"][0])
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
    wrong = np.argwhere(codes < 0)
    if len(wrong):
        row, level = wrong[0]
        raise DataError(
            f"{path}: item {frame['item_id'][int(row)]!r}, level {level}: expected a code of at "
            f"least 0; found {codes[row, level]}; count codes from 0"
        )
    sizes = (codes.max(axis=0) + 1).tolist()
    return SemanticIds.without_tags(frame["item_id"].to_list(), codes, sizes)


def _texts(catalogue: Catalogue) -> str:
    """``NAME.item.json``: the items' texts by number, an item per line."""
    columns = [name for name in _TEXT_COLUMNS if name in catalogue.frame.columns]
    lines = []
    for number, row in enumerate(catalogue.frame.select(columns).iter_rows(named=True)):
        item = {name: _as_text(value) for name, value in row.items()}
        item[Columns.TITLE] = catalogue.titles[number]
        lines.append(f'"{number}": {json.dumps(item, ensure_ascii=False)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _as_text(value: object) -> str:
    if isinstance(value, list):  # a category path
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _require_columns(path: Path, frame: pl.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: expected a column {missing[0]}; found {', '.join(frame.columns)}; "
            "rename the column"
        )


def _write_text(path: Path, text: str) -> None:
    _write(path, lambda file: file.write_text(text, encoding="utf-8", newline="\n"))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            write(temporary)
    except OSError as error:
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
