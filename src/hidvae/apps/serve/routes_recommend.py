"""Routes that ask the model: recommend and explain."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from fastapi import APIRouter

from hidvae.apps.serve.batching import BatchKey
from hidvae.apps.serve.live_run import Snapshot
from hidvae.apps.serve.messages import (
    ExplainRequest,
    ExplainResponse,
    RecommendOneResponse,
    RecommendRequest,
    RecommendResponse,
    User,
)
from hidvae.apps.serve.popular import popular_items, without_history
from hidvae.apps.serve.problems import described
from hidvae.apps.serve.state import Current, Deadline, Server, ServerState
from hidvae.ranking.filters import Filters

router = APIRouter(tags=["recommendations"])


@router.post(
    "/recommend",
    response_model=RecommendOneResponse | RecommendResponse,
    responses=described(403, 404, 413, 422, 503),
)
async def recommend(
    request: RecommendRequest, snapshot: Current, server: Server, deadline: Deadline
) -> Any:
    """The next items of one or many users, best first, with reasons.

    One user's answer is plain: a list with its reasons. That to `users` holds a list for each.
    Requests that wait at the same time are searched together. A user of whom no item is known gets
    the most popular items.
    """
    filters = _known_filters(request.filters.to_filters(), snapshot)
    histories = [_history(user, snapshot, server) for user in request.users or [request]]
    known = [history for history, _ in histories if history]
    key = BatchKey(
        snapshot.recommender, request.k, request.exclude_history, filters, request.beam_width
    )
    found = iter(await server.batcher.recommend(key, known, deadline))
    results = []
    for history, unknown in histories:
        if history:
            items = [item.to_json() for item in next(found)]
        else:
            items = await server.in_background(popular_items, snapshot.view, request.k, filters)
            server.metrics.fallbacks.inc()
        server.metrics.unknown_items.inc(len(unknown))
        results.append(
            {
                "items": items,
                "history": history,
                "unknown_items": unknown,
                "is_fallback": not history,
            }
        )
    if request.users is None:
        return {"version": snapshot.version, **results[0]}
    return {"version": snapshot.version, "results": results}


@router.post(
    "/explain", response_model=ExplainResponse, responses=described(403, 404, 413, 422, 503)
)
async def explain(
    request: ExplainRequest, snapshot: Current, server: Server, deadline: Deadline
) -> Any:
    """How probable one item is after a history, and why."""
    history, unknown = _history(request, snapshot, server)
    item = snapshot.index_of(request.item_id)
    if history:
        explain_item = partial(
            snapshot.recommender.explain, history, request.item_id, deadline=deadline
        )
        found = await server.batcher.alone(explain_item)
        answer = found.to_json()
    else:
        answer = without_history(snapshot.view, item)
    return {
        "version": snapshot.version,
        "item": answer,
        "history": history,
        "unknown_items": unknown,
        "is_fallback": not history,
    }


def _known_filters(filters: Filters, snapshot: Snapshot) -> Filters:
    """Without the items that are not there to be recommended anyway."""
    known = tuple(item_id for item_id in filters.without if snapshot.has(item_id))
    return dataclasses.replace(filters, without=known)


def _history(user: User, snapshot: Snapshot, server: ServerState) -> tuple[list[str], list[str]]:
    """A user's known items, oldest first, and the unknown ones."""
    if user.user_id:
        server.require_users()
    given = snapshot.history_of(user.user_id) if user.user_id else user.history or []
    positions = snapshot.catalogue.positions  # with removed items, which the model still knows
    known = [item_id for item_id in given if item_id in positions]
    return known, [item_id for item_id in given if item_id not in positions]
