"""What the page does, checked against what the server says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal

import pytest
from tests.apps.serve.page.conftest import Visit


def percent(share: float) -> str:
    if 0 < share < 0.001:
        return "<0.1%"
    digits = Decimal("0.1") if share < 0.0995 else Decimal(1)
    return f"{Decimal(100 * share).quantize(digits, ROUND_HALF_UP)}%"


def test_a_newcomer_sees_recommendations_after_one_click(visit: Visit) -> None:
    visit.open()
    assert "most popular items" in visit.tab.inner_text("#recommendations .hint")
    visit.shows(visit.recommended([]))
    visit.tab.click("#sample")
    visit.tab.wait_for_selector(".card .probable")
    history = visit.history()
    assert 1 <= len(history) <= 5
    visit.shows(visit.recommended(history))
    assert visit.tab.inner_text("#status") == "10 recommendations"
    assert visit.tab.locator("#recommendations .hint").count() == 0


def test_another_sample_is_another_user(visit: Visit) -> None:
    visit.open_sample()
    first, address = visit.history(), visit.tab.evaluate("location.hash")
    visit.tab.click("#sample")
    visit.tab.wait_for_function("old => location.hash !== old", arg=address)
    assert visit.history() != first
    visit.tab.click("text=Clear")
    visit.shows(visit.recommended([]))


def test_what_a_search_finds_becomes_the_history(visit: Visit) -> None:
    visit.open()
    word = visit.get("items?limit=1")["items"][0]["title"].split()[-1].strip(",")
    found = visit.get(f"items?limit=6&q={word}")
    visit.tab.fill("#search", word)
    titles = visit.tab.locator("#search-results .title")
    titles.first.wait_for()
    assert titles.all_inner_texts() == [item["title"] for item in found["items"]]
    assert f"“{word}”" in visit.tab.inner_text("#status")

    wanted = found["items"][0]
    visit.tab.get_by_label(f"Add to history: {wanted['title']}", exact=True).first.click()
    visit.shows(visit.recommended([wanted["item_id"]]))
    assert visit.tab.locator("#history .title").all_inner_texts() == [wanted["title"]]

    visit.tab.get_by_label(f"Remove from history: {wanted['title']}").click()
    visit.shows(visit.recommended([]))
    visit.tab.fill("#search", "no such thing")
    visit.tab.wait_for_selector("text=Nothing has “no such thing”")


def test_a_recommendation_can_be_added_and_hidden(visit: Visit) -> None:
    visit.open_sample()
    before = visit.history()
    first, second = visit.recommended(before)[:2]
    visit.tab.locator(".card .add").first.click()
    visit.shows(visit.recommended([*before, first["item_id"]]))
    visit.tab.get_by_label(f"Remove from history: {first['title']}").click()
    visit.shows(visit.recommended(before))

    visit.tab.get_by_label(f"Never show: {second['title']}", exact=True).click()
    visit.shows(visit.recommended(before, without=[second["item_id"]]))
    visit.tab.get_by_label(f"Take back: Without {second['title']}").click()
    visit.shows(visit.recommended(before))


def test_a_card_tells_tags_codes_probabilities_and_reasons(visit: Visit) -> None:
    visit.open_sample()
    items = visit.recommended(visit.history())
    visit.shows(items)
    assert any(item["because"] for item in items[:5])
    for card, item in zip(visit.tab.locator(".card").all()[:5], items[:5], strict=True):
        assert card.locator(".head .title").inner_text() == item["title"]
        assert f"{percent(item['prob'])} likely" in card.locator(".prob").inner_text()
        assert card.locator(".tag").all_inner_texts() == item["tag_path"]
        sure = card.locator(".sure .number").all_text_contents()
        assert sure == [f"{percent(share)} sure" for share in item["tag_confidences"]]
        codes = [re.sub("[<>]", "", code) for code in item["codes"]]
        assert card.locator(".code").all_inner_texts() == codes
        probable = card.locator(".probable .number").all_text_contents()
        assert probable == [f"{percent(share)} probable" for share in item["code_probs"]]
        widths = card.locator(".fill").evaluate_all(
            "bars => bars.map((bar) => bar.offsetWidth / bar.parentElement.offsetWidth)"
        )
        shares = [*item["tag_confidences"], *item["code_probs"]]
        assert sorted(widths) == pytest.approx(sorted(shares), abs=0.02)
        reasons = card.locator(".because li")
        assert reasons.locator("b").all_inner_texts() == [
            cause["title"] for cause in item["because"]
        ]
        shown = reasons.locator("> .number").all_inner_texts()
        assert shown == [percent(cause["share"]) for cause in item["because"]]
        filled = [reason.locator(".same").count() for reason in reasons.all()]
        assert filled == [cause["shared_levels"] for cause in item["because"]]


def test_a_tag_steers_and_its_chip_takes_that_back(visit: Visit) -> None:
    visit.open_sample()
    history = visit.history()
    items = visit.recommended(history)
    # Filters go by the catalogue's tags, a card shows predicted ones: take one that makes a change.
    place, path, without = next(
        (place, path, others)
        for place, item in enumerate(items)
        for path in [" > ".join(item["tag_path"][:2])]
        if (others := visit.recommended(history, not_under=[path])) != items
    )
    only = visit.recommended(history, under=[path])
    assert only not in (items, without)

    tag = visit.tab.locator(".card").nth(place).locator("button.tag").nth(1)
    tag.click()
    assert visit.tab.inner_text("#tag-menu-path") == path.replace(" > ", " › ")
    visit.tab.click("#tag-menu >> text=Only this")
    visit.shows(only)
    visit.tab.get_by_label(f"Take back: Only {path}").click()
    visit.shows(items)

    tag.click()
    visit.tab.click("#tag-menu >> text=Not this")
    visit.shows(without)
    assert visit.tab.inner_text("#chips").startswith(f"Not {path}")


def test_the_list_can_be_longer_less_alike_and_limited_per_tag(visit: Visit) -> None:
    visit.open_sample()
    history = visit.history()
    visit.tab.select_option("#k", "5")
    visit.shows(visit.recommended(history)[:5])
    visit.tab.select_option("#k", "10")
    assert visit.tab.locator("#tag-level").is_disabled()
    visit.tab.select_option("#most-per-tag", "1")
    visit.tab.select_option("#tag-level", "1")
    limited = visit.recommended(history, most_per_tag=1, tag_level=1)
    visit.shows(limited)
    visit.tab.select_option("#most-per-tag", "0")
    visit.tab.focus("#diversity")
    visit.tab.keyboard.press("End")
    varied = visit.recommended(history, diversity=2.0, tag_level=1)
    visit.shows(varied)
    assert visit.recommended(history) not in (limited, varied)
    assert visit.tab.inner_text("#diversity-value") == "2.00"


def test_the_tree_of_codes_leads_down_to_items(visit: Visit) -> None:
    visit.open("#view=tree")
    root = visit.get("tree")
    visit.tab.wait_for_selector(".tile")
    assert visit.tab.locator(".tile").count() == len(root["children"])
    prefix = []
    node = root
    while visit.tab.locator(".tile").count():
        largest = max(node["children"], key=lambda child: child["count"])
        name = largest["code"].strip("<>")
        visit.tab.locator(f".tile[aria-label^='{name}: ']").first.click()
        prefix.append(largest["code"])
        node = visit.get(f"tree?limit=20&prefix={','.join(prefix)}")
        visit.tab.wait_for_selector(f".steps [aria-current] >> text={name}")
        assert f"{node['count']} item" in visit.tab.inner_text("#place .note")
        if all(child["count"] == 1 for child in node["children"]):
            break
    titles = visit.tab.locator("#tree-items .title").all_inner_texts()
    assert titles == [item["title"] for item in node["items"]]
    visit.tab.locator("#tree-items .add").first.click()
    visit.tab.click("text=all codes")  # keeps the history, though the link is older
    visit.tab.wait_for_selector(".tile")
    assert visit.history() == [node["items"][0]["item_id"]]


def test_the_tree_of_tags_leads_down_to_items_and_steers(visit: Visit) -> None:
    visit.open("#view=tree")
    visit.tab.click("#by-tag")
    node = visit.get("tags")
    visit.tab.wait_for_selector(".tile[aria-label*='>']")
    node = node["children"][0]["children"][0]
    visit.tab.locator(f".tile[aria-label^='{node['path']}: ']").click()
    node = node["children"][0]
    visit.tab.locator(f".tile[aria-label^='{node['path']}: ']").click()
    visit.tab.wait_for_selector(f".steps [aria-current] >> text={node['name']}")
    found = visit.get(f"items?limit=20&under={node['path']}")
    assert found["total"] == node["count"]
    titles = visit.tab.locator("#tree-items .title")
    titles.first.wait_for()
    assert titles.all_inner_texts() == [item["title"] for item in found["items"]]
    visit.tab.click("text=Recommend only from here")
    visit.tab.get_by_label(f"Take back: Only {node['path']}").wait_for()
    visit.shows(visit.recommended([], under=[node["path"]]))


def test_tiles_have_the_areas_of_their_counts(visit: Visit) -> None:
    visit.open()
    boxes = visit.tab.evaluate(
        """async () => {
            const { squarify } = await import("./static/treemap.js");
            return squarify([40, 30, 20, 5, 3, 1, 1], { x: 10, y: 20, width: 300, height: 200 });
        }"""
    )
    assert [box["width"] * box["height"] for box in boxes] == pytest.approx(
        [600 * size for size in (40, 30, 20, 5, 3, 1, 1)]
    )
    for place, box in enumerate(boxes):
        assert 10 <= box["x"] <= box["x"] + box["width"] <= 310.001
        assert 20 <= box["y"] <= box["y"] + box["height"] <= 220.001
        for other in boxes[:place]:
            overlaps = [
                min(box[at] + box[size], other[at] + other[size]) - max(box[at], other[at])
                for at, size in (("x", "width"), ("y", "height"))
            ]
            assert min(overlaps) < 1e-6


def test_an_item_shows_who_shares_its_prefix(visit: Visit) -> None:
    visit.open_sample()
    item = visit.recommended(visit.history())[0]
    visit.tab.locator(".card .title").first.click()
    visit.tab.wait_for_selector("#item .similar li")
    details = visit.get(f"items/{item['item_id']}")
    similar = visit.get(f"items/{item['item_id']}/similar?k=8")["items"]
    shown = visit.tab.locator("#item .prefixes .note").all_inner_texts()
    assert shown == [
        "this item alone" if number == 1 else f"shared by {number} items"
        for number in details["num_sharing"]
    ]
    rows = visit.tab.locator("#item .similar li").all()
    assert [row.locator(".title").inner_text() for row in rows] == [s["title"] for s in similar]
    assert [row.locator(".same").count() for row in rows] == [s["shared_levels"] for s in similar]
    for name in details["fields"]:
        if details["fields"][name] is not None:
            assert visit.tab.locator("#item dt", has_text=name).count()

    visit.tab.locator("#item .code").first.click()
    visit.tab.wait_for_selector("#tree .steps")
    assert not visit.tab.locator("#item").is_visible()
    assert visit.tab.inner_text(".steps [aria-current]") == item["codes"][0].strip("<>")


def test_a_view_can_be_shared_and_left_again(visit: Visit, visits: Callable[..., Visit]) -> None:
    visit.open_sample()
    history = visit.history()
    path = visit.recommended(history)[0]["tag_path"][0]
    visit.tab.locator("button.tag").first.click()
    visit.tab.click("#tag-menu >> text=Not this")
    steered = visit.recommended(history, not_under=[path])
    visit.shows(steered)

    other = visits()
    other.open(visit.tab.evaluate("location.hash"))
    other.shows(steered)
    texts = [tab.inner_text("#history") for tab in (visit.tab, other.tab)]
    assert texts[0] == texts[1]

    visit.tab.go_back()
    visit.shows(visit.recommended(history))
    visit.tab.go_back()
    visit.shows(visit.recommended([]))


def test_errors_are_told_kindly(visit: Visit) -> None:
    visit.expected_complaints = ["404", "ERR_FAILED"]
    visit.tab.route("**/tags", lambda route: route.abort())
    visit.open("#under=Gardn")
    assert "does not answer" in visit.tab.inner_text("#recommendations .problem")
    visit.tab.unroute("**/tags")
    visit.tab.click("text=Try again")
    visit.tab.wait_for_selector("text=did you mean")
    problem = visit.tab.inner_text("#recommendations .problem")
    assert "'Gardn'" in problem and "did you mean" in problem
    visit.tab.get_by_label("Take back: Only Gardn").click()
    visit.tab.wait_for_selector(".card")

    visit.tab.route("**/recommend", lambda route: route.abort())
    visit.tab.locator(".card .add").first.click()
    visit.tab.wait_for_selector("text=The server does not answer")
    visit.tab.unroute("**/recommend")
    visit.tab.click("text=Try again")
    visit.shows(visit.recommended(visit.history()))


def test_items_that_are_gone_are_named(visit: Visit) -> None:
    visit.expected_complaints = ["404"]
    visit.open("#h=no-such-item")
    assert "left aside: no-such-item" in visit.tab.inner_text("#recommendations")
    visit.tab.get_by_label("Remove from history: no-such-item").click()
    visit.shows(visit.recommended([]))


def test_text_of_the_catalogue_stays_text(visit: Visit) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    item = {**visit.get("items?limit=1")["items"][0], "title": evil, "tag_path": [evil]}
    answer = json.dumps({"version": 0, "total": 1, "items": [item]})
    visit.tab.route("**/items?q=*", lambda route: route.fulfill(body=answer, status=200))
    visit.open()
    visit.tab.fill("#search", "evil")
    title = visit.tab.locator("#search-results .title")
    title.wait_for()
    assert title.inner_text() == evil
    assert visit.tab.locator("img").count() == 0
