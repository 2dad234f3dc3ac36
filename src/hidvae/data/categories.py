"""Category paths as people write them, made into lists of labels, root first.

Taken are a label, a list of labels, a list of such lists (an item under several paths), a list of
objects with a name, such objects within each other (children, parent), and text: a path with a
separator, or a list as JSON or Python writes it. Of several paths ``choose_paths`` takes one. Each
row is read as it is written; what separates the labels of a text is decided for the column, by what
repeats.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from typing import Any

import polars as pl

from hidvae.data.ids import NO_ID_WORDS
from hidvae.data.notes import MAX_SHOWN, BadRows, Notes, Parts, count_of, show_value
from hidvae.data.other_columns import as_text
from hidvae.data.text import blank_to_null, clean_text
from hidvae.errors import DataError

SETTING = "DatasetConfig.category_separator"
LABEL_FIELDS = (
    *("name", "title", "label", "category", "category_name", "display_name", "text", "value"),
)
"""Fields of an object that name a category, in order of preference."""

_BELOW = ("children", "subcategories", "subcategory", "child")
_ABOVE = ("parent", "parent_category")
"""Fields of an object that hold the categories below and above it."""
_ARROWS = (">", "\u00bb", "\u203a", "\u2192")
_STRONG = (*_ARROWS, "|")
_WEAK = (" / ", "/", "\\", "::", ";", ",")
"""Separators that may also be part of a label, so that their parts have to repeat."""
_UNORDERED = (",", ";", "|")
"""Separators of paths, but also of labels without an order."""
_MIN_REPEATS = {",": 0.6}
_MAX_TEXTS = 100_000
"""Different texts that are looked at to find the separator."""
_MIN_SET_SHARE = 0.3
"""Share of the labels below the first that are the first elsewhere: with fewer, labels form paths,
with more they have no order."""
_NO_GAPS = ("no empty label before a path's last one", "name the label or cut the path there")
_ROW, _PATH, _LABEL = "row", "path", "label"

_NESTED = pl.List(pl.List(pl.String))
_Paths = list[list[str]]


def parse_categories(
    values: pl.Series,
    file: str,
    notes: Notes | None = None,
    *,
    separator: str = "",
    lines: pl.Series | None = None,
) -> pl.Series:
    """Category paths as lists of clean labels, root first; null where there is none.

    Args:
        values: (N,), in any of the forms of this module.
        file: Table they come from, for messages.
        notes: Told of what was decided and repaired.
        separator: ``DatasetConfig.category_separator``; empty recognises it.
        lines: (N,) line of each row, if it is known.

    Raises:
        DataError: If the column can hold no labels; with ``strict``, if a label inside a path is
            empty.
    """
    notes = notes or Notes()
    dtype, name = values.dtype, values.name
    where = _Where(values, file, lines, notes.parts.get(file))
    if dtype == pl.Null:
        return values.cast(pl.List(pl.String))
    if dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum)):
        paths = _from_text(blank_to_null(values.cast(pl.String)), where, notes, separator)
    else:
        if _is_tree(dtype):
            values = pl.Series(name, [_tree_paths(value) for value in values], _NESTED)
            dtype = values.dtype
        as_text = _label_expr(pl.col(name), dtype)
        if as_text is None:
            notes.refuse(
                DataError(
                    f"{where}: expected labels, lists of labels or objects with a name, or text "
                    f"such as 'A > B > C'; found {dtype}; give each item one path, root first"
                )
            )
            return pl.Series(name, [None] * values.len(), dtype=pl.List(pl.String))
        paths = values.to_frame().select(as_text.alias(name)).to_series()
        if paths.dtype == pl.String:
            paths = paths.to_frame().select(pl.concat_list(pl.col(name))).to_series()
        paths = _from_lists(paths, where, notes)
    return _clean(paths, where, notes).alias(name)


class _Where:
    """A column of a table, to name its rows."""

    def __init__(
        self, values: pl.Series, file: str, lines: pl.Series | None, parts: Parts | None = None
    ) -> None:
        self.values, self.file, self.lines, self.parts = values, file, lines, parts

    def __str__(self) -> str:
        return f"{self.file}, column {self.values.name}"

    def rows(self, chosen: pl.Series, rule: tuple[str, str]) -> BadRows:
        """Some rows, by their number from 0, that break a rule (expected, advice)."""
        shown = chosen.head(MAX_SHOWN).cast(pl.Int64)
        numbers = shown + 1 if self.lines is None else self.lines.gather(shown)
        return BadRows(
            file=self.file,
            column=self.values.name,
            expected=rule[0],
            rows=numbers.to_list(),
            values=[_plain(self.values[row]) for row in shown],
            count=chosen.len(),
            advice=rule[1],
            place="row" if self.lines is None else "line",
            parts=self.parts,
        )

    def shown(self, chosen: pl.Series) -> str:
        """The first of some rows, such as "line 30: 'Home'"."""
        bad = self.rows(chosen, ("", ""))
        return f"{bad.where(bad.rows[0])}: {show_value(bad.values[0])}"


def _label_expr(value: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """A value as text, or as a list of such, however deep; None if it can be no label."""
    if isinstance(dtype, (pl.List, pl.Array)):
        if isinstance(dtype, pl.Array):
            value = value.arr.to_list()
        inner = _label_expr(pl.element(), dtype.inner)  # type: ignore[arg-type]
        return None if inner is None else value.list.eval(inner)
    if isinstance(dtype, pl.Struct):
        fields = {field.name: field.dtype for field in dtype.fields}
        text = [name for name, kind in fields.items() if kind == pl.String]
        known = {name.lower(): name for name in text}
        chosen = next((known[each] for each in LABEL_FIELDS if each in known), None)
        if chosen is None and len(text) == 1:
            chosen = text[0]
        return None if chosen is None else value.struct.field(chosen)
    if dtype.is_float():
        whole = value.cast(pl.Int64, strict=False)
        is_whole = whole.cast(dtype) == value
        return (
            pl.when(is_whole)
            .then(whole.cast(pl.String))
            .otherwise(value.fill_nan(None).cast(pl.String))
        )
    if dtype in (pl.Binary, pl.Object):
        return None
    return as_text(value, dtype)


def _is_tree(dtype: Any) -> bool:
    """Whether objects hold the categories above or below them."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return _is_tree(dtype.inner)
    if not isinstance(dtype, pl.Struct):
        return False
    fields = {field.name.lower(): field.dtype for field in dtype.fields}
    return any(
        isinstance(getattr(fields[name], "inner", fields[name]), pl.Struct)
        for name in (*_BELOW, *_ABOVE)
        if name in fields
    )


