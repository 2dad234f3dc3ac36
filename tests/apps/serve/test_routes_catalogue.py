"""Looking around: search, items, neighbours, tags, the tree; against the tables of the run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest

from hidvae.data.prepare import Dataset
from hidvae.ranking.recommender import Recommender

from .conftest import assert_problem


def get(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    response = client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def names(found: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in found["items"]]


def test_a_search_finds_every_word_in_title_or_id(
    client: httpx.Client, recommender: Recommender
) -> None:
    catalogue = recommender.catalogue
    text = {
        i: f"{t} {i}".lower() for i, t in zip(catalogue.item_ids, catalogue.titles, strict=True)
    }
    words = catalogue.titles[7].split()[:2]
    found = get(client, "/items", q=" ".join(reversed(words)).upper(), limit=200)
    wanted = {i for i, t in text.items() if all(word.lower() in t for word in words)}
    assert set(names(found)) == wanted and found["total"] == len(wanted) >= 1
    assert names(get(client, "/items", q=catalogue.item_ids[9]))[0] == catalogue.item_ids[9]
    assert get(client, "/items", q="no such thing as this")["total"] == 0
    assert get(client, "/items", q="(")["total"] == sum("(" in t for t in text.values())


def test_all_items_by_popularity_in_pages(
    client: httpx.Client, recommender: Recommender, demo_dataset: Dataset
) -> None:
    pages = [get(client, "/items", limit=50, offset=offset) for offset in (0, 50, 100, 150)]
    found = [name for page in pages for name in names(page)]
    assert {page["total"] for page in pages} == {120} and names(pages[3]) == []
    rows = recommender.catalogue.index_of(found)
    assert sorted(rows) == list(range(120))
    counts = np.bincount(demo_dataset.split.train.items, minlength=120)[rows]
    assert (np.diff(counts) <= 0).all()


def test_a_search_under_a_tag_path(client: httpx.Client, recommender: Recommender) -> None:
    path = recommender.tags.paths[1][0]
    found = get(client, "/items", under=path, limit=200)
    rows = recommender.catalogue.index_of(names(found))
    assert set(rows) == set(np.flatnonzero(recommender.item_tags.is_under(path)))
    assert_problem(client.get("/items", params={"under": "Gardn"}), 404, "did you mean")


def test_an_item_with_its_columns(client: httpx.Client, recommender: Recommender) -> None:
    item_id = recommender.catalogue.item_ids[5]
    found = get(client, f"/items/{item_id}")
    row = recommender.catalogue.frame.row(5, named=True)
    assert found["item_id"] == row.pop("item_id") and found["fields"] == row
    codes = recommender.semantic_ids.codes
    assert found["codes"] == recommender.semantic_ids.strings(5)
    for length in (1, 2, 3):
        same = (codes[:, :length] == codes[5, :length]).all(axis=1).sum()
        assert found["num_sharing"][length - 1] == same
    assert found["num_sharing"][-1] == 1
    assert_problem(client.get("/items/nothing"), 404, "'nothing'")


def test_similar_items_share_more_codes_then_are_nearer(
    client: httpx.Client, recommender: Recommender
) -> None:
    catalogue, codes = recommender.catalogue, recommender.semantic_ids.codes
    content = recommender.content / np.linalg.norm(recommender.content, axis=1, keepdims=True)
    for item in (0, 33, 119):
        found = get(client, f"/items/{catalogue.item_ids[item]}/similar", k=100)["items"]
        shared = np.cumprod(codes == codes[item], axis=1).sum(axis=1)
        keys = [(-int(shared[o]), -round(float(content[o] @ content[item]), 4)) for o in range(120)]
        rows = catalogue.index_of([each["item_id"] for each in found]).tolist()
        assert len(rows) == 100 == len(set(rows)) and item not in rows
        answered = [(-each["shared_levels"], -each["similarity"]) for each in found]
        np.testing.assert_allclose(answered, [keys[row] for row in rows], atol=2e-4)
        assert answered == sorted(answered)
        best = sorted(key for other, key in enumerate(keys) if other != item)[:100]
        np.testing.assert_allclose(answered, best, atol=2e-4)
    short = get(client, f"/items/{catalogue.item_ids[0]}/similar", k=3)["items"]
    assert len(short) == 3


def test_tags_hold_their_items(client: httpx.Client, recommender: Recommender) -> None:
    root = get(client, "/tags")
    assert root["level"] == -1 and root["count"] == 120
    seen = Counter[int]()

    def walk(node: dict[str, Any], above: dict[str, Any]) -> None:
        assert node["count"] == recommender.item_tags.is_under(node["path"]).sum()
        assert node["path"].endswith(node["name"]) and node["count"] <= above["count"]
        seen[node["level"]] += 1
        for child in node["children"]:
            walk(child, node)

    for child in root["children"]:
        walk(child, root)
    assert [seen[level] for level in range(3)] == recommender.tags.sizes


def test_the_tree_can_be_walked_down_to_every_item(
    client: httpx.Client, recommender: Recommender
) -> None:
    codes = recommender.semantic_ids.codes
    tag_ids = recommender.item_tags.tag_ids
    found_items = []

    def walk(prefix: list[str]) -> int:
        node = get(client, "/tree", prefix=",".join(prefix), limit=200)
        assert node["prefix"] == prefix
        rows = recommender.catalogue.index_of(names(node))
        values = [int(code.strip("<>").split("_")[1]) for code in prefix]
        below = np.flatnonzero((codes[:, : len(prefix)] == values).all(axis=1))
        assert set(rows) == set(below) and node["count"] == len(below)
        if prefix:
            tags = Counter(tag for tag in tag_ids[below, len(prefix) - 1].tolist() if tag >= 0)
            if tags:
                tag = recommender.tags.paths[len(prefix) - 1].index(node["tag"])
                assert tags[tag] == max(tags.values())
                assert node["purity"] == pytest.approx(tags[tag] / tags.total(), abs=1e-4)
            else:
                assert node["tag"] is node["purity"] is None
        if len(prefix) == 3:
            assert node["children"] == [] and node["count"] == 1
            found_items.extend(names(node))
            return 1
        # All of the first code, then one branch: the others are no different.
        branches = node["children"] if not prefix else node["children"][:1]
        for branch in branches:
            count = walk_down(branch, prefix)
            assert count == branch["count"]
        assert sum(branch["count"] for branch in node["children"]) == node["count"]
        return int(node["count"])

    def walk_down(branch: dict[str, Any], prefix: list[str]) -> int:
        return walk([*prefix, branch["code"]])

    assert walk([]) == 120
    assert len(found_items) == len(set(codes[:, 0]))


@pytest.mark.parametrize(
    ("prefix", "status"),
    [("<a_9999>", 404), ("<b_1>", 404), ("<a_1>,<a_1>", 404), ("a_1", 422), ("<a_1>;", 422)],
)
def test_a_prefix_of_nothing(client: httpx.Client, prefix: str, status: int) -> None:
    assert_problem(client.get("/tree", params={"prefix": prefix}), status)


def test_more_codes_than_an_id_has(client: httpx.Client, recommender: Recommender) -> None:
    prefix = [*recommender.semantic_ids.strings(0), "<d_1>"]
    assert_problem(client.get("/tree", params={"prefix": ",".join(prefix)}), 404, "<d_1>")


def test_some_users_from_all_over_the_dataset(client: httpx.Client, demo_dataset: Dataset) -> None:
    interactions = demo_dataset.interactions
    events = dict(zip(interactions.user_ids, interactions.sequences.lengths.tolist(), strict=True))
    found = get(client, "/users", limit=5)
    assert found["total"] == len(events) == 200
    assert {
        user["user_id"]: user["num_events"] for user in found["users"]
    }.items() <= events.items()
    rows = [interactions.user_ids.index(user["user_id"]) for user in found["users"]]
    assert len(rows) == 5 and min(np.diff(rows)) > 20
    body = {"users": [{"user_id": found["users"][2]["user_id"]}], "k": 1}
    assert client.post("/recommend", json=body).status_code == 200


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/items", {"limit": 0}),
        ("/items", {"limit": 201}),
        ("/items", {"offset": -1}),
        ("/items", {"limit": "many"}),
        ("/items", {"q": "a" * 201}),
        ("/items/item-00001/similar", {"k": 0}),
        ("/items/item-00001/similar", {"k": 101}),
        ("/tree", {"limit": 201}),
        ("/users", {"limit": 0}),
    ],
)
def test_limits(client: httpx.Client, path: str, query: dict[str, Any]) -> None:
    assert_problem(client.get(path, params=query), 422, f"query.{next(iter(query))}")
