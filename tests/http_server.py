"""A web server on the loopback interface, for one test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    # Paths whose transfer breaks off in the middle, and where requests for others are sent on to.
    broken: frozenset[str] = frozenset()
    moved: dict[str, str] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.end_headers()
        elif self.path in self.broken:
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path, broken: frozenset[str] = frozenset(), moved: dict[str, str] | None = None) -> Iterator[str]:
    """Serve a folder; give its address.

    Args:
        folder: whose files are served.
        broken: paths of which the server sends only one half.
        moved: paths that are sent on to other addresses.
    """
    handler = type("Handler", (_Quiet,), {"broken": broken, "moved": moved or {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
