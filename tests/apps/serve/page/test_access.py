"""Who can use the page: on a phone, with the keyboard, in the dark, with weak eyes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.apps.serve.page.conftest import DESKTOP, PHONE, Visit

_CONTRASTS = """() => {
    const parse = (colour) => {
        const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const over = ([r, g, b, a], ground) =>
        [r, g, b].map((value, place) => value * a + ground[place] * (1 - a));
    const luminance = (colour) => {
        const [r, g, b] = colour.map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const groundOf = (node) => {
        if (!node) return [255, 255, 255];
        const below = groundOf(node.parentElement);
        const face = node.tagName === "svg" && node.querySelector(":scope > .face");
        if (face) {
            const [r, g, b] = parse(getComputedStyle(face).fill);
            return over([r, g, b, Number(getComputedStyle(face).fillOpacity)], below);
        }
        return over(parse(getComputedStyle(node).backgroundColor), below);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        const style = getComputedStyle(node);
        const box = node.getBoundingClientRect();
        if (!text || node.closest("title, option, noscript, :disabled") || box.width < 2) continue;
        if (!node.checkVisibility({ visibilityProperty: true })) continue;
        const ground = groundOf(node);
        const isSvg = node instanceof SVGElement;
        const colour = over(parse(isSvg ? style.fill : style.color), ground);
        const [dark, light] = [luminance(colour), luminance(ground)].sort((a, b) => a - b);
        found.push([(light + 0.05) / (dark + 0.05), text]);
    }
    return found;
}"""


def show_tree(visit: Visit) -> None:
    visit.tab.click("nav [data-view=tree]")
    visit.tab.wait_for_selector(".tile")


def show_menu(visit: Visit) -> None:
    visit.tab.click("nav [data-view=recommend]")
    visit.tab.locator("button.tag").first.click()


def show_item(visit: Visit) -> None:
    visit.tab.keyboard.press("Escape")
    visit.tab.locator(".card .title").first.click()
    visit.tab.wait_for_selector("#item .similar li")


VIEWS: dict[str, Callable[[Visit], None]] = {
    "list": lambda visit: visit.open_sample(),
    "tree": show_tree,
    "menu": show_menu,
    "item": show_item,
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_view_fits_and_can_be_read(
    visits: Callable[..., Visit], size: dict[str, int], scheme: str, screenshots: Path
) -> None:
    visit = visits(size, scheme)
    for name, show in VIEWS.items():
        show(visit)
        visit.tab.screenshot(path=screenshots / f"{name}-{size['width']}-{scheme}.png")
        wide = visit.tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"], f"{name} scrolls sideways"
        found = visit.tab.evaluate(_CONTRASTS)
        assert len(found) > 20
        weak = [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5]
        assert weak == [], name
    ground = visit.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in ground.strip("rgb()").split(","))
    assert (brightness < 100) == (scheme == "dark")
    assert len(list(screenshots.glob(f"*-{size['width']}-{scheme}.png"))) == len(VIEWS)


def test_a_phone_has_everything_within_reach(visits: Callable[..., Visit]) -> None:
    visit = visits(PHONE)
    visit.open_sample()
    outside = visit.tab.evaluate(
        """() => [...document.querySelectorAll("main button, main a, main select, aside button")]
            .map((node) => node.getBoundingClientRect())
            .filter((box) => box.width && (box.left < 0 || box.right > innerWidth + 0.5)).length"""
    )
    assert outside == 0
    small = visit.tab.evaluate(
        """() => [...document.querySelectorAll(".add, .remove, select, #sample, .chip")]
            .map((node) => node.getBoundingClientRect())
            .filter((box) => box.height < 40).length"""
    )
    assert small == 0


def focused(visit: Visit) -> str:
    """What a screen reader would call the focused thing; it must be seen to have the focus."""
    name, outline = visit.tab.evaluate(
        """() => {
            const node = document.activeElement;
            const ring = node.querySelector(".ring");
            const style = getComputedStyle(ring ?? node);
            const isRinged = ring ? style.stroke !== "none" && !style.stroke.includes("0, 0, 0, 0")
                : style.outlineStyle !== "none";
            const label = node.labels?.length ? node.labels[0].textContent : node.textContent;
            return [node.getAttribute("aria-label") ?? label, isRinged];
        }"""
    )
    assert outline, f"{name}: the focus cannot be seen"
    return str(name).strip()


def tab_to(visit: Visit, wanted: str, most: int = 80) -> None:
    for _ in range(most):
        visit.tab.keyboard.press("Tab")
        if focused(visit).startswith(wanted):
            return
    raise AssertionError(f"Tab does not reach {wanted!r}")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    visit.open()
    press = visit.tab.keyboard.press
    tab_to(visit, "Search items")
    word = visit.get("items?limit=1")["items"][0]["title"].split()[0]
    visit.tab.keyboard.type(word)
    visit.tab.wait_for_selector("#search-results .title")
    press("ArrowDown")
    title = focused(visit)
    tab_to(visit, f"Add to history: {title}", most=1)
    press("Enter")
    visit.tab.wait_for_selector(".card .probable")
    history = visit.history()
    assert len(history) == 1
    assert focused(visit) == f"Add to history: {title}"

    found = visit.tab.locator("#search-results .title").all_text_contents()
    item = next(item for item in visit.recommended(history) if item["title"] not in found)
    tab_to(visit, item["title"])
    tab_to(visit, item["tag_path"][0], most=3)
    press("Enter")
    assert focused(visit) == "Only this"
    press("Escape")
    assert focused(visit) == item["tag_path"][0]
    press("Enter")
    press("Tab")
    press("Enter")  # not this
    visit.shows(visit.recommended(history, not_under=[item["tag_path"][0]]))
    # The list is another, but the keyboard has not lost its place in it.
    assert visit.tab.evaluate("document.activeElement.closest('section')?.id") == "recommend"

    tab_to(visit, "a_")
    press("Enter")  # into the tree: the focus comes along
    visit.tab.wait_for_selector(".steps")
    assert visit.tab.evaluate("document.activeElement.id") == "tree-title"
    visit.tab.go_back()
    visit.tab.locator("#skip").focus()
    tab_to(visit, "Tree of IDs")
    press("Enter")
    visit.tab.wait_for_selector(".tile")
    visit.tab.focus("#by-tag")
    tab_to(visit, "all codes", most=2)
    tab_to(visit, visit.tab.locator(".tile").first.get_attribute("aria-label"), most=2)
    first = focused(visit)
    press("ArrowRight")
    assert focused(visit) != first
    press("ArrowLeft")
    press("ArrowDown")
    code = focused(visit).split(":")[0]
    press("Enter")
    visit.tab.wait_for_selector(f".steps [aria-current] >> text={code}")

    visit.tab.locator("#tree-items .title").first.focus()
    press("Enter")
    visit.tab.wait_for_selector("#item .similar li")
    press("Escape")
    assert not visit.tab.locator("#item").is_visible()
    assert visit.tab.evaluate("document.activeElement.className") == "title"


def test_everything_has_a_name(visit: Visit) -> None:
    visit.open_sample()
    nameless = visit.tab.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, output, dialog, svg")]
            .filter((node) => !(node.getAttribute("aria-label") ?? node.textContent).trim()
                && !node.labels?.length)
            .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert visit.tab.get_attribute("html", "lang") == "en"
    levels = visit.tab.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map((node) => Number(node.tagName[1]))"
    )
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
