"""Layouts of public datasets that are renames and joins of text tables, as declarations.

``TableLayout`` says where a user, an item and a time stand; ``LAYOUTS`` are the datasets.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.conditions import keep_events
from hidvae.data.schema import Columns
from hidvae.data.sources.delimited import header_of, scan_lines
from hidvae.data.sources.paths import most_common_first, path_of
from hidvae.data.spreadsheets import read_sheets
from hidvae.data.tables import LINE, SourceTables, reading, require_columns
from hidvae.data.text_files import COMPRESSIONS
from hidvae.errors import DataError
from hidvae.store.artifacts import Decision

_EXCEL = ".xlsx"


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A published table: one file, or several that are read one after the other."""

    files: tuple[str, ...]
    """Patterns of file names without .gz or .zst; all have to be there."""
    columns: tuple[str, ...]
    """Columns that are read; without a header all of them, in their order."""
    has_header: bool = True
    separator: str = ","
    quote: str | None = '"'
    """What encloses a value with a separator; None if every quotation mark is a letter."""
    is_latin: bool = False
    """Whether it is published in Windows-1252; copies in UTF-8 are known by their bytes."""
    is_json: bool = False
    """Whether each line is a JSON object."""
    also: tuple[tuple[RawTable, str], ...] = ()
    """Further tables, and the column by which each is joined to this one."""

    def find(self, folder: Path) -> list[Path]:
        """Its files, those of joined tables last; empty if not all of them are there."""
        found: list[Path] = []
        for pattern in self.files:
            paths = [
                path
                for compression in COMPRESSIONS
                for path in sorted(folder.glob(pattern + compression))
                if path.is_file() and self._fits(path)
            ]
            if len(paths) != 1:
                return []
            found += paths
        for table, _ in self.also:
            if not (more := table.find(folder)):
                return []
            found += more
        return found

    def _fits(self, path: Path) -> bool:
        if self.is_json or not self.has_header:
            return True
        if path.suffix == _EXCEL:
            sheets = _sheet_names(path, path.stat().st_mtime_ns)
            return any(set(self.columns) <= names for names in sheets)
        return set(self.columns) <= set(header_of(path, self.separator))

    def scan(self, folder: Path) -> pl.LazyFrame:
        """All of its columns as text, with ``LINE`` where it is one file."""
        paths = self.find(folder)[: len(self.files)]
        rows = pl.concat([self._scan(path) for path in paths])
        if len(paths) > 1:
            rows = rows.drop(LINE, strict=False)
        for table, key in self.also:
            other = table.scan(folder).drop(LINE, strict=False).unique(key, keep="first")
            rows = rows.join(other, on=key, how="left", maintain_order="left")
        return rows

    def _scan(self, path: Path) -> pl.LazyFrame:
        if path.suffix == _EXCEL:
            sheets = [each for each in read_sheets(path) if set(self.columns) <= set(each.columns)]
            return pl.concat(sheet.select(self.columns) for sheet in sheets).lazy()
        if self.is_json:
            lines = scan_lines(path).with_row_index(LINE, offset=1)
            value = {name: pl.col("line").str.json_path_match(f"$.{name}") for name in self.columns}
            return lines.filter(pl.col("line").is_not_null()).select(LINE, **value)
        with reading(path):
            rows = pl.scan_csv(
                _utf8(path) if self.is_latin else path,
                glob=False,
                has_header=self.has_header,
                separator=self.separator,
                quote_char=self.quote,
                infer_schema=False,
                new_columns=None if self.has_header else list(self.columns),
                truncate_ragged_lines=True,
                encoding="utf8-lossy",
                row_index_name=LINE,
                row_index_offset=2 if self.has_header else 1,
            )
            names = rows.collect_schema().names()
        rows = rows.rename({name: name.strip() for name in names})
        require_columns(
            pl.DataFrame(schema=[name.strip() for name in names]), self.columns, str(path)
        )
        return rows.select(LINE, *self.columns)


@lru_cache
def _sheet_names(path: Path, _: int) -> list[set[str]]:
    """The columns of each sheet of a file; read once, as they cannot be had alone."""
    return [set(sheet.columns) for sheet in read_sheets(path)]


