"""Items come and go over HTTP or on the disk, and no request is dropped over it."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from hidvae.config import load_config
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run

from .conftest import AUTHORIZED, Running, assert_problem, running, wait_until

KETTLE = {"item_id": "kettle/9", "title": "Steel kettle, 2 litres", "price": 12.5}


def version(server: Running) -> int:
    return int(server.client.get("/healthz").json()["version"])


def test_an_item_is_added_updated_removed_and_kept(changeable: Running, own_run: Path) -> None:
    client = changeable.client
    response = client.post("/items", json={"items": [KETTLE]}, headers=AUTHORIZED)
    assert response.json() == {"version": 1}
    found = client.get("/items/kettle%2F9").json()
    assert found["title"] == KETTLE["title"] and found["fields"]["price"] == 12.5
    assert client.get("/items", params={"q": "steel kettle"}).json()["total"] == 1
    assert client.get("/items/kettle%2F9/similar").json()["version"] == 1
    asked = client.post("/recommend", json={"users": [{"history": ["kettle/9"]}], "k": 100})
    (result,) = asked.json()["results"]
    assert not result["is_fallback"] and len(result["items"]) == 100
    assert Recommender.load(own_run).version == 1  # on the disk by then

    columns = {"title": "Steel kettle, 1 litre"}
    assert client.put("/items/kettle%2F9", json=columns, headers=AUTHORIZED).json()["version"] == 2
    found = client.get("/items/kettle%2F9").json()
    assert found["title"] == "Steel kettle, 1 litre" and found["fields"]["price"] is None

    root = client.get("/tree").json()
    assert root["count"] == 121 == sum(branch["count"] for branch in root["children"])
    assert client.delete("/items/kettle%2F9", headers=AUTHORIZED).json() == {"version": 3}
    for response in (
        client.get("/items/kettle%2F9"),
        client.delete("/items/kettle%2F9", headers=AUTHORIZED),
        client.put("/items/kettle%2F9", json=columns, headers=AUTHORIZED),
    ):
        assert_problem(response, 404, "kettle/9")
    assert client.get("/items", params={"q": "steel kettle"}).json()["total"] == 0
    root = client.get("/tree").json()
    assert root["count"] == 120 == sum(branch["count"] for branch in root["children"])
    assert client.get("/tags").json()["count"] == 120 == client.get("/readyz").json()["num_items"]

    again = client.post("/items", json={"items": [KETTLE]}, headers=AUTHORIZED)
    assert again.json() == {"version": 4}


def test_a_removed_item_stays_in_histories_and_in_no_list(changeable: Running) -> None:
    client, item = changeable.client, changeable.live.current.catalogue.item_ids[3]
    client.delete(f"/items/{item}", headers=AUTHORIZED)
    users = [{"history": [item]}, {"history": []}]
    body = {"users": users, "k": 100, "exclude_history": False}
    read, popular = client.post("/recommend", json=body).json()["results"]
    assert read["history"] == [item] and not read["is_fallback"]
    for result in (read, popular):
        assert len(result["items"]) == 100
        assert item not in [each["item_id"] for each in result["items"]]


@pytest.mark.parametrize(
    ("items", "status", "word"),
    [
        ([], 422, "items"),
        ([{"title": "no id"}], 422, "item_id"),
        ([{"item_id": "new", "colour": "red"}], 422, "'colour'"),
        ([{"item_id": "new", "price": "cheap"}], 422, "price"),
        ([{"item_id": "new", "title": {"de": "neu"}}], 422, "title"),
        ([{"item_id": "new", "price": 10**30}], 200, ""),
        ([{"item_id": "new", "title": "a"}, {"item_id": "new", "title": "b"}], 422, "new"),
        ([{"item_id": "new", "title": "a"}, {"item_id": "item-00001", "title": "b"}], 409, "PUT"),
    ],
)
def test_what_cannot_be_added(
    changeable: Running, items: list[dict[str, Any]], status: int, word: str
) -> None:
    response = changeable.client.post("/items", json={"items": items}, headers=AUTHORIZED)
    if status == 200:
        assert response.status_code == 200, response.text
    else:
        assert_problem(response, status, word)
    assert version(changeable) == (1 if status == 200 else 0)


def ask_to_change(client: httpx.Client, headers: dict[str, str]) -> list[httpx.Response]:
    return [
        client.post("/items", json={"items": [KETTLE]}, headers=headers),
        client.put("/items/item-00001", json={"title": "x"}, headers=headers),
        client.delete("/items/item-00001", headers=headers),
        client.post("/items", json={"no": "items"}, headers=headers),
    ]


def test_without_the_token_nothing_changes(changeable: Running, client: httpx.Client) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        for response in ask_to_change(changeable.client, headers):
            assert_problem(response, 401, "Bearer")
            assert response.headers["www-authenticate"] == "Bearer"
    assert version(changeable) == 0
    for response in ask_to_change(client, AUTHORIZED):  # of a server that has none
        assert_problem(response, 403, "HIDVAE_TOKEN")


def test_changes_of_another_process_are_taken_up(changeable: Running, own_run: Path) -> None:
    Recommender.load(own_run).add_items([KETTLE]).save_changes()
    wait_until(lambda: version(changeable) == 1)
    assert changeable.client.get("/items/kettle%2F9").status_code == 200
    # A change that follows at once goes on from what is on the disk, even if nobody has looked yet.
    Recommender.load(own_run).remove_items(["kettle/9"]).save_changes()
    item = {"item_id": "next", "title": "Copper kettle"}
    response = changeable.client.post("/items", json={"items": [item]}, headers=AUTHORIZED)
    assert response.json() == {"version": 3}
    assert changeable.client.get("/items/kettle%2F9").status_code == 404


def test_a_run_that_was_trained_again_is_taken_up(
    tiny_settings: list[str], own_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"users": [{"history": ["item-00001"]}], "k": 3}

    def scores(server: Running) -> list[float]:
        (result,) = server.client.post("/recommend", json=body).json()["results"]
        return [item["score"] for item in result["items"]]

    with running(own_run, watch_seconds=0.05) as server:
        before = scores(server)
        hidden = shutil.move(own_run / "retriever", own_run / "aside")
        wait_until(lambda: "cannot be used" in caplog.text)
        assert scores(server) == before  # half a run is no run: the last whole one goes on
        shutil.move(hidden, own_run / "retriever")
        settings = [*tiny_settings, "RetrieverConfig.epochs=1"]
        Run(own_run).make(load_config([], settings), until="train")
        wait_until(lambda: scores(server) != before)
        text = server.client.get("/metrics").text
        assert 'hidvae_reloads_total{outcome="taken up"}' in text
        assert 'hidvae_reloads_total{outcome="failed"}' in text
    said = [each.getMessage() for each in caplog.records if "cannot be used" in each.getMessage()]
    assert len(said) == len(set(said))  # once, however often it was tried


def test_no_request_is_dropped_while_items_change_and_the_run_is_swapped(
    changeable: Running, own_run: Path
) -> None:
    statuses: list[int] = []
    is_over = threading.Event()
    item_ids = changeable.live.current.catalogue.item_ids

    def keep_asking(number: int) -> None:
        with httpx.Client(base_url=changeable.url, timeout=30) as client:
            while not is_over.is_set():
                body = {"users": [{"history": [item_ids[number]]}], "k": 5}
                response = client.post("/recommend", json=body)
                statuses.append(response.status_code)
                assert len(response.json()["results"][0]["items"]) == 5

    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(6):
        item = {"item_id": f"new-{number}", "title": f"Kettle {number}"}
        client = changeable.client
        assert client.post("/items", json={"items": [item]}, headers=AUTHORIZED).status_code == 200
        if number % 2:
            assert client.delete(f"/items/new-{number}", headers=AUTHORIZED).status_code == 200
        manifest = own_run / "retriever" / "manifest.json"
        shutil.copyfile(manifest, manifest.with_suffix(".copy"))
        os.replace(manifest.with_suffix(".copy"), manifest)
    wait_until(lambda: len(statuses) > 50)
    is_over.set()
    for thread in threads:
        thread.join(30)
    assert set(statuses) == {200}
    assert version(changeable) == 9
