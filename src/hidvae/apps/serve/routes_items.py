"""Routes that change the catalogue; each needs the token."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hidvae.apps.serve.live_run import NotFound, Snapshot
from hidvae.apps.serve.messages import AddItemsRequest, ItemColumns, VersionResponse
from hidvae.apps.serve.problems import Conflict, InvalidItem, described
from hidvae.apps.serve.routes_catalogue import ItemId
from hidvae.apps.serve.state import Server, ServerState
from hidvae.errors import DataError
from hidvae.ranking.recommender import Recommender

TOKEN_VARIABLE = "HIDVAE_TOKEN"

_bearer = HTTPBearer(auto_error=False, description=f"The server's {TOKEN_VARIABLE}.")


async def _authorize(
    server: Server, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    if server.token is None:
        raise HTTPException(
            403,
            "this server changes no items; start it with a token of your own in the environment "
            f"variable {TOKEN_VARIABLE}",
        )
    if given is None or not secrets.compare_digest(
        given.credentials.encode(), server.token.encode()
    ):
        raise HTTPException(
            401,
            "expected the header Authorization: Bearer TOKEN with the server's token",
            {"WWW-Authenticate": "Bearer"},
        )


router = APIRouter(tags=["changes"], dependencies=[Depends(_authorize)])


@router.post(
    "/items",
    response_model=VersionResponse,
    responses=described(401, 403, 409, 413, 422, 503),
)
async def add_items(request: AddItemsRequest, server: Server) -> Any:
    """Add items, all or none. Nothing is trained; they can be recommended at once."""
    rows = [item.columns() for item in request.items]

    def change(snapshot: Snapshot) -> Recommender:
        for row in rows:
            if snapshot.has(row["item_id"]):
                raise Conflict(
                    f"expected new items; found {row['item_id']!r}, which the catalogue has; PUT "
                    "updates it"
                )
        return snapshot.recommender.add_items(rows)

    return await _changed(server, change)


@router.put(
    "/items/{item_id:path}",
    response_model=VersionResponse,
    responses=described(401, 403, 404, 413, 422, 503),
)
async def update_item(item_id: ItemId, columns: ItemColumns, server: Server) -> Any:
    """Replace all columns of an item."""
    row = {**columns.columns(), "item_id": item_id}

    def change(snapshot: Snapshot) -> Recommender:
        snapshot.index_of(item_id)
        return snapshot.recommender.update_items([row])

    return await _changed(server, change)


@router.delete(
    "/items/{item_id:path}",
    response_model=VersionResponse,
    responses=described(401, 403, 404, 422, 503),
)
async def remove_item(item_id: ItemId, server: Server) -> Any:
    """Stop recommending an item; histories may still contain it."""

    def change(snapshot: Snapshot) -> Recommender:
        snapshot.index_of(item_id)
        return snapshot.recommender.remove_items([item_id])

    return await _changed(server, change)


async def _changed(server: ServerState, change: Callable[[Snapshot], Recommender]) -> Any:
    """Change items, one request after the other; the answer."""

    def checked(snapshot: Snapshot) -> Recommender:
        try:
            return change(snapshot)
        except (Conflict, NotFound):
            raise
        except DataError as error:
            raise InvalidItem(str(error)) from error

    return {"version": await server.in_changes(server.live.change, checked)}
