"""Other names for the columns that the package knows, and paths that stand in several columns.

A name is taken only where it is the one candidate of its table; what was taken is said, and
``DatasetConfig.column_names`` always wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import polars as pl

from hidvae.data.notes import Notes
from hidvae.data.other_columns import as_text
from hidvae.data.schema import Columns
from hidvae.data.tables import LINE, reading
from hidvae.data.times import looks_like_times
from hidvae.errors import DataError

SETTING = "DatasetConfig.column_names"
_SAMPLE = 1000
_FEW, _DIFFERING = 5, 0.8
"""With so many items taken twice, and such a share of them under differing names: no title."""

# Each role's other names, best first: a name of a later row counts where no earlier one is there.
_USER_NAMES = (
    ("user", "uid", "customerid", "customer", "visitorid", "reviewerid", "memberid", "buyerid")
    + ("clientid", "shopperid", "personid", "useridx", "userno", "usernumber", "customerno"),
    ("visitor", "username", "reviewer", "client", "member", "customernumber", "accountid"),
    ("customeremail", "email", "useremail", "authorid", "steamid", "authorsteamid", "readerid")
    + ("kundennummer", "kundennr", "kundenid", "kunde", "nutzer", "benutzer", "benutzerid")
    + ("nutzerid", "mitglied", "mitgliedsnummer", "leser", "lesernummer", "utilisateur", "client")
    + ("idclient", "usuario", "idusuario", "cliente", "idcliente", "utente", "klant"),
    ("sessionid", "session"),
)
_ITEM_NAMES = (
    ("item", "iid", "productid", "itemidx", "itemno", "itemnumber"),
    ("product", "sku", "asin", "movieid", "newsid", "articleid", "bookid", "trackid", "songid")
    + ("businessid", "stockcode", "isbn", "videoid", "gameid", "contentid", "documentid", "docid")
    + ("recipeid", "artistid", "listingid", "offerid", "goodsid", "productcode", "itemcode"),
    ("parentasin", "movie", "article", "book", "track", "song", "video"),
    ("appid", "trackuri", "spotifytrackuri", "songuri", "itemuri", "lineitemsku", "itemsku")
    + ("recipe", "game", "handle"),
    ("artikelnummer", "artikelnr", "artikelid", "artikel", "produktid", "produkt", "signatur")
    + ("mediennummer", "idproduit", "produit", "idarticle", "producto", "idproducto", "prodotto"),
)
_TIME_NAMES = (
    ("ts", "time", "datetime", "date", "eventtime", "eventtimestamp", "unixtime", "timestampms"),
    ("unixreviewtime", "createdat", "eventdate", "orderdate", "purchasedate", "invoicedate")
    + ("reviewtime", "visittime", "visited", "visitedat", "viewedat", "ratedat", "purchasedat")
    + ("orderedat", "clicktime", "tdat", "created", "orderdatetime", "timems", "datetimeutc")
    + ("timestampcreated", "playedat", "listenedat", "at"),
    ("datum", "bestelldatum", "kaufdatum", "ausleihdatum", "zeitpunkt", "zeit", "uhrzeit")
    + ("datecommande", "horodatage", "fecha", "fechapedido", "data", "dataordine"),
)
_TITLE_NAMES = (
    ("itemname", "productname", "producttitle", "itemtitle", "movietitle", "moviename", "booktitle")
    + (
        "trackname",
        "songname",
        "articletitle",
        "newstitle",
        "prodname",
        "gamename",
        "businessname",
    ),
    ("lineitemname", "appname", "recipename"),
    ("name",),
    ("titel", "bezeichnung", "artikelname", "produktname", "titre", "nom", "titulo", "nombre")
    + ("titolo", "nome"),
)
_CATEGORY_NAMES = (
    (
        "category",
        "genres",
        "genre",
        "categorypath",
        "categoryname",
        "productcategory",
        "producttype",
    )
    + ("itemcategory", "categorytree", "taxonomy", "googleproductcategory", "categoryhierarchy"),
    ("class", "department", "categoryid"),
    ("kategorie", "kategorien", "warengruppe", "sachgruppe", "rubrik", "categorie", "categoria"),
)
_EVENT_ROLES = {
    Columns.USER: _USER_NAMES,
    Columns.ITEM: _ITEM_NAMES,
    Columns.TIMESTAMP: _TIME_NAMES,
    Columns.POSITION: (),
}
_ITEM_ROLES = {
    Columns.TITLE: _TITLE_NAMES,
    Columns.CATEGORIES: _CATEGORY_NAMES,
    Columns.DESCRIPTION: (),
    Columns.KEYWORDS: (),
    Columns.BRAND: (),
    Columns.PRICE: (),
    Columns.IMAGE: (),
    Columns.TEXT: (),
}
ITEM_COLUMNS = tuple(_ITEM_ROLES)
"""What a log may say of its items."""
_TEXT_ROLES = (Columns.USER, Columns.ITEM, Columns.TITLE, Columns.CATEGORIES)

_LEVELS = (
    ("category", "subcategory", "subsubcategory"),
    ("maincategory", "subcategory", "subsubcategory"),
    ("productcategory", "productsubcategory"),
    ("department", "aisle", "shelf"),
)
"""Columns that are the levels of one path."""
_LEVEL_STEM = re.compile(
    r"^(?:l|lvl|level|.*(?:categor|taxonomy|hierarchy).*"
    r"|(?:item|product|prod|goods|shop|main|sub)?cate?(?:l|lvl|level|id|name)?)$"
)


def may_be_text(name: str) -> bool:
    """Whether a column may hold ids, titles or paths, and so is read as text."""
    return plain_name(name) in _names_for(_TEXT_ROLES) | {"id"} or _is_level(name)


def is_usual(name: str) -> bool:
    """Whether a name is ours or one that is taken for it."""
    return plain_name(name) in _names_for((*_EVENT_ROLES, *_ITEM_ROLES))


@cache
def _names_for(roles: Sequence[str]) -> frozenset[str]:
    """Our names and the other ones of some columns, without case, blanks and signs."""
    others = (name for ours in roles for row in _rows_of(ours) for name in row)
    return frozenset((*(ours.replace("_", "") for ours in roles), *others))


def recognise_log(
    log: pl.LazyFrame, file: str, notes: Notes, *, with_items: bool, time_format: str = ""
) -> dict[str, str]:
    """Which columns of a log get our names; of several times none (``time_columns``).

    Args:
        log: Under the user's names, as far as ``column_names`` did not change them.
        file: Where it came from, for messages.
        notes: Told what was taken, and what could not be decided.
        with_items: Whether the log also says what its items are.
        time_format: ``DatasetConfig.time_format``.

    Returns:
        Your name -> our name.

    Raises:
        DataError: If more than one column could be that of the users or items.
    """
    names = [name for name in log.collect_schema().names() if name != LINE]
    roles: dict[str, tuple[tuple[str, ...], ...]] = dict(_EVENT_ROLES)
    if with_items:
        roles |= _ITEM_ROLES
        names = _without_others_names(log, names, file, notes)
    times = [name for name in names if _matches(name, Columns.TIMESTAMP, _TIME_NAMES)]
    if Columns.TIMESTAMP not in names and times:
        looked = first_rows(log, times, file)
        are_times = {name for name in times if looks_like_times(looked[name], time_format)}
        names = [name for name in names if name not in times or name in are_times]
        if len(usual_times(names)) > 1:
            del roles[Columns.TIMESTAMP]
    return _recognise(names, roles, file, notes)


def _without_others_names(
    log: pl.LazyFrame, names: list[str], file: str, notes: Notes
) -> list[str]:
    """The columns but those that are called like a title and say nothing of the item.

    Such as the ``Name`` of an order or of a customer: it differs among the events of an item.
    """
    item = next(
        (
            each
            for row in ((Columns.ITEM,), *_ITEM_NAMES)
            for each in names
            if each == row[0] or plain_name(each) in row
        ),
        None,
    )
    titles = [name for name in names if _matches(name, Columns.TITLE, _TITLE_NAMES)]
    if item is None or not titles:
        return names
    rows = first_rows(log, [item, *titles], file)
    if rows.schema[item].is_nested():
        return names
    told = (
        rows.drop_nulls(item)
        .group_by(item)
        .agg(
            pl.len().alias(LINE),
            *(pl.col(name).n_unique() for name in titles if not rows.schema[name].is_nested()),
        )
    )
    told = told.filter(pl.col(LINE) > 1)
    others = [
        name
        for name in titles
        if name in told.columns
        and told.height >= _FEW
        and int((told[name] > 1).sum()) > _DIFFERING * told.height
    ]
    if others:
        notes.decide(
            f"{file}: {', '.join(others)} differ{'s' * (len(others) == 1)} among the events of an "
            "item, so it is no title",
            f'{SETTING}=["title=YOURS"]',
        )
    return [name for name in names if name not in others]


def usual_times(names: Sequence[str]) -> list[str]:
    """Columns with the most usual of the names of times that are there."""
    for row in ((Columns.TIMESTAMP,), *_TIME_NAMES):
        if found := [name for name in names if plain_name(name) in row]:
            return found
    return []


def recognise_items(names: Sequence[str], file: str, notes: Notes) -> dict[str, str]:
    """Which columns of an items table get our names; see ``recognise_log``."""
    first, codes, words, *rest = _ITEM_NAMES
    nouns = ("product", *words)  # beside an id, a name: id,product,price
    others = tuple(name for name in codes if name != "product")
    item_names = (first, others, ("id",), nouns, *rest)
    return _recognise(names, {Columns.ITEM: item_names, **_ITEM_ROLES}, file, notes)


def roles_of(names: Sequence[str], *, of_items: bool = False) -> set[str]:
    """Our names that columns have or could be taken for; of an items table an ``id`` is an item."""
    known: dict[str, Sequence[Sequence[str]]] = {**_EVENT_ROLES, **_ITEM_ROLES}
    found = {ours for name in names for ours, rows in known.items() if _matches(name, ours, rows)}
    if of_items and "id" in map(plain_name, names):
        found.add(Columns.ITEM)
    return found


def item_columns(names: Sequence[str]) -> list[str]:
    """Columns that may hold the ids of an items table, the likeliest first."""
    rows = (*_ITEM_NAMES[:2], ("id",), *_ITEM_NAMES[2:])
    return [name for row in rows for name in names if plain_name(name) in row]


def find_levels(names: Sequence[str]) -> list[str]:
    """Columns that are the levels of a category path, root first, such as l1, l2, l3; or none."""
    plain = {plain_name(name): name for name in names}
    numbered: dict[str, dict[int, str]] = {}
    for name in names:
        if _is_level(name):
            found = plain_name(name)
            numbered.setdefault(found[:-1], {})[int(found[-1])] = name
    for levels in sorted(numbered.values(), key=len, reverse=True):
        start = min(levels)
        if start <= 1 and len(levels) > 1 and max(levels) == start + len(levels) - 1:
            return [levels[number] for number in sorted(levels)]
    for family in _LEVELS:
        present = [plain[name] for name in family if name in plain]
        if len(present) > 1 and family[0] in plain:
            return present
    return []


def join_levels(items: pl.DataFrame, levels: Sequence[str], file: str) -> pl.DataFrame:
    """The columns of a path as one column ``categories``.

    Where each level repeats the path so far ("Home", "Home > Light"), the last one is the path.

    Raises:
        DataError: If a column holds no labels.
    """
    text = items.select(
        _one_label(name, items.schema[name], file).replace("", None).alias(str(number))
        for number, name in enumerate(levels)
    )
    begins = text.select(pl.col("1").str.starts_with(pl.col("0") + " >").drop_nulls()).to_series()
    if begins.len() and begins.sum() > 0.9 * begins.len():
        path = pl.coalesce(list(reversed(text.columns)))
    else:
        path = pl.concat_list(text.columns)
    categories = text.select(path.alias(Columns.CATEGORIES)).to_series()
    return items.drop(levels).with_columns(categories)


def _one_label(name: str, dtype: pl.DataType, file: str) -> pl.Expr:
    """A column's label, of a list the first."""
    values = pl.col(name)
    if isinstance(dtype, pl.List):
        values, dtype = values.list.first(), dtype.inner  # type: ignore[assignment]
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise DataError(
            f"{file}, column {name}: expected labels of a category path; found {dtype}; export "
            f"them as text, or name the columns in {SETTING}"
        )
    return as_text(values, dtype).str.strip_chars()


