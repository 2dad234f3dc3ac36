"""The application: routes, limits, and what starts and stops with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

import hidvae
from hidvae.apps.serve import routes_catalogue, routes_items, routes_recommend
from hidvae.apps.serve.guard import Guard
from hidvae.apps.serve.live_run import LiveRun
from hidvae.apps.serve.messages import StatusResponse
from hidvae.apps.serve.problems import add_handlers, described
from hidvae.apps.serve.state import Current, Server, ServerState

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
TIMEOUT_SECONDS = 10.0
WATCH_SECONDS = 2.0


def create_app(
    live: LiveRun,
    token: str | None = None,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    watch_seconds: float = WATCH_SECONDS,
    shows_users: bool = True,
    hosts: frozenset[str] | None = None,
) -> FastAPI:
    """The ASGI application of a run.

    Args:
        live: The run.
        token: Who gives it may change items; without one nobody may.
        timeout_seconds: Most time until a request is answered; changes have more.
        watch_seconds: How often to look whether the run has changed on the disk.
        shows_users: Whether ``/users`` and ``user_id`` are answered, which tell of histories.
        hosts: See ``Guard``.
    """
    server = ServerState(live, token, shows_users)
    app = app_without_run()
    app.state.server = server
    app.state.watch_seconds = watch_seconds
    app.add_middleware(Guard, metrics=server.metrics, timeout_seconds=timeout_seconds, hosts=hosts)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))
    return app


def app_without_run() -> FastAPI:
    """The routes alone: they answer nothing, but OpenAPI describes them."""
    app = FastAPI(
        title="hidvae",
        version=hidvae.__version__,
        summary="Recommendations with readable semantic IDs.",
        docs_url=None,  # its pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    add_handlers(app)
    routers = (routes_recommend.router, routes_catalogue.router, routes_items.router, operating)
    for router in routers:
        app.include_router(router)
    app.state.routes = [route for router in routers for route in router.routes]
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server: ServerState = app.state.server
    tasks = [
        asyncio.create_task(server.batcher.run()),
        asyncio.create_task(_watch(server, app.state.watch_seconds)),
    ]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.close()


async def _watch(server: ServerState, every_seconds: float) -> None:
    """Take up what changes on the disk, without end."""
    last_failure = ""
    is_new = True
    while True:
        try:
            if is_new and server.token is not None:
                await server.in_changes(server.live.load_encoders)
            is_new = False
            await asyncio.sleep(every_seconds)
            if await server.in_changes(server.live.is_outdated):
                await server.in_changes(server.live.reload)
                is_new = True
                server.metrics.reloads.labels("taken up").inc()
                logger.info("loaded the changed run, version %d", server.live.current.version)
            last_failure = ""
        except Exception as error:  # such as a training half way: the last whole run is kept
            is_new = False
            server.metrics.reloads.labels("failed").inc()
            if str(error) != last_failure:
                last_failure = str(error)
                logger.warning(
                    "the changed run cannot be used; the old one stays in use: %s", last_failure
                )


operating = APIRouter(tags=["operation"])


@operating.get("/healthz", response_model=StatusResponse)
async def is_alive(snapshot: Current) -> Any:
    """Whether the process answers at all."""
    return _status("alive", snapshot)


@operating.get("/readyz", response_model=StatusResponse, responses=described(503))
async def is_ready(snapshot: Current, server: Server) -> Any:
    """Whether further requests would be accepted."""
    server.batcher.check()
    return _status("ready", snapshot)


@operating.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(server: Server) -> Response:
    """For Prometheus."""
    return Response(server.metrics.text(), media_type=server.metrics.MEDIA_TYPE)


@operating.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """A page to look around with."""
    return FileResponse(STATIC / "index.html")


def _status(status: str, snapshot: Any) -> dict[str, Any]:
    return {"status": status, "version": snapshot.version, "num_items": snapshot.view.num_items}
