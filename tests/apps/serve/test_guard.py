"""Who may ask under which name, and what of the users is told."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from hidvae.apps.serve.server import _hosts, _is_local

from .conftest import Running, running


@pytest.fixture(scope="module")
def closed(tiny_run: Path) -> Running:
    """A server of one name that does not show its users."""
    with running(
        tiny_run, shows_users=False, hosts=_hosts("127.0.0.1", ["Shop.example"])
    ) as server:
        yield server


def test_only_under_its_own_names(closed: Running) -> None:
    port = closed.url.rpartition(":")[2]
    for name in ("127.0.0.1", f"localhost:{port}", "[::1]:80", "shop.EXAMPLE", "shop.example.:443"):
        assert closed.client.get("/healthz", headers={"Host": name}).status_code == 200, name
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "[::2]"):
        refused = closed.client.get("/healthz", headers={"Host": name})
        assert refused.status_code == 421
        assert refused.headers["content-type"] == "application/problem+json"
        assert "this server is not " in refused.json()["detail"]


def test_any_name_where_none_is_told(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


def test_users_are_not_shown_unless_wanted(closed: Running, client: httpx.Client) -> None:
    user = client.get("/users").json()["users"][0]["user_id"]
    item = client.get("/items").json()["items"][0]["item_id"]
    asks = {
        "/recommend": ({"user_id": user}, {"users": [{"history": [item]}, {"user_id": user}]}),
        "/explain": ({"user_id": user, "item_id": item},),
    }
    for path, bodies in asks.items():
        for body in bodies:
            assert client.post(path, json=body).status_code == 200
            refused = closed.client.post(path, json=body)
            assert refused.status_code == 403
            assert "does not show the users of the dataset" in refused.json()["detail"]
    assert closed.client.get("/users").status_code == 403
    unknown = closed.client.post("/recommend", json={"user_id": "nobody"})
    assert unknown.status_code == 403, "nor whether there is such a user"
    assert closed.client.post("/recommend", json={"history": [item]}).status_code == 200


def test_no_other_page_may_frame_it(client: httpx.Client) -> None:
    assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("192.168.0.7", False), ("shop.example", False),
    ],
)  # fmt: skip
def test_what_is_local(host: str, is_local: bool) -> None:
    assert _is_local(host) is is_local
