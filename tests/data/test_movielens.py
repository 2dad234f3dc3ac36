from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig, load_config
from hidvae.data.prepare import load_dataset
from hidvae.data.sources.movielens import read_movielens, release_of, source_files
from hidvae.data.tables import SourceTables
from hidvae.errors import ConfigError, DataError

GENRES = ("unknown", "Action", "Comedy", "Drama", "Sci-Fi")
MOVIES = [
    (1, "Toy Story (1995)", ["Comedy"]),
    (2, "Matrix, The (1999)", ["Sci-Fi", "Action"]),
    (3, "Star Wars: Episode IV - A New Hope (1977)", ["Action", "Sci-Fi", "Drama"]),
    (4, "Misérables, Les (1995)", ["Drama"]),
    (5, "Heat (1995)", ["Action", "Drama"]),
    (6, "Babylon 5", []),
    (7, 'He Said, "She Said" (1991)', ["Comedy", "Drama"]),
]
# by movies: Drama 4, Action 3, Comedy and Sci-Fi 2
PATHS = [
    ["Comedy"],
    ["Action", "Sci-Fi"],
    ["Drama", "Action", "Sci-Fi"],
    ["Drama"],
    ["Drama", "Action"],
    None,
    ["Drama", "Comedy"],
]
YEARS = [1995, 1999, 1977, 1995, 1995, None, 1991]
BROKEN = {"100k": "12\t", "1m": "12::5", "32m": "12,abc,3.5,1"}
RATINGS = [
    (user, movie, 0.5 + (user + movie) % 10 / 2, 964_982_703 + 60 * movie + user)
    for user in range(1, 31)
    for movie in range(1, 8)
]


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))


def write_100k(folder: Path) -> None:
    write(
        folder / "u.data",
        with_oddities("100k", [f"{u}\t{m}\t{r:g}\t{t}" for u, m, r, t in RATINGS]),
    )
    write(folder / "u.genre", [*(f"{name}|{i}" for i, name in enumerate(GENRES)), ""])
    movies = []
    for movie, title, genres in MOVIES:
        flags = "|".join(str(int(name in (genres or ["unknown"]))) for name in GENRES)
        release = f"01-Jan-{YEARS[movie - 1]}" if YEARS[movie - 1] else ""
        movies.append(f"{movie}|{title}|{release}||http://us.imdb.com/M/title-exact?x|{flags}")
    write(folder / "u.item", [*movies, movies[0], ""], "latin-1")


def write_1m(folder: Path) -> None:
    lines = [f"{u}::{m}::{r:g}::{t}" for u, m, r, t in RATINGS]
    write(folder / "ratings.dat", with_oddities("1m", lines))
    movies = [f"{m}::{title}::{'|'.join(genres)}" for m, title, genres in MOVIES]
    write(folder / "movies.dat", [*movies, movies[0], ""], "latin-1")


def write_32m(folder: Path) -> None:
    lines = [f"{u},{m},{r},{t}" for u, m, r, t in RATINGS]
    header = "userId,movieId,rating,timestamp"
    write(folder / "ratings.csv", [header, *with_oddities("32m", lines)])
    quoted = [title.replace('"', '""') for _, title, _ in MOVIES]
    movies = [
        f'{m},"{title}",{"|".join(genres) or "(no genres listed)"}'
        for title, (m, _, genres) in zip(quoted, MOVIES, strict=True)
    ]
    write(folder / "movies.csv", ["movieId,title,genres", *movies, movies[0], ""])


WRITERS: dict[str, Callable[[Path], None]] = {"100k": write_100k, "1m": write_1m, "32m": write_32m}
RELEASES = list(WRITERS)


def with_oddities(release: str, lines: list[str]) -> list[str]:
    return [*lines[:9], "", *lines[9:20], lines[19], BROKEN[release], *lines[20:], ""]


def config(folder: Path, release: str, **settings: object) -> DatasetConfig:
    values = {"source": "movielens", "dataset_split": release, "folder": str(folder)} | settings
    return DatasetConfig(**values)  # type: ignore[arg-type]