def _tree_paths(value: Any) -> _Paths:
    """All paths, root first, in an object that holds the categories above or below it."""
    if isinstance(value, (list, pl.Series)):
        return [path for each in value for path in _tree_paths(each)]
    if not isinstance(value, dict):
        return []
    fields = {name.lower(): each for name, each in value.items()}
    label = [next((str(fields[name]) for name in LABEL_FIELDS if fields.get(name)), "")]
    above = [path for name in _ABOVE for path in _tree_paths(fields.get(name))]
    below = [path for name in _BELOW for path in _tree_paths(fields.get(name))]
    return [[*head, *label, *tail] for head in above or [[]] for tail in below or [[]]]


def _from_lists(lists: pl.Series, where: _Where, notes: Notes) -> pl.Series:
    """Lists of labels, or of paths of which one is chosen."""
    depth = 0
    inner: Any = lists.dtype
    while isinstance(inner, pl.List):
        depth, inner = depth + 1, inner.inner
    while depth > 2:
        flat = pl.element().list.explode() if depth == 3 else pl.element().explode()
        lists = lists.list.eval(flat)
        depth -= 1
    lists = lists.cast(pl.List(pl.String) if depth == 1 else pl.List(pl.List(pl.String)))
    if depth == 1:
        has_arrow = lists.list.eval(pl.element().str.contains(" > ", literal=True)).list.any()
        if (
            not lists.len()
            or has_arrow.sum() < 0.5 * lists.drop_nulls().len()
            or not has_arrow.any()
        ):
            return lists
        lists = lists.list.eval(pl.element().str.split(" > "))
    several = (lists.list.len() > 1).sum()
    if several:
        notes.decide(
            f"{where}: {count_of(int(several), 'item')} under several paths; of each counts the "
            "one whose labels most items have"
        )
    return choose_paths(clean_paths(lists), None)