def _utf8(path: Path) -> Path | bytes:
    """The file, or what it holds in UTF-8 if it is in Windows-1252."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace").encode()
    return path


@dataclass(frozen=True, kw_only=True)
class TableLayout:
    """A public dataset whose tables need no more than renames, joins and conditions."""

    name: str
    """For people."""
    said: str
    """What an event and an item are, and what is left out."""
    events: RawTable
    user: str
    item: str
    time: str = ""
    time_formats: tuple[str, ...] = ()
    """How times are written; the one that most rows have counts. Empty: as ``data.times`` finds."""
    position: tuple[str, ...] = ()
    """Whole numbers that order a user's events, most important first."""
    where: tuple[str, ...] = ()
    """Conditions as of ``DatasetConfig.events_where``, which takes their place if it is given."""
    never: tuple[tuple[str, str], ...] = ()
    """Column and regular expression of rows that are no events in any case."""
    float_ids: tuple[str, ...] = ()
    """Columns of ids that pandas writes as 7.0, because some are missing."""
    items: RawTable | None = None
    """Table of items; without it they are those of the log."""
    item_key: str = ""
    """Column of ``items`` with the id, if it has another name there."""
    item_columns: Mapping[str, str] = field(default_factory=dict)
    """Column of ``items``, or of the log, -> our name."""
    path: tuple[str, ...] = ()
    """Columns of the category path, root first."""
    labels: tuple[str, str] = ("", "")
    """Column with labels that have no order, and what stands between them."""
    hint: Decision | None = None

    def find(self, folder: Path) -> dict[str, Path]:
        """Its files by name, those of the log first; empty if they are not all there."""
        log = self.events.find(folder)
        items = self.items.find(folder) if log and self.items else []
        if not log or (self.items and not items):
            return {}
        return {path.name: path for path in (*log, *items)}

    def read(self, folder: Path, files: Mapping[str, Path], config: DatasetConfig) -> SourceTables:
        """Its tables under our names.

        Raises:
            ConfigError: If a condition of the settings is malformed, or its column is not there.
            DataError: If a file cannot be read.
        """
        log_path = next(iter(files.values()))
        raw = self.events.scan(folder).with_columns(
            pl.col(name).str.strip_chars().str.replace(r"\.0$", "") for name in self.float_ids
        )
        for column, pattern in self.never:
            raw = raw.filter(~pl.col(column).str.contains(pattern).fill_null(value=False))
        events = keep_events(raw, config.events_where or self.where, str(log_path))
        columns: dict[str, pl.Expr] = {
            Columns.USER: pl.col(self.user),
            Columns.ITEM: pl.col(self.item),
        }
        if self.time:
            columns[Columns.TIMESTAMP] = self._time(events, log_path)
        if self.position:
            *first, last = (pl.col(name).cast(pl.Float64).cast(pl.Int64) for name in self.position)
            columns[Columns.POSITION] = sum((place * 1000 for place in first), last)
        line = [LINE] if LINE in events.collect_schema() else []
        items, items_file = self._items(raw, folder, log_path)
        return SourceTables(
            name=folder.resolve().name,
            items=items,
            interactions=events.select(*line, **columns),
            items_file=items_file,
            interactions_file=", ".join(str(path) for path in self.events.find(folder)),
            used=frozenset({"events_where"}),
        )

    def _time(self, events: pl.LazyFrame, path: Path) -> pl.Expr:
        text = pl.col(self.time).str.strip_chars()
        if not self.time_formats:
            return text
        parsed = [text.str.to_datetime(form, strict=False) for form in self.time_formats]
        if len(parsed) == 1:
            return parsed[0]
        with reading(path):
            fits = events.select(
                time.is_not_null().sum().alias(str(place)) for place, time in enumerate(parsed)
            )
            counts = fits.collect(engine="streaming").row(0)
        return parsed[counts.index(max(counts))]

    def _items(self, log: pl.LazyFrame, folder: Path, log_path: Path) -> tuple[pl.DataFrame, str]:
        if self.items:
            path, key = self.items.find(folder)[0], self.item_key or self.item
            rows = self.items.scan(folder)
        else:
            path, key = log_path, self.item
            used = [*self.item_columns, *self.path, *filter(None, self.labels[:1])]
            others = [name for name in dict.fromkeys(used) if name != key]
            first = [pl.col(name).drop_nulls().first() for name in others]
            rows = log.group_by(key, maintain_order=True).agg(first).drop_nulls(key)
        columns = {Columns.ITEM: pl.col(key)}
        columns |= {ours: pl.col(theirs) for theirs, ours in self.item_columns.items()}
        if self.path:
            columns[Columns.CATEGORIES] = path_of(self.path)
        column, between = self.labels
        if column:
            labels = pl.col(column).str.split(between)
            columns[Columns.CATEGORIES] = labels.list.eval(pl.element().str.strip_chars())
        with reading(path):
            items = rows.select(**columns).collect(engine="streaming")
        if column:
            known = items[Columns.CATEGORIES].list.eval(pl.element().filter(pl.element() != ""))
            items = items.with_columns(most_common_first(known).alias(Columns.CATEGORIES))
        if items.is_empty():
            raise DataError(f"{path}: expected items; found none; download it again")
        return items, str(path)


