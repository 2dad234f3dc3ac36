"""What the routes of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException, Request

from hidvae.apps.serve.batching import Batcher
from hidvae.apps.serve.counters import Metrics
from hidvae.apps.serve.live_run import LiveRun, Snapshot

T = TypeVar("T")


@dataclass(eq=False)
class ServerState:
    """The run, and who works on it: one thread searches, one changes the run, others look up."""

    live: LiveRun
    token: str | None
    """Who gives it may change items; without one nobody may."""
    shows_users: bool = True
    """Whether the users of the dataset and their histories may be asked for."""
    metrics: Metrics = field(default_factory=Metrics)
    model_thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="model")
    )

    changes_thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="changes")
    )

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.model_thread, on_batch=self.metrics.count_batch)
        self.metrics.watch("waiting", "Histories that wait.", lambda: self.batcher.num_waiting)
        self.metrics.watch("version", "Of the catalogue.", lambda: self.live.current.version)
        self.metrics.watch("items", "Of the catalogue.", lambda: self.live.current.view.num_items)

    def require_users(self) -> None:
        """Refuse a request that tells of the dataset's users.

        Raises:
            HTTPException: Of status 403, if they are not shown.
        """
        if not self.shows_users:
            raise HTTPException(
                403,
                "this server does not show the users of the dataset; give a history of item ids, "
                "or start it with --users",
            )

    async def in_changes(self, call: Callable[..., T], *args: Any) -> T:
        """Call in the thread that changes the run, after what it has to do already."""
        return await asyncio.get_running_loop().run_in_executor(self.changes_thread, call, *args)

    async def in_background(self, call: Callable[..., T], *args: Any) -> T:
        """Call in another thread, beside model and changes."""
        return await asyncio.to_thread(call, *args)

    def close(self) -> None:
        """Wait for what the threads still do."""
        self.model_thread.shutdown()
        self.changes_thread.shutdown()


async def _server(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


async def _current(request: Request) -> Snapshot:
    state: ServerState = request.app.state.server
    return state.live.current


async def _deadline(request: Request) -> float:
    deadline: float = request.scope["deadline"]
    return deadline


Server = Annotated[ServerState, Depends(_server)]
Deadline = Annotated[float, Depends(_deadline)]
"""Of ``time.monotonic()``, after which nobody waits for the answer."""
Current = Annotated[Snapshot, Depends(_current)]
"""The snapshot that a request works on from its beginning to its end."""
