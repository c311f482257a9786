"""The HTTP servers: each process shows its own numbers, and the driver says where all of them are.

Not prometheus_client's own: start_http_server answers every path with the numbers, and its WSGI application under
wsgiref.simple_server, which would take as many lines, prints a traceback for every client that connects in silence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST

from cluster.metrics import Meter
from replay.errors import UserError


class Page(NamedTuple):
    """What is answered."""

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: int = 200


Pages = Mapping[str, Callable[[], Page]]  # path -> what it answers


def pages_of(meter: Meter) -> dict[str, Callable[[], Page]]:
    """What every process answers: its numbers, and that it is alive."""
    return {"/metrics": lambda: Page(meter.page(), CONTENT_TYPE_LATEST), "/alive": lambda: Page(b"ok\n")}


def serve(pages: Pages, host: str, port: int) -> str:
    """Starts a server on a thread -> its host:port; port 0 = any free one. Raises UserError where it is taken."""
    server = _open(pages, host, port)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return f"{host}:{server.server_port}"


def check_port(host: str, port: int) -> None:
    """Raises UserError where `serve` could not; a port below 0 is none at all."""
    if port < 0:
        return
    _open({}, host, port).server_close()


def _open(pages: Pages, host: str, port: int) -> _Server:
    try:
        return _Server((host, port), _handler(pages))
    except OSError as error:
        raise UserError(
            f"port {port} for metrics is in use ({error.strerror}): another run? choose --cluster.metrics-port 0"
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # an answer under way keeps no process alive
    # Without it the kernel would let a second run share the port of the first.
    allow_reuse_port = False


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET; says nothing to the terminal."""

        timeout = 10  # seconds that a client may be silent

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            page = make() if make else Page(f"try {' '.join(sorted(pages))}\n".encode(), status=404)
            self.send_response(page.status)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
