"""The HTTP API of a daemon, as an application's backend uses it.

Owns: one connection that is kept, a key, and answers as data.
Elsewhere: what the answers must be (tests.http). Fails: as http.client.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from chatd.config.load import load
from chatd.errors import ErrorCode
from chatd.store.open import configured, open_tables
from tests.harness.daemon import Daemon

LIMIT_S = 20.0


class Answer(NamedTuple):
    """body: as data if it is JSON, or bytes; None = there is none. headers: names in lower case."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> ErrorCode:
        """Of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        return ErrorCode(self.body["code"])


def make_keys(daemon: Daemon, **scopes: str) -> dict[str, str]:
    """Before the daemon is started, so that every worker knows them from its first moment: one key for each name, with
    these scopes (separated by commas). Makes the store if it is missing."""
    (daemon.root / daemon.config["server"]["state_dir"]).mkdir(mode=0o700, exist_ok=True)
    open_tables(configured(load(str(daemon.config_file)).config), 10.0, create=True).close()
    keys = {}
    for name, which in scopes.items():
        code, out, err = daemon.ctl_said("key", "add", name, "--scope", which)
        assert code == 0, err
        keys[name] = out.split()[-1]
    return keys


class Api:
    """key: "" = none is sent."""

    def __init__(self, port: int, key: str = "", host: str = "127.0.0.1") -> None:
        self.port, self.key = port, key
        self._connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)

    def close(self) -> None:
        self._connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        repeat: str = "",
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """body: sent as JSON. raw: in its place. repeat: the Idempotency-Key. query: of the URL."""
        sent = dict(headers or {})
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        if repeat:
            sent["Idempotency-Key"] = repeat
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if query:
            path = f"{path}?{urlencode(query)}"
        for attempt in (0, 1):
            try:
                self._connection.request(method, path, data, sent)
                response = self._connection.getresponse()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()  # kept for too long: it may be made again
                if attempt:
                    raise
        content = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        if content and "json" in found.get("content-type", ""):
            return Answer(response.status, found, json.loads(content))
        return Answer(response.status, found, content or None)

    def get(self, path: str, **query: Any) -> Answer:
        return self.call("GET", path, **query)

    def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PUT", path, {} if body is None else body, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("POST", path, {} if body is None else body, **more)

    def patch(self, path: str, body: Any, **more: Any) -> Answer:
        return self.call("PATCH", path, body, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self.call("DELETE", path, **more)


def path_of(*parts: str | int) -> str:
    """/v1/ and the parts, each percent-encoded as a whole."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)