def _from_text(text: pl.Series, where: _Where, notes: Notes, separator: str) -> pl.Series:
    """Paths written as text, each row in its own way."""
    is_word = text.str.to_lowercase().is_in(NO_ID_WORDS).fill_null(value=False)
    text = text.set(is_word, None)
    has_strong = bool(text.str.contains_any(list(_STRONG)).any())
    if not has_strong and not separator:
        text = clean_text(text)  # the semicolon of an entity separates nothing
    distinct = text.drop_nulls().unique(maintain_order=True)
    literal = {each: _read_literal(each) for each in distinct if each[0] in "[{("}
    lists = {each: paths for each, paths in literal.items() if paths is not None}
    plain = distinct.filter(~distinct.is_in(list(lists)))
    if lists and plain.len():
        _say_mixture(text.is_in(list(lists)), text, where, notes)
    if plain.len():
        notes.use("category_separator")
    used = separator or _find_separator(plain.head(_MAX_TEXTS), has_strong=has_strong)
    between = _find_path_separator(plain.head(_MAX_TEXTS), used)
    _say_separator(text.filter(text.is_in(plain.implode())), used, bool(separator), where, notes)
    paths = {each: _split(each, used, between) for each in plain} | lists
    nested = _look_up(text, paths)
    if any(len(found) > 1 for found in paths.values()):
        return _from_lists(nested, where, notes)
    flat = nested.list.first()
    return _most_common_first(flat, where, notes) if used in _UNORDERED else flat


def _read_literal(text: str) -> _Paths | None:
    """The paths of a list or object that is written as JSON or Python writes it, else None."""
    if text[-1] not in "]})":
        return None
    if re.search(r"""['"]\s+['"]""", text):  # as NumPy prints texts; Python would join them
        text = re.sub(r"""(['"])\s+(['"])""", r"\1, \2", text)
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    except RecursionError:
        return None
    if not isinstance(value, (list, tuple, dict, set)):
        return None
    entries = [value] if isinstance(value, dict) else list(value)
    if entries and all(isinstance(entry, (list, tuple)) for entry in entries):
        return [[_label(each) for each in entry] for entry in entries]
    return [[_label(entry) for entry in entries]]


def _label(value: Any) -> str:
    """A value of a list as a label; blank where it names nothing."""
    if isinstance(value, dict):
        text = {str(key).lower(): each for key, each in value.items() if isinstance(each, str)}
        known = [text[name] for name in LABEL_FIELDS if name in text]
        return (known or [*text.values(), ""])[0]
    if value is None or isinstance(value, (list, tuple, set)):
        return ""
    return str(value)


def _look_up(text: pl.Series, paths: dict[str, _Paths]) -> pl.Series:
    """The paths of each text."""
    known = pl.Series(text.name, list(paths), pl.String)
    table = pl.DataFrame([known, pl.Series(_PATH, list(paths.values()), _NESTED)])
    found = text.to_frame().join(table, on=text.name, how="left", maintain_order="left")
    return found[_PATH].alias(text.name)


def _find_separator(texts: pl.Series, *, has_strong: bool) -> str:
    """What separates the labels of texts that differ; "" if nothing does.

    Without ``has_strong`` an arrow was an entity, which may as well be part of a label.
    """
    accepted: dict[str, int] = {}
    for separator in (*_STRONG, *_WEAK):
        having = texts.filter(texts.str.contains(separator, literal=True))
        if having.is_empty() or (separator == "/" and " / " in accepted):
            continue
        if (has_strong and separator in _STRONG) or _repeats(having, texts, separator):
            accepted[separator] = having.len()
    if not accepted:
        return ""
    strong = {name: count for name, count in accepted.items() if name in _STRONG}
    weak = {name: count for name, count in accepted.items() if name not in _STRONG}
    if strong and max(strong.values()) >= 0.2 * max(weak.values(), default=0):
        return max(strong, key=lambda name: strong[name])
    return max(accepted, key=lambda name: accepted[name])


def _repeats(having: pl.Series, texts: pl.Series, separator: str) -> bool:
    """Whether most parts of the texts with a separator are parts of other texts too."""
    if having.len() < 2:
        return False
    num_slashes = int(texts.str.contains("/", literal=True).sum())
    if separator == " / " and having.len() < 0.8 * num_slashes:
        return False
    parts = [{part.strip() for part in text.split(separator)} for text in texts]
    counts = Counter(part for found in parts for part in found)
    used = [part for text in having for part in {part.strip() for part in text.split(separator)}]
    share = sum(counts[part] > 1 for part in used) / len(used)
    return share >= _MIN_REPEATS.get(separator, 0.5)


