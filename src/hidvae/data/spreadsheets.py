"""Tables in Excel files, read as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.delimited_text import Layout, name_columns
from hidvae.data.notes import Notes
from hidvae.data.tables import LINE, empty_file
from hidvae.errors import DataError, MissingExtraError


def read_sheet(path: Path, stem: str, layout: Layout, notes: Notes) -> pl.DataFrame:
    """Read a sheet: the one that is called like the table, else the first that is not empty.

    Args:
        path: An .xlsx file.
        stem: What the table is called, such as ``items``.
        layout: What is known of the table.
        notes: Told of the sheet if there are several.

    Returns:
        ``LINE``, the row of the sheet, then the columns as text; empty rows left out.

    Raises:
        DataError: If the file cannot be read, or has no header.
        MissingExtraError: If the package that reads it is not installed.
    """
    try:
        import fastexcel
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: an Excel file needs the package fastexcel; `pip install 'hidvae[excel]'`, or "
            "save the sheet as CSV"
        ) from error
    try:
        book = fastexcel.read_excel(path)
        names = book.sheet_names
        named = [name for name in names if name.strip().casefold() == stem.casefold()]
        sheets = [(name, _values(book, name)) for name in named[:1] or names]
    except fastexcel.FastExcelError as error:
        raise DataError(
            f"{path}: expected a readable Excel file; found: {str(error).splitlines()[0]}; save it "
            "again as .xlsx"
        ) from error
    filled = [(name, values) for name, values in sheets if values.height]
    if not filled:
        raise empty_file(path)
    name, values = filled[0]
    if len(names) > 1:
        notes.decide(f"{path}: sheet {name!r} is read, of {', '.join(names)}")
    first, *rows = [[value or "" for value in row] for row in values.drop(LINE).iter_rows()]
    line = values[LINE][0]
    columns, is_named = name_columns(first, rows, layout, str(path), line, ", ".join(first))
    table = values.select(LINE, *(pl.nth(n + 1).alias(c) for n, c in enumerate(columns)))
    return table[1:] if is_named else table


def read_sheets(path: Path) -> list[pl.DataFrame]:
    """All sheets as text, with the names of their first row; none if they cannot be read here."""
    try:
        import fastexcel
    except ImportError:
        return []
    try:
        book = fastexcel.read_excel(path)
        sheets = [_values(book, name).drop(LINE) for name in book.sheet_names]
    except fastexcel.FastExcelError:
        return []
    named = []
    for values in sheets:
        header = [str(name or "").strip() for name in values.row(0)] if values.height else []
        names = {name: at for at, name in reversed(list(enumerate(header))) if name}
        named.append(values[1:].select(pl.nth(at).alias(name) for name, at in names.items()))
    return named


def _values(book: Any, name: str) -> pl.DataFrame:
    """The rows of a sheet that are not empty, and their numbers."""
    values: pl.DataFrame = book.load_sheet(
        name, header_row=None, skip_rows=0, dtypes="string"
    ).to_polars()
    if not values.width:
        return pl.DataFrame(schema={LINE: pl.get_index_type()})
    is_filled = values.select(pl.any_horizontal(pl.all().str.strip_chars(" ") != ""))
    return values.with_row_index(LINE, offset=1).filter(is_filled.to_series().fill_null(False))
