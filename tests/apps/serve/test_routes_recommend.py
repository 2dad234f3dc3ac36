"""POST /recommend and POST /explain: the same as from Python, limits, and users nobody knows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from hidvae.apps.serve import messages
from hidvae.data.prepare import Dataset
from hidvae.ranking.filters import Filters
from hidvae.ranking.recommender import Recommender

from .conftest import Running, assert_problem


def names(found: list[dict[str, Any]]) -> list[str]:
    return [item["item_id"] for item in found]


def ask(client: httpx.Client, *users: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    response = client.post("/recommend", json={"users": users, **more})
    assert response.status_code == 200, response.text
    assert response.json()["version"] == 0
    return response.json()["results"]


@pytest.fixture(scope="module")
def history(recommender: Recommender) -> list[str]:
    return [recommender.catalogue.item_ids[index] for index in (3, 50, 17, 90, 3, 41)]


def test_a_list_is_that_of_the_recommender(
    client: httpx.Client, recommender: Recommender, history: list[str]
) -> None:
    (result,) = ask(client, {"history": history}, k=7)
    expected = recommender.recommend(history, 7)
    assert result["history"] == history
    assert result["unknown_items"] == [] and not result["is_fallback"]
    assert len(result["items"]) == 7
    for item, wanted in zip(result["items"], expected, strict=True):
        wanted_json = wanted.to_json()
        for key in ("prob", "log_prob", "score", "code_probs"):
            assert item.pop(key) == pytest.approx(wanted_json.pop(key), rel=1e-4), key
        assert item == wanted_json


def test_filters_are_kept(
    client: httpx.Client, recommender: Recommender, history: list[str]
) -> None:
    path = recommender.tags.paths[0][0]
    first = recommender.recommend(history, 1, filters=Filters(under=(path,)))[0].item_id
    filters = {"under": [path.upper()], "without": [first, "nobody knows this"], "diversity": 0.5}
    (result,) = ask(client, {"history": history}, filters=filters, k=5)
    wanted = Filters(under=(path,), without=(first,), diversity=0.5)
    assert names(result["items"]) == [
        each.item_id for each in recommender.recommend(history, 5, filters=wanted)
    ]
    item = int(recommender.catalogue.index_of(history[:1])[0])
    of_item = {"under": [recommender.tags.paths[0][recommender.item_tags.tag_ids[item, 0]]]}
    (result,) = ask(
        client, {"history": history}, filters=of_item, k=100, exclude_history=False, beam_width=120
    )
    assert history[0] in names(result["items"])


def test_many_users_in_one_request(
    client: httpx.Client, recommender: Recommender, demo_dataset: Dataset, history: list[str]
) -> None:
    user_id = demo_dataset.interactions.user_ids[5]
    events = demo_dataset.interactions.sequences[5]
    results = ask(
        client,
        {"history": history},
        {"history": ["who", history[0], "what"]},
        {"history": []},
        {"user_id": user_id},
        k=4,
    )
    one, partly, nobody, known = results
    assert names(one["items"]) == [each.item_id for each in recommender.recommend(history, 4)]
    assert partly["unknown_items"] == ["who", "what"] and partly["history"] == [history[0]]
    wanted = recommender.recommend([history[0]], 4)
    assert names(partly["items"]) == [each.item_id for each in wanted]
    assert nobody["is_fallback"] and not partly["is_fallback"]
    assert known["history"] == [demo_dataset.catalogue.item_ids[item] for item in events]
    assert not {*known["history"]} & {*names(known["items"])}


@pytest.mark.parametrize("is_known", [False, True])
def test_one_user_is_asked_for_and_answered_plainly(
    client: httpx.Client, demo_dataset: Dataset, history: list[str], is_known: bool
) -> None:
    user = {"user_id": demo_dataset.interactions.user_ids[5]} if is_known else {"history": history}
    (wanted,) = ask(client, user, k=4, filters={"diversity": 0.5})
    response = client.post("/recommend", json={**user, "k": 4, "filters": {"diversity": 0.5}})
    found = response.json()
    assert response.status_code == 200 and found.pop("version") == 0
    assert found == wanted
    nobody = client.post("/recommend", json={"history": ["who"]}).json()
    assert (
        nobody["is_fallback"] and nobody["unknown_items"] == ["who"] and len(nobody["items"]) == 10
    )


def test_who_is_unknown_gets_the_most_popular_items_under_the_orders(
    client: httpx.Client, recommender: Recommender, demo_dataset: Dataset
) -> None:
    train = demo_dataset.split.train.items
    counts = np.bincount(train, minlength=demo_dataset.catalogue.num_items)
    order = np.argsort(-counts, kind="stable")
    item_ids = demo_dataset.catalogue.item_ids
    (all_items,) = ask(client, {"history": ["who", "what"]}, k=6)
    assert names(all_items["items"]) == [item_ids[item] for item in order[:6]]
    assert all_items["unknown_items"] == ["who", "what"]
    for item in all_items["items"]:
        assert item["prob"] is item["log_prob"] is None and item["code_probs"] == []
    scores = [item["score"] for item in all_items["items"]]
    assert scores == sorted(scores, reverse=True)

    path = recommender.tags.paths[0][1]
    is_under = recommender.item_tags.is_under(path)
    filters = {"under": [path], "without": [item_ids[order[is_under[order]][0]]]}
    (under,) = ask(client, {"history": []}, k=6, filters=filters)
    assert names(under["items"]) == [item_ids[item] for item in order[is_under[order]][1:7]]

    (few,) = ask(client, {"history": []}, k=6, filters={"most_per_tag": 1, "tag_level": 1})
    rows = recommender.catalogue.index_of(names(few["items"]))
    tags = recommender.item_tags.tag_ids[rows, 1]
    assert len(set(tags[tags >= 0])) == (tags >= 0).sum()
    (varied,) = ask(client, {"history": []}, k=6, filters={"diversity": 50})
    assert names(varied["items"]) != names(all_items["items"])
    assert names(varied["items"])[0] == names(all_items["items"])[0]


def test_requests_that_come_together_are_searched_together(
    shared: Running, recommender: Recommender
) -> None:
    item_ids = recommender.catalogue.item_ids
    histories = [[item_ids[n], item_ids[2 * n + 1]] for n in range(40)]

    def one(history: list[str]) -> list[str]:
        (result,) = ask(shared.client, {"history": history}, k=5)
        return names(result["items"])

    before = metric(shared, "hidvae_batch_size_count")
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(one, histories))
    for history, items in zip(histories, found, strict=True):
        assert items == [each.item_id for each in recommender.recommend(history, 5)]
    assert metric(shared, "hidvae_batch_size_count") - before < 40


def metric(server: Running, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    (line,) = (line for line in lines if line.split(" ")[0] == name)
    return float(line.split(" ")[1])


def test_an_item_is_explained_as_by_the_recommender(
    client: httpx.Client, recommender: Recommender, history: list[str]
) -> None:
    item_id = recommender.catalogue.item_ids[77]
    body = client.post("/explain", json={"history": [*history, "who"], "item_id": item_id}).json()
    wanted = recommender.explain(history, item_id)
    assert body["item"]["prob"] == pytest.approx(wanted.prob, rel=1e-4)
    assert body["item"]["item_id"] == item_id and body["item"]["reason"] == wanted.reason
    assert body["unknown_items"] == ["who"] and not body["is_fallback"]
    body = client.post("/explain", json={"history": [], "item_id": item_id}).json()
    assert body["is_fallback"] and body["item"]["prob"] is None
    assert body["item"]["item_id"] == item_id


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "users"),
        ({"k": 3}, "history (a list of item ids)"),
        ({"history": ["a"], "users": [{"history": ["a"]}]}, "either"),
        ({"history": ["a"], "user_id": "b"}, "either"),
        ({"history": None}, "history"),
        ({"users": None}, "users"),
        ({"history": "item"}, "history"),
        ({"users": [{"history": ["a"], "k": 3}]}, "k"),
        ({"users": []}, "body.users"),
        ({"users": [{}]}, "history"),
        ({"users": [{"history": None}]}, "history"),
        ({"users": [{"history": ["a"], "user_id": "b"}]}, "either"),
        ({"users": [{"history": "item"}]}, "history"),
        ({"users": [{"history": [3]}]}, "history"),
        ({"users": [{"history": [""]}]}, "history"),
        ({"users": [{"history": ["a"] * (messages.MAX_HISTORY + 1)}]}, "1000"),
        ({"users": [{"history": []}] * (messages.MAX_USERS + 1)}, "64"),
        ({"users": [{"history": []}], "k": 0}, "body.k"),
        ({"users": [{"history": []}], "k": messages.MAX_K + 1}, "100"),
        ({"users": [{"history": []}], "k": "10"}, "body.k"),
        ({"users": [{"history": []}], "beam_width": 501}, "500"),
        ({"users": [{"history": []}], "top": 3}, "body.top"),
        ({"users": [{"history": []}], "filters": {"diversity": -1}}, "diversity"),
        ({"users": [{"history": []}], "filters": {"uner": ["a"]}}, "uner"),
        ({"users": [{"history": []}], "filters": {"tag_level": 9, "most_per_tag": 1}}, "level"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(
    client: httpx.Client, body: dict[str, Any], word: str
) -> None:
    assert_problem(client.post("/recommend", json=body), 422, word)


def test_beams_for_the_list_and_json_are_asked_for(
    client: httpx.Client, history: list[str]
) -> None:
    body = {"users": [{"history": history}], "k": 10, "beam_width": 3}
    assert_problem(client.post("/recommend", json=body), 422, "at least k = 10")
    for content in (b"{", b"", b"\xff\xfe", b"[" * 100_000):
        response = client.post(
            "/recommend", content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in (400, 422), response.text
        assert response.headers["content-type"] == "application/problem+json"


def test_what_is_named_must_be_there(client: httpx.Client, history: list[str]) -> None:
    user = {"users": [{"user_id": "who"}]}
    assert_problem(client.post("/recommend", json=user), 404, "'who'", "give a history")
    for users in ([{"history": history}], [{"history": []}]):
        tag = {"users": users, "filters": {"under": ["Gardn"]}}
        assert_problem(client.post("/recommend", json=tag), 404, "did you mean")
    item = {"history": history, "item_id": "what"}
    assert_problem(client.post("/explain", json=item), 404, "'what'")
    assert_problem(client.post("/explain", json={"history": history}), 422, "item_id")
