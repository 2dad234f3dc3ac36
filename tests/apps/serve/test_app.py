"""What holds for every route: limits, errors, headers, metrics, a page."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hidvae.apps.serve import app, messages
from hidvae.apps.serve.live_run import LiveRun
from hidvae.ranking import recommender as recommender_module

from .conftest import AUTHORIZED, Running, assert_problem, running, wait_until


def test_health(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive", "version": 0, "num_items": 120}
    assert client.get("/readyz").json() == {"status": "ready", "version": 0, "num_items": 120}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/recommend", 405),
        ("POST", "/tags", 405),
        ("DELETE", "/items", 405),
        ("GET", "/items/", 404),
    ],
)
def test_paths_and_methods_that_are_not_there(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert_problem(response, status)
    assert ("allow" in response.headers) == (status == 405)


def test_a_body_may_only_be_so_large(client: httpx.Client) -> None:
    body = b" " * (messages.MAX_BODY_BYTES + 1)
    assert_problem(client.post("/recommend", content=body), 413, str(messages.MAX_BODY_BYTES))

    def unannounced() -> Iterator[bytes]:
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]

    assert_problem(client.post("/explain", content=unannounced()), 413, "at most")
    fits = b'{"users": [{"history": []}]}'.ljust(messages.MAX_BODY_BYTES)
    headers = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=fits, headers=headers).status_code == 200


def test_every_answer_has_its_headers(client: httpx.Client) -> None:
    for path in ("/tags", "/nothing", "/metrics"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'self'")


def test_openapi_names_every_route_and_has_examples(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/recommend",
        "/explain",
        "/items",
        "/items/{item_id}",
        "/items/{item_id}/similar",
        "/tags",
        "/tree",
        "/users",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert schema["components"]["schemas"]["RecommendRequest"]["examples"]
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            assert described.get("description"), (method, path)
            for status, answer in described["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {"application/problem+json"}, (method, path)
    for page in ("/docs", "/redoc"):  # they load scripts from other hosts
        assert client.get(page).status_code == 404


def test_examples_of_openapi_work(client: httpx.Client) -> None:
    """Each is answered as it asks to be: its own histories, so many items, none taken before."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for example in schemas["RecommendRequest"]["examples"]:
        response = client.post("/recommend", json=example)
        assert response.status_code == 200, response.text
        answer = response.json()
        lists = answer["results"] if "users" in example else [answer]
        for user, found in zip(example.get("users", [example]), lists, strict=True):
            taken, given = user["history"], [item["item_id"] for item in found["items"]]
            assert found["history"] == taken and found["unknown_items"] == []
            assert found["is_fallback"] == (not taken)
            assert len(set(given)) == len(given) and not set(given) & set(taken)
            if most := example.get("filters", {}).get("most_per_tag"):
                roots = [item["tag_path"][0] for item in found["items"]]
                assert all(roots.count(root) <= most for root in roots)
                assert 1 < len(roots) <= example.get("k", 10)
            else:
                assert len(given) == example["k"]
    for example in schemas["ExplainRequest"]["examples"]:
        response = client.post("/explain", json=example)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["item"]["item_id"] == example["item_id"]
        assert answer["history"] == example["history"] and not answer["is_fallback"]
    by_history, by_user = schemas["User"]["examples"]
    (found,) = client.post("/recommend", json={"users": [by_history]}).json()["results"]
    assert found["history"] == by_history["history"]
    response = client.post("/recommend", json={"users": [by_user]})
    assert_problem(response, 404, by_user["user_id"])  # not of the tiny shop


def test_examples_of_items_work(changeable: Running) -> None:
    client = changeable.client
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for example in schemas["AddItemsRequest"]["examples"]:
        response = client.post("/items", json=example, headers=AUTHORIZED)
        assert response.status_code < 300, response.text
        for item in example["items"]:
            fields = client.get(f"/items/{item['item_id']}").json()["fields"]
            assert fields["title"] == item["title"] and fields["categories"] == item["categories"]


def test_metrics_count_requests_and_searches(shared: Running) -> None:
    def lines() -> dict[str, float]:
        text = shared.client.get("/metrics").text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    before = lines()
    item = shared.live.current.catalogue.item_ids[0]
    shared.client.post("/recommend", json={"users": [{"history": [item, "x"]}, {"history": []}]})
    shared.client.get("/nothing/at/all")
    shared.client.request("MADEUP", "/nothing/else")
    after = lines()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    route = 'route="/recommend"'
    assert grown(f'hidvae_requests_total{{method="POST",{route},status="200"}}') == 1
    assert grown(f"hidvae_request_seconds_count{{{route}}}") == 1
    assert grown('hidvae_requests_total{method="GET",route="unknown",status="404"}') == 1
    assert grown('hidvae_requests_total{method="other",route="unknown",status="404"}') == 1
    assert grown("hidvae_batch_size_sum") == 1 and grown("hidvae_search_seconds_count") == 1
    assert grown("hidvae_fallbacks_total") == 1 and grown("hidvae_unknown_items_total") == 1
    assert after["hidvae_items"] == 120 and after["hidvae_version"] == 0