_DAY, _SECOND = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"
_ISO = "%Y-%m-%dT%H:%M:%S%.fZ"


def _online_retail(name: str, invoice: str, customer: str, price: str, suffix: str) -> TableLayout:
    return TableLayout(
        name=name,
        said="a line of an invoice is an event, a StockCode an item, titled by its first "
        "Description; cancelled invoices (C…) and lines without a customer are left out",
        events=RawTable(
            files=(f"*{suffix}",),
            is_latin=True,
            columns=(
                invoice,
                "StockCode",
                "Description",
                "Quantity",
                "InvoiceDate",
                price,
                customer,
                "Country",
            ),
        ),
        user=customer,
        item="StockCode",
        time="InvoiceDate",
        float_ids=(customer,),
        never=((invoice, "^[Cc]"), ("Quantity", "^-")),
        item_columns={"Description": Columns.TITLE},
    )


def _checkins(name: str, pattern: str) -> TableLayout:
    return TableLayout(
        name=name,
        said="a check-in is an event, a place an item without a name; coordinates are left out",
        events=RawTable(
            files=(pattern,),
            columns=("user", "time", "latitude", "longitude", "place"),
            has_header=False,
            separator="\t",
            quote=None,
        ),
        user="user",
        item="place",
        time="time",
        time_formats=(_ISO,),
    )


