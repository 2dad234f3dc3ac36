"""What Prometheus may ask for."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters and gauges of one server."""

    MEDIA_TYPE = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "hidvae_requests", "Requests.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "hidvae_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._batch_size = Histogram(
            "hidvae_batch_size", "Histories searched together.", registry=registry, buckets=_SIZES
        )
        self._search_seconds = Histogram(
            "hidvae_search_seconds", "Of one batch.", registry=registry, buckets=_SECONDS
        )
        self.fallbacks = Counter(
            "hidvae_fallbacks", "Lists of popular items, for want of a history.", registry=registry
        )
        self.unknown_items = Counter(
            "hidvae_unknown_items", "Items of histories that were ignored.", registry=registry
        )
        self.reloads = Counter(
            "hidvae_reloads", "Changes of the run taken up.", ["outcome"], registry=registry
        )

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show a number that is looked up when asked for."""
        Gauge(f"hidvae_{name}", what, registry=self._registry).set_function(value)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request; status 0 where the client left before the answer."""
        self._requests.labels(method if method in _METHODS else "other", route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count_batch(self, size: int, seconds: float) -> None:
        """One search."""
        self._batch_size.observe(size)
        self._search_seconds.observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