def _find_path_separator(texts: pl.Series, separator: str) -> str:
    """What separates several paths in one text, such as the comma of "A > B, C > D"; else ""."""
    if separator not in _ARROWS:
        return ""
    roots = {text.split(separator)[0].strip() for text in texts}
    for between in (";", ",", "|"):
        later = [
            piece.split(separator)[0].strip()
            for text in texts.filter(texts.str.contains(between, literal=True))
            for piece in text.split(between)[1:]
        ]
        if later and sum(root in roots for root in later) >= 0.9 * len(later):
            return between
    return ""


def _split(text: str, separator: str, between: str) -> _Paths:
    """The paths of a text; labels keep their entities, which may hold a separator."""
    if not separator:
        return [[text]]
    if separator not in _STRONG:
        return [text.strip(separator).split(separator)]  # a path may start with its separator
    several = text.split(between) if between else [text]
    arrows = "[" + "".join(_STRONG) + "]"
    return [re.split(arrows, each) for each in several]


def _most_common_first(paths: pl.Series, where: _Where, notes: Notes) -> pl.Series:
    """Labels without an order as a path: the one that most items have first, ties by name."""
    long = pl.DataFrame({_LABEL: paths}).with_row_index(_ROW).explode(_LABEL)
    long = long.with_columns(clean_text(long[_LABEL]))
    long = long.drop_nulls().unique([_ROW, _LABEL], keep="first", maintain_order=True)
    is_first = pl.col(_ROW).is_first_distinct()
    roots = long.filter(is_first)[_LABEL].unique()
    later = long.filter(~is_first)[_LABEL]
    if later.is_empty() or later.is_in(roots.implode()).mean() < _MIN_SET_SHARE:  # type: ignore[operator]
        return paths
    notes.decide(
        f"{where}: labels without an order, as the same ones come first and later; the one that "
        "most items have is taken for the root",
        "TagConfig.source=clusters",
    )
    counted = long.with_columns(count=pl.len().over(_LABEL))
    ordered = counted.sort(_ROW, "count", _LABEL, descending=[False, True, False])
    found = ordered.group_by(_ROW, maintain_order=True).agg(pl.col(_LABEL).alias(_PATH))
    return _per_row(found, paths.len())


def _say_separator(texts: pl.Series, used: str, is_set: bool, where: _Where, notes: Notes) -> None:
    if texts.is_empty():
        return
    having = texts.filter(texts.str.contains(used, literal=True)) if used else texts.head(0)
    if is_set and having.is_empty():
        notes.decide(f"{where}: no text holds {used!r}, so each is one label", SETTING)
    elif used and used not in (">", "|"):
        labels = " > ".join(label.strip() for label in having[0].split(used))
        notes.decide(
            f"{where}: split at {used.strip()!r} ({count_of(having.len(), 'item')}), such as "
            f"{show_value(having[0])} into {labels}",
            SETTING,
        )
    elif not used:
        for separator in (",", "/", ";"):
            having = texts.filter(texts.str.contains(separator, literal=True))
            if having.len() >= 0.2 * texts.len():
                notes.decide(
                    f"{where}: {separator!r} is taken for a part of labels, such as "
                    f"{show_value(having[0])}, as what it separates does not repeat",
                    f"{SETTING}={separator}",
                )


def _say_mixture(is_list: pl.Series, text: pl.Series, where: _Where, notes: Notes) -> None:
    """Name the fewer ones, where some rows are lists and others plain text."""
    is_list = is_list.fill_null(value=False)
    is_plain = ~is_list & text.is_not_null()
    lists_are_fewer = is_list.sum() < is_plain.sum()
    rows = (is_list if lists_are_fewer else is_plain).arg_true()
    kinds = ("a list", "a text") if lists_are_fewer else ("a text", "a list")
    notes.decide(
        f"{where}: {count_of(rows.len(), 'row')} with {kinds[0]} where others have {kinds[1]}, "
        f"each read as it is ({where.shown(rows)})"
    )