class Held:
    """Keeps the model's thread busy until the block ends."""

    def __init__(self, server: Running) -> None:
        self._may_go_on = threading.Event()
        server.state.model_thread.submit(self._may_go_on.wait, 20)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._may_go_on.set()


def test_who_waits_too_long_is_told_so_and_the_others_go_on(tiny_run: Path) -> None:
    body = {"users": [{"history": ["item-00001"]}]}
    with running(tiny_run, timeout_seconds=0.3) as server:
        with Held(server):
            response = server.client.post("/recommend", json=body)
            assert_problem(response, 503, "0.3 s")
            assert response.headers["retry-after"] == "1"
            assert server.client.get("/tags").status_code == 200  # beside the model
        wait_until(lambda: server.client.post("/recommend", json=body).status_code == 200)


def test_a_search_that_nobody_waits_for_ends(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work itself, and not only the waiting: the model's thread is soon free again."""
    with running(tiny_run, timeout_seconds=0.5) as server:
        recommender = server.live.current.recommender
        search = recommender_module.search
        work = []

        def slow(*args: Any, **options: Any) -> Any:
            """A search of a user at a time, each of which takes a while."""
            read = recommender.retriever.read
            with monkeypatch.context() as patch:
                patch.setattr(
                    recommender.retriever,
                    "read",
                    lambda *one: work.append(time.sleep(0.2)) or read(*one),
                )
                return search(*args, **{**options, "batch_size": 1})

        monkeypatch.setattr(recommender_module, "search", slow)
        users = [{"history": ["item-00001"]}] * 60
        assert_problem(server.client.post("/recommend", json={"users": users}), 503)
        free = threading.Event()
        server.state.model_thread.submit(free.set)
        assert free.wait(5), "60 users would take 12 seconds"
        assert 1 <= len(work) < 10


def test_too_many_waiting_requests_are_refused(tiny_run: Path) -> None:
    users = [{"history": ["item-00001"]}] * 3
    with running(tiny_run) as server:
        server.state.batcher.max_waiting = 2
        assert_problem(server.client.post("/recommend", json={"users": users}), 503, "wait")
        assert server.client.get("/readyz").status_code == 200
        server.state.batcher.max_waiting = 0
        assert_problem(server.client.get("/readyz"), 503)
        asked = {"history": ["item-00001"], "item_id": "item-00002"}
        assert_problem(server.client.post("/explain", json=asked), 503, "wait")
        assert server.client.get("/healthz").status_code == 200


def test_an_error_of_ours_is_a_problem_without_its_inside(
    tiny_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tiny_run) as server:
        server.live.current = None  # type: ignore[assignment]
        assert_problem(server.client.get("/tags"), 500, "see its log")
    assert "GET /tags failed" in caplog.text


def test_requests_in_flight_are_answered_before_the_end(tiny_run: Path) -> None:
    answers: list[Any] = []
    with running(tiny_run) as server:
        body = {"users": [{"history": ["item-00001"]}]}
        held = Held(server)
        asking = threading.Thread(
            target=lambda: answers.append(server.client.post("/recommend", json=body))
        )
        asking.start()
        wait_until(lambda: server.server.server_state.tasks)
        time.sleep(0.05)
        server.server.should_exit = True
        wait_until(lambda: not can_connect(server.url))  # takes no more, and still works on it
        held.__exit__()
        asking.join(20)
    assert answers[0].status_code == 200


def can_connect(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_page_and_its_files(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("<h1>a page</h1>")
    (tmp_path / "app.js").write_text("let a = 1;")
    monkeypatch.setattr(app, "STATIC", tmp_path)
    with running(tiny_run) as server:
        page = server.client.get("/")
        assert page.text == "<h1>a page</h1>" and page.headers["content-type"].startswith(
            "text/html"
        )
        assert "javascript" in server.client.get("/static/app.js").headers["content-type"]


def test_a_run_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    from hidvae.errors import NotTrainedError

    with pytest.raises(NotTrainedError, match="hidvae prepare"):
        LiveRun(tmp_path)
