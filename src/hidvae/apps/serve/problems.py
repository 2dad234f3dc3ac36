"""Errors as ``application/problem+json`` (RFC 9457), and which of ours has which status."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hidvae.apps.serve.batching import TooBusy
from hidvae.apps.serve.messages import Problem
from hidvae.errors import ConfigError, DataError, HidvaeError, NotTrainedError, SearchTimeout

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_SHOWN_ERRORS = 3
_RETRY = {"Retry-After": "1"}


class Conflict(DataError):
    """An item that is to be added is there already."""


class InvalidItem(DataError):
    """A row that breaks the contract of the catalogue."""


_STATUS: dict[type[Exception], int] = {
    Conflict: 409,
    NotTrainedError: 409,  # no tokenizer that could give a new item its ID
    InvalidItem: 422,
    ConfigError: 422,
}
"""Of an error of ours; others that are DataError say that something is not there."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that says what went wrong."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return Response(json.dumps(content), status, dict(headers or {}), MEDIA_TYPE)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI."""
    schema = {"schema": Problem.model_json_schema()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }


def add_handlers(app: FastAPI) -> None:
    """Have every error of an app answered as a problem."""
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(HidvaeError, _on_ours)
    app.add_exception_handler(SearchTimeout, _on_busy)
    app.add_exception_handler(TooBusy, _on_busy)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    lines = [f"{_place(found['loc'])}: {found['msg']}" for found in errors[:_SHOWN_ERRORS]]
    more = len(errors) - len(lines)
    return problem(422, "; ".join(lines) + (f"; and {more} more" if more else ""))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, detail, headers = error.status_code, error.detail, error.headers
    if status == 400:  # FastAPI's, of a body that is no text
        return problem(422, "body: expected JSON in UTF-8; found other bytes")
    if detail == HTTPStatus(status).phrase:  # Starlette's, which says no more
        detail = f"{request.method} {request.url.path}: {detail.lower()}; see /openapi.json"
    if status == 405:
        headers = {"Allow": ", ".join(sorted(_methods(request)))}
    return problem(status, detail, headers)


def _methods(request: Request) -> set[str]:
    """All methods of a path; Starlette names those of the first route that has it."""
    path = request.url.path
    routes = [route for route in request.app.state.routes if route.path_regex.match(path)]
    methods = [
        route.methods
        for route in routes
        if route.path == routes[0].path and route.include_in_schema
    ]
    return set().union(*methods) or {"GET"}  # of a static file


async def _on_ours(request: Request, error: Exception) -> Response:
    status = _STATUS.get(type(error), 404 if isinstance(error, DataError) else 500)
    if status == 500:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return problem(status, " ".join(str(error).split()))


async def _on_busy(request: Request, error: Exception) -> Response:
    return problem(503, str(error), _RETRY)


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the request, such as ``body.users.0.history``."""
    return ".".join(str(part) for part in loc)