def _clean(paths: pl.Series, where: _Where, notes: Notes) -> pl.Series:
    """Labels with entities decoded and blanks gone; a path ends before an empty label."""
    paths = paths.set(paths.list.len() == 0, None)  # explode: one null label, as for a null path
    labels = clean_text(paths.explode())
    row = pl.int_range(paths.len(), eager=True)
    repeats = paths.list.len().fill_null(1).clip(lower_bound=1)
    long = pl.DataFrame({_ROW: row.repeat_by(repeats).explode(), _LABEL: labels})
    later = pl.col(_LABEL).is_not_null().cum_sum(reverse=True).over(_ROW)
    is_after_gap = pl.col(_LABEL).is_null().cum_sum().over(_ROW) > 0
    gaps = long.filter(pl.col(_LABEL).is_null() & (later > 0))[_ROW].unique().sort()
    if gaps.len() and notes.strict:
        notes.refuse(where.rows(gaps, _NO_GAPS))
    elif gaps.len():
        notes.decide(
            f"{where}: {count_of(gaps.len(), 'path')} cut before an empty label "
            f"({where.shown(gaps)})",
            "DatasetConfig.strict=True",
        )
    whole = long.filter(~is_after_gap)
    lists = whole.group_by(_ROW, maintain_order=True).agg(pl.col(_LABEL).alias(_PATH))
    return _per_row(lists.cast({_ROW: pl.get_index_type()}), paths.len()).cast(pl.List(pl.String))


def _plain(value: object) -> object:
    return value.to_list() if isinstance(value, pl.Series) else value


# Of several paths, one


def clean_paths(paths: pl.Series) -> pl.Series:
    """Category paths with entities decoded, cut at the first blank label, each once per item.

    Args:
        paths: (N,) List[List[String]].

    Returns:
        (N,) of the same type; null where an item has no path.
    """
    long = pl.DataFrame({_PATH: paths}).with_row_index(_ROW).explode(_PATH).with_row_index("key")
    labels = long.select("key", pl.col(_PATH).alias(_LABEL)).explode(_LABEL)
    labels = labels.with_columns(clean_text(labels[_LABEL]))
    labels = labels.filter((pl.col(_LABEL).is_null().cum_sum() == 0).over("key"))
    cleaned = labels.group_by("key", maintain_order=True).agg(pl.col(_LABEL).alias(_PATH))
    distinct = long.select("key", _ROW).join(cleaned, on="key", maintain_order="left")  # inner
    distinct = distinct.unique([_ROW, _PATH], keep="first", maintain_order=True)
    return _per_row(distinct.group_by(_ROW, maintain_order=True).agg(_PATH), paths.len())


def choose_paths(paths: pl.Series, department: str | None) -> pl.Series:
    """One path per item by the rule of this module.

    Args:
        paths: (N,) clean paths of each item.
        department: Root of the paths to prefer, None for no preference.

    Returns:
        (N,) List[String], null where an item has no path.
    """
    long = pl.DataFrame({_PATH: paths}).with_row_index(_ROW).drop_nulls().explode(_PATH)
    is_home = pl.col(_PATH).list.first() == pl.lit(department, dtype=pl.String)
    long = long.filter(is_home.fill_null(value=False) | ~is_home.any().over(_ROW))
    popularity = []
    deepest = long.select(pl.col(_PATH).list.len().max().fill_null(0)).item()
    for depth in range(deepest):
        prefix = pl.when(pl.col(_PATH).list.len() > depth).then(pl.col(_PATH).list.head(depth + 1))
        long = long.with_columns(prefix.list.join("\x1f").alias("prefix"))
        sizes = long.unique([_ROW, "prefix"]).group_by("prefix").len(name=f"items_{depth}")
        long = long.join(sizes.drop_nulls(), on="prefix", how="left", maintain_order="left")
        popularity.append(f"items_{depth}")
    long = long.with_columns(pl.col(popularity).fill_null(0), pl.col(_PATH).list.join("\x1f"))
    order = [_ROW, *popularity, _PATH]
    best = long.sort(order, descending=[name in popularity for name in order])
    best = best.unique(_ROW, keep="first", maintain_order=True)
    return _per_row(best.select(_ROW, pl.col(_PATH).str.split("\x1f")), paths.len())


def _per_row(frame: pl.DataFrame, num_rows: int) -> pl.Series:
    """Column ``path`` of (row, path) as one value per row 0…N−1, null for absent rows."""
    rows = pl.DataFrame({_ROW: pl.int_range(num_rows, dtype=pl.get_index_type(), eager=True)})
    return rows.join(frame, on=_ROW, how="left", maintain_order="left")[_PATH]
