"""Follow a training in a browser: a page of its curves that draws itself anew as its logs grow."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from markupsafe import Markup

from hidvae.apps.show.figures import plotly_script
from hidvae.apps.show.formats import NOTHING, seconds
from hidvae.apps.show.page import Section, page, paragraph, table
from hidvae.apps.show.report import check_run
from hidvae.apps.show.report_sources import stages_of
from hidvae.apps.show.report_training import training_parts
from hidvae.apps.show.training_log import TRAINED_BY, log_file, read_log
from hidvae.errors import ConfigError, NotTrainedError
from hidvae.run.stages import STAGES
from hidvae.store.artifacts import MANIFEST

HOST = "127.0.0.1"
_VERSION = "/version"
_ASK = """
const version = %s;
setInterval(async () => {
  const answer = await fetch("%s").catch(() => null);
  if (answer && answer.ok && await answer.text() !== version) location.reload();
}, 2000);
"""

logger = logging.getLogger(__name__)


def follow(run: Path, port: int) -> None:
    """Serve the live page of a run on this machine alone, until Ctrl-C.

    Args:
        run: Folder of a run, or what will become one.
        port: Where; 0 takes a free one.

    Raises:
        NotTrainedError: If there is no run.
        ConfigError: If the port cannot be had.
    """
    server = start_server(run, port)
    with server:
        logger.info("following %s on http://%s:%d/ until Ctrl-C", run, HOST, server.server_port)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("stopped; the training itself continues")


def start_server(run: Path, port: int) -> ThreadingHTTPServer:
    """A server of the live page that listens, but does not answer before ``serve_forever``."""
    check_run(run)
    script = plotly_script()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802, the name that the library calls
            if self.path == "/":
                self._answer(live_page(run, script), "text/html")
            elif self.path == _VERSION:
                self._answer(version_of(run), "text/plain")
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, text: str, kind: str) -> None:
            content = text.encode()
            with contextlib.suppress(ConnectionError):  # the page was closed or asks anew
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a page asks every two seconds."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"port {port} cannot be used on {HOST} ({error}); choose another with --port"
        ) from error


def live_page(run: Path, script: str) -> str:
    """Where the run is, and the curves of its trainings so far.

    Args:
        run: Folder.
        script: Plotly's.
    """
    version = version_of(run)  # first: what changes from here on makes the page ask again
    sections = [
        Section("Stages", list(_stages(run))),
        Section("Training", list(training_parts(run))),
    ]
    ask = _ASK % (json.dumps(version), _VERSION)
    introduction = [paragraph("Drawn anew whenever an epoch or a stage ends.")]
    title = f"Run {run.resolve().name}"
    return page(title, introduction, sections, script + ask, may_ask_its_server=True)


def version_of(run: Path) -> str:
    """Another text whenever the live page would be another one."""
    watched = [log_file(run, stage) for stage in TRAINED_BY]
    watched += [run / stage.name / MANIFEST for stage in STAGES]
    return " ".join(_changed_at(file) for file in watched)


def _stages(run: Path) -> Iterator[Markup]:
    made = stages_of(run)
    rows = []
    for stage in STAGES:
        name = stage.name
        state = f"took {seconds(made[name].wall_seconds)}" if name in made else NOTHING
        if name in TRAINED_BY:
            with contextlib.suppress(NotTrainedError):
                log = read_log(run, name)
                last = log.rows.row(-1, named=True)
                if log.is_running:
                    state = f"in training: epoch {last['epoch']}, {seconds(last['seconds'])}"
        rows.append((name, state))
    yield table(rows)


def _changed_at(file: Path) -> str:
    try:
        return str(file.stat().st_mtime_ns)
    except FileNotFoundError:
        return "-"