LAYOUTS = (
    TableLayout(
        name="Yelp's academic dataset",
        said="a review is an event, whatever its stars; a business is an item, its categories the "
        "path, most common first; stars and numbers of reviews of a business are left out, as "
        "they know the future",
        events=RawTable(
            files=("yelp_academic_dataset_review.json",),
            columns=("user_id", "business_id", "stars", "date"),
            is_json=True,
        ),
        user="user_id",
        item="business_id",
        time="date",
        time_formats=(_SECOND, _DAY),
        items=RawTable(
            files=("yelp_academic_dataset_business.json",),
            columns=("business_id", "name", "city", "state", "categories"),
            is_json=True,
        ),
        item_columns={"name": Columns.TITLE, "city": "city", "state": "state"},
        labels=("categories", ","),
        hint=Decision(
            "Yelp: every review counts, bad ones too", 'DatasetConfig.events_where="stars >= 4"'
        ),
    ),
    TableLayout(
        name="H&M Personalized Fashion Recommendations",
        said="a bought article is an event, an article_id an item; prices, channels and customers' "
        "ages are left out",
        events=RawTable(
            files=("transactions_train.csv",),
            columns=("t_dat", "customer_id", "article_id", "price", "sales_channel_id"),
        ),
        user="customer_id",
        item="article_id",
        time="t_dat",
        time_formats=(_DAY,),
        items=RawTable(
            files=("articles.csv",),
            columns=(
                "article_id",
                "prod_name",
                "product_type_name",
                "product_group_name",
                "index_group_name",
                "colour_group_name",
                "detail_desc",
            ),
        ),
        item_columns={
            "prod_name": Columns.TITLE,
            "detail_desc": Columns.DESCRIPTION,
            "colour_group_name": "colour",
        },
        path=("index_group_name", "product_group_name", "product_type_name"),
    ),
    TableLayout(
        name="Instacart Market Basket Analysis",
        said="a product put into a basket is an event, a product an item, in the order of "
        "order_number and add_to_cart_order",
        events=RawTable(
            files=("order_products__prior.csv", "order_products__train.csv"),
            columns=("order_id", "product_id", "add_to_cart_order", "reordered"),
            also=(
                (
                    RawTable(
                        files=("orders.csv",), columns=("order_id", "user_id", "order_number")
                    ),
                    "order_id",
                ),
            ),
        ),
        user="user_id",
        item="product_id",
        position=("order_number", "add_to_cart_order"),
        items=RawTable(
            files=("products.csv",),
            columns=("product_id", "product_name", "aisle_id", "department_id"),
            also=(
                (RawTable(files=("aisles.csv",), columns=("aisle_id", "aisle")), "aisle_id"),
                (
                    RawTable(files=("departments.csv",), columns=("department_id", "department")),
                    "department_id",
                ),
            ),
        ),
        item_columns={"product_name": Columns.TITLE},
        path=("department", "aisle"),
    ),
    *(
        layout
        for suffix in (".csv", _EXCEL)
        for layout in (
            _online_retail("Online Retail", "InvoiceNo", "CustomerID", "UnitPrice", suffix),
            _online_retail("Online Retail II", "Invoice", "Customer ID", "Price", suffix),
        )
    ),
    TableLayout(
        name="Yoochoose (RecSys Challenge 2015)",
        said="a click is an event, a session a user, an item has its id only; the category of a "
        "click is left out, as it says where the item was shown; purchases are left out",
        events=RawTable(
            files=("yoochoose-clicks.dat",),
            columns=("session", "time", "item", "category"),
            has_header=False,
        ),
        user="session",
        item="item",
        time="time",
        time_formats=(_ISO,),
    ),
    _checkins("Gowalla", "*gowalla_totalCheckins.txt"),
    _checkins("Brightkite", "*brightkite_totalCheckins.txt"),
    TableLayout(
        name="Foursquare check-ins",
        said="a check-in is an event, a venue an item, titled and filed by its category",
        events=RawTable(
            files=("dataset_TSMC2014_*.txt",),
            is_latin=True,
            columns=(
                "user",
                "venue",
                "category_id",
                "category",
                "latitude",
                "longitude",
                "offset",
                "time",
            ),
            has_header=False,
            separator="\t",
            quote=None,
        ),
        user="user",
        item="venue",
        time="time",
        time_formats=("%a %b %d %H:%M:%S %z %Y",),
        item_columns={"category": Columns.TITLE},
        path=("category",),
    ),
    TableLayout(
        name="Last.fm 2K (HetRec 2011)",
        said="a user's tag of an artist is an event, an artist an item; play counts are left out, "
        "as they have no time, and the tags themselves, as they were given at any time",
        events=RawTable(
            files=("user_taggedartists-timestamps.dat",),
            columns=("userID", "artistID", "tagID", "timestamp"),
            separator="\t",
            quote=None,
        ),
        user="userID",
        item="artistID",
        time="timestamp",
        items=RawTable(files=("artists.dat",), columns=("id", "name"), separator="\t", quote=None),
        item_key="id",
        item_columns={"name": Columns.TITLE},
    ),
    TableLayout(
        name="Last.fm 1K",
        said="a play is an event, an artist an item, by name, as many have no other id; tracks are "
        "left out",
        events=RawTable(
            files=("userid-timestamp-artid-artname-traid-traname.tsv",),
            columns=("user", "time", "artist_id", "artist", "track_id", "track"),
            has_header=False,
            separator="\t",
            quote=None,
        ),
        user="user",
        item="artist",
        time="time",
        time_formats=(_ISO,),
        item_columns={"artist": Columns.TITLE},
        hint=Decision(
            "Last.fm: a user plays an artist many times in a row",
            "DatasetConfig.repeated_items=first",
        ),
    ),
)
"""Every layout that needs no code of its own."""
