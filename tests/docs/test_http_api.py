"""docs/http-api.md is what the server's routes and messages say now, and leaves nothing out."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any

import pytest
from tests.docs.pages import ROOT

from hidvae.apps.serve import messages
from hidvae.apps.serve.app import app_without_run

PAGE = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module("write_http_docs")


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    assert script.page() == PAGE, "docs/http-api.md: run `make docs`"


def test_every_route_has_its_section() -> None:
    routes = {
        f"{method} {route.path.replace(':path', '')}"
        for route in app_without_run().state.routes
        if route.include_in_schema
        for method in route.methods
    }
    shown = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(routes)


def test_every_field_has_its_row() -> None:
    for name in re.findall(r"^### (\w+)$", PAGE, re.MULTILINE):
        _, _, section = PAGE.partition(f"\n### {name}\n")
        rows = re.findall(r"^\| `(\w+)` \|", section.partition("\n### ")[0], re.MULTILINE)
        assert rows == list(getattr(messages, name).model_fields), name


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1.0, "maximum": 100.0}, "whole number, 1 to 100"),
        ({"type": "number", "minimum": 0.5}, "number, at least 0.5"),
        ({"type": "integer", "maximum": 1_000_000_000}, "whole number, at most 1000000000"),
        ({"type": "string", "pattern": "^a$"}, "text, matching `^a$`"),
        ({"type": "array", "items": {"type": "string"}}, "list of texts"),
        (
            {"type": "array", "maxItems": 9, "items": {"type": "string", "minLength": 1}},
            "list of at most 9 texts of at least 1 characters",
        ),
        (
            {"type": "array", "items": {"$ref": "#/components/schemas/TagNode"}},
            "list of [TagNode](#tagnode)",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        (
            {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
            "whole number, at least 1, or null",
        ),
        ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "number"}]}, "number"),
    ],
)
def test_types_are_put_in_words(script: ModuleType, schema: dict[str, Any], words: str) -> None:
    assert script.wording(schema) == words


def test_a_limit_without_words_is_not_passed_over(script: ModuleType) -> None:
    with pytest.raises(AssertionError, match="no words for multipleOf"):
        script.wording({"type": "integer", "multipleOf": 2})


def test_a_field_without_a_meaning_is_named(script: ModuleType) -> None:
    field = {"type": "integer", "title": "Num Clicks"}
    model = {"properties": {"num_clicks": field}, "required": ["num_clicks"]}
    with pytest.raises(AssertionError, match="no description of .*Num Clicks"):
        script.answer_fields(model)