def plain_name(name: str) -> str:
    """A name without case, blanks and signs: "User ID" is "userid"."""
    return re.sub(r"[\W_]", "", name.lower())


def _recognise(
    names: Sequence[str],
    roles: Mapping[str, Sequence[Sequence[str]]],
    file: str,
    notes: Notes,
) -> dict[str, str]:
    taken: dict[str, str] = {}
    free = [name for name in names if name not in roles]
    for ours, rows in roles.items():
        if ours in names:
            continue
        if ours == Columns.CATEGORIES and find_levels(free):
            continue
        candidates: list[str] = []
        for row in ((ours.replace("_", ""),), *rows):
            candidates = candidates or [name for name in free if plain_name(name) in row]
        candidates = [name for name in candidates if name not in taken]
        if len(candidates) == 1:
            taken[candidates[0]] = ours
        elif candidates:
            _say_choice(ours, candidates, file, notes)
    if taken:
        shown = ", ".join(f"{ours}={theirs}" for theirs, ours in taken.items())
        notes.decide(f"{file}: columns taken by their names: {shown}", SETTING)
    return taken


def _say_choice(ours: str, candidates: Sequence[str], file: str, notes: Notes) -> None:
    shown = ", ".join(map(repr, candidates))
    if ours in (Columns.USER, Columns.ITEM):
        notes.refuse(
            DataError(
                f"{file}: expected a column {ours}; found {shown}, each of which could be it; set "
                f'{SETTING}=["{ours}={candidates[0]}"] or another of them'
            )
        )
        return
    notes.decide(
        f"{file}: {shown} could each be the {ours}, so none is taken",
        f'{SETTING}=["{ours}={candidates[0]}"]',
    )


def _rows_of(ours: str) -> Sequence[Sequence[str]]:
    return (_EVENT_ROLES | _ITEM_ROLES)[ours]


def _matches(name: str, ours: str, rows: Sequence[Sequence[str]]) -> bool:
    return any(plain_name(name) in row for row in ((ours.replace("_", ""),), *rows))


def _is_level(name: str) -> bool:
    plain = plain_name(name)
    return plain[-1:].isdecimal() and plain[-1:].isascii() and bool(_LEVEL_STEM.match(plain[:-1]))


def first_rows(log: pl.LazyFrame, names: Sequence[str], file: str) -> pl.DataFrame:
    """Some columns of the first rows of a log."""
    with reading(file):
        return log.select(names).head(_SAMPLE).collect(engine="streaming")