def log_of(tables: SourceTables) -> pl.DataFrame:
    return tables.interactions.collect(engine="streaming")


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A release, written to ``tmp_path`` as its archive unpacks."""
    WRITERS[request.param](tmp_path / f"ml-{request.param}")
    return str(request.param)


def test_movies_keep_titles_and_all_genres(release: str, tmp_path: Path) -> None:
    items = read_movielens(config(tmp_path, release)).items
    assert items["item_id"].to_list() == [str(movie) for movie, _, _ in MOVIES]
    assert items["title"].to_list() == [title for _, title, _ in MOVIES]
    assert [sorted(genres) for genres in items["genres"]] == [sorted(g) for _, _, g in MOVIES]
    assert items["year"].to_list() == YEARS


def test_genres_become_a_path_most_common_first(release: str, tmp_path: Path) -> None:
    tables = read_movielens(config(tmp_path, release))
    assert tables.items["categories"].to_list() == PATHS
    assert tables.counts["items_without_genre"] == 1


def test_genres_that_are_as_common_come_by_name(tmp_path: Path) -> None:
    write_1m(tmp_path)
    write(tmp_path / "movies.dat", ["1::A (2000)::War|Crime|Drama", "2::B (2000)::Drama"])
    items = read_movielens(config(tmp_path, "1m")).items
    assert items["categories"].to_list() == [["Drama", "Crime", "War"], ["Drama"]]
    assert items["genres"].to_list() == [["War", "Crime", "Drama"], ["Drama"]]


def test_ratings_are_events(release: str, tmp_path: Path) -> None:
    tables = read_movielens(config(tmp_path, release))
    expected = [(str(u), str(m), t) for u, m, _, t in RATINGS]
    expected.insert(20, expected[19])  # a duplicate line is prepare's to drop
    assert log_of(tables).columns == ["user_id", "item_id", "timestamp"]
    assert log_of(tables).rows() == expected
    assert tables.counts["broken_lines"] == 1
    assert tables.counts["duplicate_items"] == 1
    said = [decision.said for decision in tables.decisions]
    line = 24 if release == "32m" else 23
    assert any(f"1 row broken in the file is left out (line {line})" in text for text in said)
    with pytest.raises(DataError, match=rf"the whole line: .* \(line {line}: "):
        read_movielens(config(tmp_path, release, strict=True))
    assert tables.name == f"movielens-{release}"


def test_low_ratings_are_left_out_on_request(release: str, tmp_path: Path) -> None:
    events = log_of(read_movielens(config(tmp_path, release, events_where=("rating >= 4",))))
    liked = {(str(u), str(m)) for u, m, rating, _ in RATINGS if rating >= 4}
    assert set(events.select("user_id", "item_id").rows()) == liked
    assert 0 < len(liked) < len(RATINGS)


def test_the_three_releases_read_alike(tmp_path: Path) -> None:
    tables = []
    for name, writer in WRITERS.items():
        writer(tmp_path / name)
        tables.append(read_movielens(config(tmp_path / name, name)))
    columns = ["item_id", "title", "year", "categories"]
    for other in tables[1:]:
        assert other.items.select(columns).equals(tables[0].items.select(columns), null_equal=True)
        assert log_of(other).equals(log_of(tables[0]))
        assert other.counts == tables[0].counts


def test_years_of_series_and_of_the_release_date(tmp_path: Path) -> None:
    write_32m(tmp_path)
    titles = [
        "Firefly (2002-2003)",
        "Castle (2009– )",
        "1984",
        "Death Note (2006–2007) ",
        "9 (2009)",
    ]
    lines = [f"{i},{title},Drama" for i, title in enumerate(titles)]
    write(tmp_path / "movies.csv", ["movieId,title,genres", *lines])
    items = read_movielens(config(tmp_path, "32m")).items
    assert items["year"].to_list() == [2002, 2009, None, 2006, 2009]
    write_100k(tmp_path)
    movies = (
        (tmp_path / "u.item").read_text(encoding="latin-1").replace("Toy Story (1995)", "Toy Story")
    )
    (tmp_path / "u.item").write_text(movies, encoding="latin-1")
    assert read_movielens(config(tmp_path, "100k")).items["year"][0] == 1995


def test_the_archive_may_be_opened_or_not(release: str, tmp_path: Path) -> None:
    outside = read_movielens(config(tmp_path, release))
    inside = read_movielens(config(tmp_path / f"ml-{release}", release))
    assert outside.items.equals(inside.items, null_equal=True)


def test_gzipped_files(release: str, tmp_path: Path) -> None:
    whole = read_movielens(config(tmp_path, release))
    log = log_of(whole)
    for path in [*(tmp_path / f"ml-{release}").iterdir()]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    again = read_movielens(config(tmp_path, release))
    assert again.items.equals(whole.items, null_equal=True)
    assert log_of(again).equals(log)


@pytest.mark.parametrize(
    ("release", "file", "header_lines"),
    [("100k", "u.data", 0), ("1m", "ratings.dat", 0), ("32m", "ratings.csv", 1)],
)
def test_many_broken_ratings_are_refused(
    tmp_path: Path, release: str, file: str, header_lines: int
) -> None:
    WRITERS[release](tmp_path)
    lines = (tmp_path / file).read_text().splitlines()
    for row in (3, 4, 5):
        lines[row + header_lines - 1] = "<html>"
    write(tmp_path / file, lines)
    with pytest.raises(DataError) as caught:
        read_movielens(config(tmp_path, release))
    assert f"{file}: expected at most 1% broken lines; found 4 of 212" in str(caught.value)
    assert f"of 212 lines broken, first line {3 + header_lines}: '<html>'" in str(caught.value)


@pytest.mark.parametrize(
    ("release", "file", "line"),
    [
        ("100k", "u.item", "8|Cut off (1999)|01-Jan"),
        ("1m", "movies.dat", "8::Cut off (1999)"),
        ("32m", "movies.csv", "8,Cut off (1999)"),
    ],
)
def test_broken_movies_are_counted_or_refused(
    tmp_path: Path, release: str, file: str, line: str
) -> None:
    WRITERS[release](tmp_path)
    lines = (tmp_path / file).read_text(encoding="latin-1").splitlines()
    write(tmp_path / file, [*lines, line], "latin-1")
    with pytest.raises(DataError, match=rf"{file}: expected at most 1% broken lines; found 1 of 9"):
        read_movielens(config(tmp_path, release))
    more = [lines[1].replace("2", str(movie), 1) for movie in range(100, 200)]
    write(tmp_path / file, [*lines, line, *more], "latin-1")
    counts = read_movielens(config(tmp_path, release)).counts
    assert counts["broken_item_lines"] == 1


def test_ratings_beyond_the_scale_are_broken(tmp_path: Path) -> None:
    write_32m(tmp_path)
    path = tmp_path / "ratings.csv"
    path.write_text(path.read_text() + "1,2,55.0,964982703\n")
    assert read_movielens(config(tmp_path, "32m")).counts["broken_lines"] == 2


def test_missing_files_are_named(tmp_path: Path) -> None:
    write_100k(tmp_path)
    (tmp_path / "u.genre").unlink()
    with pytest.raises(
        DataError, match=r"files of ml-100k \(u.data, u.item, u.genre\); missing u.ge"
    ):
        source_files(config(tmp_path, "100k"))
    with pytest.raises(ConfigError, match="expected '100k' or '1m' or '10m' or '20m'"):
        source_files(config(tmp_path, "2m"))
    write_32m(tmp_path)
    assert list(source_files(config(tmp_path, "32m"))) == ["ratings.csv", "movies.csv"]


@pytest.mark.parametrize("release", ["10m", "20m", "25m", "latest", "latest-small"])
def test_the_other_releases_are_written_like_these(tmp_path: Path, release: str) -> None:
    (write_1m if release == "10m" else write_32m)(tmp_path)
    tables = read_movielens(config(tmp_path, release))
    assert tables.items["title"].to_list() == [title for _, title, _ in MOVIES]
    assert log_of(tables).height == len(RATINGS) + 1
    assert tables.name == f"movielens-{release}"


def test_copies_in_utf8(tmp_path: Path) -> None:
    for release, name in (("100k", "u.item"), ("1m", "movies.dat")):
        WRITERS[release](tmp_path)
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().decode("latin-1").encode())
        items = read_movielens(config(tmp_path, release)).items
        assert items["title"].to_list() == [title for _, title, _ in MOVIES]
        assert items["item_id"][0] == "1"


@pytest.mark.parametrize(("release", "between"), [("100k", "tabs"), ("1m", "::")])
def test_another_separator_is_named(tmp_path: Path, release: str, between: str) -> None:
    WRITERS[release](tmp_path)
    path = next(iter(source_files(config(tmp_path, release)).values()))
    path.write_text("user|item|rating|timestamp\n1|2|3|4\n")
    expected = f"rating and time with {between} between; found 'user|item|rating|timestamp'"
    with pytest.raises(DataError, match=re.escape(expected)):
        read_movielens(config(tmp_path, release))


def test_the_release_of_a_folder(release: str, tmp_path: Path) -> None:
    folder = tmp_path / f"ml-{release}"
    assert release_of(folder) == release
    assert release_of(tmp_path) == ""
    unnamed = folder.rename(tmp_path / "films")
    assert release_of(unnamed) == {"32m": "latest"}.get(release, release)
    (unnamed / "README.txt").write_text("Summary\n=======\n\nThis dataset (ml-25m) describes")
    assert release_of(unnamed) == {"32m": "25m"}.get(release, release)
    (unnamed / "tags.dat").touch()
    assert release_of(unnamed) == {"32m": "25m", "1m": "10m"}.get(release, release)


def test_prepare_and_split(release: str, tmp_path: Path) -> None:
    dataset = load_dataset(prepare(config(tmp_path, release), tmp_path / "dataset"))
    assert dataset.interactions.sequences.lengths.tolist() == [7] * 30
    titles = dataset.catalogue.titles
    assert titles[dataset.split.test_targets[0]] == MOVIES[6][1]  # the latest rating of each user
    assert dataset.catalogue.frame["genres"].to_list()[0] == ["Comedy"]


def test_the_config_loads() -> None:
    loaded = load_config([Path(__file__).parents[2] / "configs" / "movielens.gin"])
    assert loaded.dataset.source == "movielens"
