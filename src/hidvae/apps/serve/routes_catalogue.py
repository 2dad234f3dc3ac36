"""Routes that look around in the catalogue. They run in threads, beside model and event loop."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query

from hidvae.apps.serve.messages import (
    MAX_K,
    MAX_PAGE,
    ItemResponse,
    ItemsResponse,
    SimilarResponse,
    TagNode,
    TreeResponse,
    UsersResponse,
)
from hidvae.apps.serve.problems import described
from hidvae.apps.serve.state import Current, Server

router = APIRouter(tags=["catalogue"])

ItemId = Annotated[str, Path(description="May hold slashes.", examples=["item-00004"])]
_CODES = r"^(<[a-z]_\d{1,9}>(,<[a-z]_\d{1,9}>)*)?$"


@router.get("/items", response_model=ItemsResponse, responses=described(404, 422))
def search_items(
    snapshot: Current,
    q: Annotated[
        str,
        Query(max_length=200, description="Every word must be in title or id.", examples=["red"]),
    ] = "",
    under: Annotated[
        str | None, Query(max_length=1024, description="Only under this tag path.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items to show.")] = 20,
    offset: Annotated[
        int, Query(ge=0, le=1_000_000_000, description="Found items to leave out before.")
    ] = 0,
) -> Any:
    """Search the catalogue, most popular items first."""
    total, items = snapshot.view.search(q, under or None, limit, offset)
    return {"version": snapshot.version, "total": total, "items": items}


@router.get(
    "/items/{item_id:path}/similar", response_model=SimilarResponse, responses=described(404, 422)
)
def similar_items(
    item_id: ItemId,
    snapshot: Current,
    k: Annotated[int, Query(ge=1, le=MAX_K, description="Most items to show.")] = 10,
) -> Any:
    """Similar items: longest common prefix first, then by content."""
    items = snapshot.view.similar(snapshot.index_of(item_id), k)
    return {"version": snapshot.version, "items": items}


@router.put("/items/{item_id:path}/similar", include_in_schema=False)
@router.delete("/items/{item_id:path}/similar", include_in_schema=False)
def change_similar_items(item_id: ItemId) -> None:
    """Refuse what would else be a change of an item whose id ends with /similar."""
    raise HTTPException(405, headers={"Allow": "GET"})


@router.get("/items/{item_id:path}", response_model=ItemResponse, responses=described(404, 422))
def get_item(item_id: ItemId, snapshot: Current) -> Any:
    """Everything that the catalogue knows about an item."""
    return {"version": snapshot.version, **snapshot.view.item(snapshot.index_of(item_id))}


@router.get("/tags", response_model=TagNode)
def tag_tree(snapshot: Current) -> Any:
    """All tags with their number of items, as a tree."""
    return snapshot.view.tag_tree


@router.get("/tree", response_model=TreeResponse, responses=described(404, 422))
def tree_node(
    snapshot: Current,
    prefix: Annotated[
        str,
        Query(
            pattern=_CODES,
            max_length=400,
            description="Codes, separated by commas; empty for the root.",
            examples=["", "<a_12>,<b_3>"],
        ),
    ] = "",
    limit: Annotated[int, Query(ge=0, le=MAX_PAGE, description="Most items to show.")] = 20,
) -> Any:
    """A node of the tree of semantic IDs: the codes that can follow, and items below."""
    node = snapshot.view.node(prefix.split(",") if prefix else [], limit)
    return {"version": snapshot.version, **node}


@router.get("/users", response_model=UsersResponse, responses=described(403, 422))
def some_users(
    snapshot: Current,
    server: Server,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most users to show.")] = 20,
) -> Any:
    """Some users to try, spread evenly over the dataset, the same in every call."""
    server.require_users()
    total, users = snapshot.some_users(limit)
    return {"version": snapshot.version, "total": total, "users": users}
