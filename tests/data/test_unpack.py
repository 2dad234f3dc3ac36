from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hidvae.data import unpack
from hidvae.errors import DataError

from .archives import tar_of, zip_of

CONTENT = np.random.default_rng(0).bytes(400_000)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_archives_are_unpacked_as_they_are(tmp_path: Path, name: str) -> None:
    content = (zip_of if name == "a.zip" else tar_of)(
        {"top/x/y.txt": b"yy", "top/notx/y.txt": b"n", "z.txt": b"z"}
    )
    archive = put(tmp_path / name, content)
    assert unpack.unpack(archive, tmp_path / "out") == {
        "top/notx/y.txt": 1,
        "top/x/y.txt": 2,
        "z.txt": 1,
    }
    assert names(tmp_path / "out") == {"top", "z.txt"}
    assert unpack.unpack(archive, tmp_path / "some", ("x/y.txt",)) == {"top/x/y.txt": 2}
    assert names(tmp_path / "some") == {"top"}
    with pytest.raises(DataError, match=r"expected y\.tx in it; found none"):
        unpack.unpack(archive, tmp_path / "none", ("y.tx",))
    assert names(tmp_path / "none") == set()


@pytest.mark.parametrize("evil", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_nothing_is_written_outside(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes], evil: str
) -> None:
    """Such a name is refused, or loses what leads outside."""
    archive = put(tmp_path / "a.archive", make({"good.txt": b"g", evil: b"e"}))
    out = tmp_path / "deep" / "out"
    try:
        found = unpack.unpack(archive, out)
    except DataError as error:
        assert "expected plain files inside of the archive's folder" in str(error)
        assert names(out) == set()
    else:
        assert set(found) == {str(path.relative_to(out)) for path in out.rglob("*.txt")} | {
            str(path.relative_to(out)) for path in out.rglob("*evil")
        }
    outside = [path for path in tmp_path.rglob("*evil*") if not path.is_relative_to(out)]
    assert not outside and not Path("/evil").exists()


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.tar.gz", tar_of({"a.txt": b"a"}, links={"out": "/etc"}))
    with pytest.raises(DataError, match="inside of the archive's folder; found 'out'; .*trusted"):
        unpack.unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == set()


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_an_archive_that_would_fill_the_disk_is_refused(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "_ALWAYS_ALLOWED", 1000)
    monkeypatch.setattr(unpack, "_MOST_TIMES_LARGER", 0)
    archive = put(tmp_path / "a.archive", make({"zeros": bytes(50_000), "other": bytes(50_000)}))
    with pytest.raises(DataError, match="expected at most 1.0 kB in it; found .* or more"):
        unpack.unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == set()


def test_a_damaged_archive_leaves_the_old_files(tmp_path: Path) -> None:
    whole = tar_of({"top/a.txt": b"a" * 100_000, "top/b.txt": CONTENT})
    unpack.unpack(put(tmp_path / "a.tar.gz", whole), tmp_path / "out")
    for broken in (whole[:-1000], b"no archive", whole[:2000] + bytes(1000) + whole[3000:]):
        with pytest.raises(DataError, match="expected a whole archive; it is damaged"):
            unpack.unpack(put(tmp_path / "b.tar.gz", broken), tmp_path / "out")
    assert (tmp_path / "out" / "top" / "b.txt").read_bytes() == CONTENT
    assert names(tmp_path / "out") == {"top"}
