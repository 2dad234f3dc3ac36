"""Write docs/http-api.md from the server's OpenAPI: ``make docs``; ``--print`` shows it."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hidvae.apps.serve.app import app_without_run

Schema = dict[str, Any]

PAGE = Path(__file__).parent.parent / "docs" / "http-api.md"
HEAD = """# HTTP API

Written by `make docs` from the routes and messages in `src/hidvae/apps/serve/`; edit there.

Every route of `hidvae serve` and every field, as `/openapi.json` describes them to programs;
[serving](serving.md) is the guide. Bodies and answers are JSON; a key that is not in a body's table
is refused. An error is a [Problem](#problem): each route lists the statuses of its own, and
[limits and errors](serving.md#limits-and-errors) says when they come.
"""
PROBLEM = "application/problem+json"
TYPE_WORDS = {
    "string": ("text", "texts"),
    "boolean": ("true or false", "truth values"),
    "integer": ("whole number", "whole numbers"),
    "number": ("number", "numbers"),
    "null": ("null", "nulls"),
}
LIMITS = {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern"}
NOT_LIMITS = {"type", "items", "title", "description", "default", "examples"}
ANY_OBJECT = {"type": "object", "additionalProperties": True}


def wording(schema: Schema, *, is_plural: bool = False) -> str:
    """What a value may be, in words, with its limits."""
    if "$ref" in schema:
        return link(schema["$ref"])
    if "anyOf" in schema:
        return either([wording(option, is_plural=is_plural) for option in options(schema)])
    if schema.items() >= ANY_OBJECT.items():
        return "object"
    unknown = schema.keys() - LIMITS - NOT_LIMITS
    assert not unknown, f"no words for {', '.join(sorted(unknown))} of {schema}"
    if schema["type"] == "array":
        count = span(schema, "minItems", "maxItems")
        return f"list of {count} {wording(schema['items'], is_plural=True)}".replace("  ", " ")
    characters = span(schema, "minLength", "maxLength")
    limits = [
        span(schema, "minimum", "maximum"),
        f"{characters} characters" if characters else "",
        f"matching `{schema['pattern']}`" if "pattern" in schema else "",
    ]
    word = TYPE_WORDS[schema["type"]][is_plural]
    separator = " of " if is_plural else ", "
    return separator.join([word, *filter(None, limits)])


def options(schema: Schema) -> list[Schema]:
    """What an ``anyOf`` allows, without whole numbers where any number will do."""
    found: list[Schema] = schema["anyOf"]
    has_numbers = {"type": "number"} in found
    return [option for option in found if not (has_numbers and option.get("type") == "integer")]


def either(words: list[str]) -> str:
    """One of these."""
    if len(words) > 2 or any("," in word for word in words[:-1]):
        return ", ".join([*words[:-1], f"or {words[-1]}"])
    return " or ".join(words)


def span(schema: Schema, least: str, most: str) -> str:
    """A range, such as ``1 to 100``; empty where there is none."""
    low, high = (f"{schema[key]:.15g}" if key in schema else "" for key in (least, most))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else ""


def link(reference: str) -> str:
    """To the section of a model."""
    name = reference.rpartition("/")[2]
    return f"[{name}](#{name.lower()})"


def text(node: Schema) -> str:
    """A description, in which pages of docs/ become links."""
    assert "description" in node, f"no description of {node}"
    return re.sub(r"\bdocs/([\w-]+)\.md", r"[\1](\1.md)", node["description"])


def default_of(schema: Schema, is_required: bool, models: dict[str, Schema]) -> str:
    """What counts where nothing is given."""
    if is_required:
        return "required"
    if "default" not in schema:
        return "none"
    if "$ref" in schema:
        parts = models[schema["$ref"].rpartition("/")[2]]["properties"]
        if schema["default"] == {name: part.get("default") for name, part in parts.items()}:
            return "its defaults"
    return f"`{json.dumps(schema['default'])}`"


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table between empty lines."""
    names = list(columns)
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in [names, *rows]]
    return ["", f"| {lines[0]} |", "|---" * len(names) + "|", *(f"| {row} |" for row in lines[1:])]


def request_fields(model: Schema, models: dict[str, Schema]) -> list[str]:
    """What a request holds."""
    required = model.get("required", [])
    rows = [
        (f"`{name}`", wording(field), default_of(field, name in required, models), text(field))
        for name, field in model["properties"].items()
    ]
    if others := model["additionalProperties"]:
        rows.append(("any other", wording(others), "none", text(others)))
    lines = table(("name", "type", "default", "meaning"), rows)
    if "oneOf" in model:
        names = [f"`{name}`" for option in model["oneOf"] for name in option["required"]]
        lines += ["", f"Exactly one of {', '.join(names[:-1])} and {names[-1]} is given."]
    return lines


def answer_fields(model: Schema) -> list[str]:
    """What an answer holds, all of it always."""
    assert set(model["required"]) == model["properties"].keys()
    fields = model["properties"].items()
    rows = [(f"`{name}`", wording(field), text(field)) for name, field in fields]
    return table(("name", "type", "meaning"), rows)


def parameters(route: Schema, models: dict[str, Schema]) -> list[str]:
    """What path and query of a route hold."""
    rows = []
    for parameter in route.get("parameters", []):
        schema = parameter["schema"]
        # A query can leave a parameter out, but has no null.
        kinds = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
        default = default_of(schema, parameter["required"], models)
        values = wording({"anyOf": kinds})
        rows.append((f"`{parameter['name']}`", parameter["in"], values, default, text(parameter)))
    return table(("name", "in", "type", "default", "meaning"), rows) if rows else []


def route_section(method: str, path: str, route: Schema, models: dict[str, Schema]) -> list[str]:
    """One method of one path."""
    lines = ["", f"### `{method.upper()} {path}`", "", text(route)]
    if "security" in route:
        lines += ["", "Needs [the token](serving.md#change-items): `Authorization: Bearer TOKEN`."]
    lines += parameters(route, models)
    if "requestBody" in route:
        model = body(route, models)
        lines += ["", f"Body: {text(model)}", *request_fields(model, models)]
        for example in model["examples"]:
            lines += ["", "```json", json.dumps(example, ensure_ascii=False), "```"]
    ((media_type, answer),) = route["responses"]["200"]["content"].items()
    schemas = answer["schema"].get("anyOf", [answer["schema"]])
    links = [link(schema["$ref"]) for schema in schemas if "$ref" in schema]
    shown = " or ".join(links) or f"`{media_type}`"
    errors = ", ".join(status for status in route["responses"] if status != "200")
    return [*lines, "", f"Answer: {shown}." + (f" Errors: {errors}." if errors else "")]


def body(route: Schema, models: dict[str, Schema]) -> Schema:
    """The model of a route's body."""
    reference: str = route["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return models[reference.rpartition("/")[2]]


def reachable(node: Any, models: dict[str, Schema]) -> set[str]:
    """Names of the models that a part of the description leads to."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(waiting.pop())))
        waiting += [models[name] for name in names - found]
        found |= names
    return found


def page() -> str:
    """The whole page."""
    description = app_without_run().openapi()
    models = description["components"]["schemas"]
    groups: dict[str, list[str]] = {}
    in_bodies, in_answers = set(), set()
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            (tag,) = route["tags"]
            groups.setdefault(tag, []).extend(route_section(method, path, route, models))
            in_answers |= reachable(route["responses"], models)
            if "requestBody" in route:
                in_bodies |= reachable(body(route, models), models)
            for response in route["responses"].values():
                if PROBLEM in response["content"]:
                    models["Problem"] = response["content"][PROBLEM]["schema"]
    lines = [HEAD.rstrip()]
    for tag, sections in groups.items():
        lines += ["", f"## {tag.capitalize()}", *sections]
    lines += ["", "## Parts of bodies"]
    for name in sorted(in_bodies):
        model = models[name]
        lines += ["", f"### {name}", "", text(model), *request_fields(model, models)]
    lines += ["", "## Answers"]
    for name in sorted(in_answers | {"Problem"}):
        lines += ["", f"### {name}", "", text(models[name]), *answer_fields(models[name])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), encoding="utf-8")
