"""An application's backend on this host: it answers logins and publishes its key set, as a test says.

Owns: Backend, a real HTTP server in a thread of its own.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.daemon import free_port


class Backend:
    """login: what it answers to a login (status and body). key_set: what it publishes; delay_s: how late both come.
    asked: the bodies of logins, with the header Authorization. It can be stopped, and started again at its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.login: tuple[int, bytes] = 200, b'{"allow":false}'
        self.key_set: tuple[int, bytes] = 200, b'{"keys":[]}'
        self.delay_s = 0.0
        self.asked: list[tuple[dict[str, Any], str]] = []
        self.fetched = 0
        self._server: ThreadingHTTPServer | None = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self) -> Backend:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.asked.append((json.loads(body), self.headers.get("Authorization", "")))
                time.sleep(backend.delay_s)
                self._answer(*backend.login)

            def do_GET(self) -> None:
                backend.fetched += 1
                time.sleep(backend.delay_s)
                self._answer(*backend.key_set)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 302:
                    self.send_header("Location", backend.url("/elsewhere"))
                with contextlib.suppress(ConnectionError):  # whoever asked did not wait so long
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
