"""Text files as people have them: packed or not, in the usual encodings, with any line ends.

A line ends with a line feed, a carriage return or both, as editors count them. Bytes that an
encoding does not have come through as surrogates (``surrogateescape``), so that a reader can name
their line.
"""

from __future__ import annotations

import atexit
import codecs
import gzip
import io
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from hidvae.data.notes import Notes, show_value
from hidvae.errors import ConfigError, DataError

COMPRESSIONS = ("", ".gz", ".zst")
"""How a text file may be packed."""
NOT_TEXT = re.compile("[\x00\udc80-\udcff]")
"""A NUL byte, or a byte that is none of the encoding's."""
UTF_8, WINDOWS = "utf-8", "cp1252"

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD_BYTES = 65_536
_BLOCK_BYTES = 262_144  # what a core's cache holds
_SETTING = "DatasetConfig.csv_encoding"


@dataclass(frozen=True)
class TextFile:
    """A file to read text from."""

    path: Path
    """Where the text is; for a zip archive, its unpacked member."""
    name: str
    """The file's name for messages."""


def open_bytes(path: Path) -> BinaryIO:
    """The unpacked bytes of a file, from its start; how it is packed is seen from them."""
    source = path.open("rb")
    start = source.peek(4)[:4]
    if start.startswith(_GZIP):
        source.close()
        return cast(BinaryIO, gzip.open(path))
    if start.startswith(_ZSTD):
        source.close()
        return cast(BinaryIO, io.BufferedReader(_UnpackedZstd(path)))
    return source


def read_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines of a file with their ends, each with its number from 1."""
    errors = "strict" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    with io.TextIOWrapper(open_bytes(path), encoding, errors=errors, newline="") as lines:
        yield from enumerate(lines, 1)


def whole_lines(source: BinaryIO) -> Iterator[bytes]:
    """A file in blocks that end with a line, without blank lines at its end."""
    rest = b""
    while block := source.read(_BLOCK_BYTES):
        block = rest + block
        end = max(block.rfind(b"\n"), -1 if b"\n" in block else block.rfind(b"\r")) + 1
        end = len(block[:end].rstrip(b"\r\n"))
        if end:
            end += 2 if block[end : end + 2] == b"\r\n" else 1
            yield block[:end]
        rest = block[end:]
    if rest.strip(b"\r\n"):
        yield rest.rstrip(b"\r\n") + b"\n"


def is_utf_8(block: bytes) -> bool:
    """Whether bytes are UTF-8 throughout."""
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def unpack(path: Path) -> Path:
    """The one file of a zip archive, unpacked until the program ends.

    Raises:
        DataError: If it holds none or several.
    """
    with zipfile.ZipFile(path) as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith(("__MACOSX/", "."))
        ]
        if len(members) != 1:
            names = ", ".join(member.filename for member in members[:3])
            raise DataError(
                f"{path}: expected one file in the archive; found {len(members)}"
                f"{f' ({names}, …)' if names else ''}; unpack it and give the one with the table"
            )
        folder = Path(tempfile.mkdtemp(dir=scratch_folder()))
        target = folder / Path(members[0].filename).name
        with archive.open(members[0]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    return target


@cache
def scratch_folder() -> Path:
    """A folder for temporary files, removed when the program ends."""
    folder = tempfile.mkdtemp(prefix="hidvae-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def find_encoding(file: TextFile, setting: str) -> str:
    """The encoding that is set or that the start of a file shows; UTF-8 where it shows none.

    Raises:
        ConfigError: If there is no encoding of the name that is set.
    """
    if setting:
        try:
            name = codecs.lookup(setting).name
        except LookupError as error:
            raise ConfigError(
                f"{_SETTING}: expected the name of an encoding, such as utf-8, latin-1 or utf-16; "
                f"found {setting!r}"
            ) from error
        return "utf-8-sig" if name == UTF_8 else name
    with open_bytes(file.path) as opened:
        head = opened.read(_HEAD_BYTES)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    # every other byte of Latin letters is 0 in UTF-16
    at_even, at_odd = head[::2].count(0), head[1::2].count(0)
    if max(at_even, at_odd) > 0.3 * len(head) / 2 and min(at_even, at_odd) < 0.1 * max(
        at_even, at_odd
    ):
        return "utf-16-le" if at_odd > at_even else "utf-16-be"
    return UTF_8


def encoding_of_other_bytes(file: TextFile) -> str:
    """What a file is read as that is no UTF-8 throughout.

    Returns:
        UTF-8, if most lines with letters beyond ASCII are that, so that the others are broken
        lines; else Windows-1252, which holds Latin-1's letters too.
    """
    num_good = num_bad = 0
    with open_bytes(file.path) as lines:
        for line in lines:
            if line.isascii():
                continue
            try:
                line.decode()
                num_good += 1
            except UnicodeDecodeError:
                num_bad += 1
    return UTF_8 if num_good >= num_bad else WINDOWS


def say_encoding(file: TextFile, encoding: str, notes: Notes) -> None:
    """Tell of an encoding that was recognised, with the first text that shows if it is right."""
    if encoding in (UTF_8, "utf-8-sig"):
        return
    shown = {WINDOWS: "Windows-1252 (Latin-1)"}.get(encoding, encoding.upper())
    example = ""
    if encoding == WINDOWS:
        lines = read_lines(file.path, encoding)
        number, line = next((number, line) for number, line in lines if not line.isascii())
        example = f", such as {show_value(_around_first_letter(line))} in line {number}"
    notes.decide(f"{file.name} is no UTF-8 and read as {shown}{example}", f"{_SETTING}=utf-8")


def why_not_text(line: str) -> str:
    """What a line holds that is no text, such as "the byte 0xe9"."""
    found = NOT_TEXT.search(line)
    code = ord(found[0]) - 0xDC00 if found and found[0] != "\x00" else 0
    return f"the byte 0x{code:02x}"


def _around_first_letter(line: str) -> str:
    place = next(n for n, letter in enumerate(line) if not letter.isascii())
    return line[max(0, place - 12) : place + 12].strip()


class _UnpackedZstd(io.RawIOBase):
    """Zstandard as Polars unpacks it, as Python before 3.14 does not: in UTF-8, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batches = pl.scan_lines(path, glob=False).collect_batches(maintain_order=True)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; 0 at the end."""
        while not self._rest:
            batch = next(self._batches, None)
            if batch is None:
                return 0
            self._rest = memoryview("".join(f"{line}\n" for line in batch["line"]).encode())
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
