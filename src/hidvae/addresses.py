"""Addresses of databases in place of a folder, and that no password stands in one.

An address is stored in a run's settings and manifest and is shown in messages, so a password in it
is refused where the settings are made. Nothing here opens a database (data/sources/database.py).
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

PASSWORD_VARIABLE = "HIDVAE_DB_PASSWORD"
"""Environment variable with the password of the database; never stored."""
_PASSWORD_VARIABLES = (PASSWORD_VARIABLE, "PGPASSWORD")
_HIDDEN = "***"
_FILE_SCHEMES = ("sqlite", "duckdb")
_SERVER_SCHEMES = ("postgresql", "postgres")
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters: C:// is a drive
_COLLAPSED = re.compile(rf"^({'|'.join((*_FILE_SCHEMES, *_SERVER_SCHEMES))}):/(?!/)")
_WITH_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]*://[^\s:@/?]*?(?::|%3a))\S*@", re.IGNORECASE)
"""An encoded colon is part of the user's name, unless someone encoded the password with it."""
_PARAMETER = re.compile(
    r"(\b\w*(?:password|passwd|pwd|secret|token)\s*=\s*)(?:'[^']*'|[^\s&;,)]+)", re.IGNORECASE
)
_IN_SQL = re.compile(
    r"'[^']*\b(?:password|passwd|pwd|token)\s*=[^']*'|\b(?:secret|password)\s+'", re.IGNORECASE
)
_SHORTEST_SECRET = 3  # a shorter one would be struck out of half the words


def is_address(folder: str) -> bool:
    """Whether it has a scheme, as ``postgresql://me@host/shop`` has, so that it is no folder."""
    return bool(_ADDRESS.match(folder))


def as_written(data: str | os.PathLike[str]) -> str:
    """A folder or address as text, with the slashes that ``Path`` took from an address."""
    text = str(data)
    found = _COLLAPSED.match(text)
    if not found:
        return text
    slashes = "///" if found[1] in _FILE_SCHEMES else "//"
    return f"{found[1]}:{slashes}{text[found.end() :]}"


def has_password(text: str) -> bool:
    """Whether a password stands in an address or connection string.

    One that was not percent-encoded is seen too: no port is a word, no path holds an ``@``.
    """
    text = as_written(text.strip())
    text = re.sub(r"^jdbc:", "", text, flags=re.IGNORECASE)
    scheme = _ADDRESS.match(text)
    if scheme and _PARAMETER.search(unquote(text.partition("?")[2])):
        return True
    if (scheme or re.search(r"\b(host|dbname)\s*=", text)) and _PARAMETER.search(text):
        return True
    if not scheme or scheme[0][:-3].lower().startswith(_FILE_SCHEMES):
        return False
    place = text[scheme.end() :].partition("?")[0]
    user, is_user_given, _ = place.rpartition("@")
    if is_user_given:
        return ":" in user
    hosts = place.partition("/")[0].split(",")
    ports = [host.rpartition(":")[2] for host in hosts if ":" in host and not host.endswith("]")]
    return not all(port.isdigit() or not port for port in ports)


def sql_has_password(text: str) -> bool:
    """Whether SQL holds an address or connection string with a password, or that of this one."""
    return bool(_WITH_PASSWORD.search(text) or _IN_SQL.search(text)) or any(
        secret in text for secret in _secrets()
    )


def hide_passwords(text: str) -> str:
    """The text with ``***`` for passwords in addresses and for those of the environment."""
    text = _WITH_PASSWORD.sub(rf"\1{_HIDDEN}@", text)
    text = _PARAMETER.sub(rf"\1{_HIDDEN}", text)
    for secret in _secrets():
        text = text.replace(secret, _HIDDEN)
    return text


def _secrets() -> list[str]:
    values = [os.environ.get(name, "") for name in _PASSWORD_VARIABLES]
    return [value for value in values if len(value) >= _SHORTEST_SECRET]
