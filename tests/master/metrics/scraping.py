"""Asking a server for its metrics and its health, as monitors and attackers do.

Owns: requests over HTTP, and reading the text format by the parser of prometheus-client.
Elsewhere: a daemon (tests.harness.daemon).
"""

from __future__ import annotations

import http.client
import socket
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families


class Page(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def get(port: int, path: str, method: str = "GET", **headers: str) -> Page:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Page(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def samples(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(get(port, "/metrics").body)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def total(port: int, name: str, **labels: str) -> float:
    """The sum of the samples with this name and these labels."""
    wanted = set(labels.items())
    return sum(value for (found, has), value in samples(port).items() if found == name and wanted <= set(has))


def raw(port: int, data: bytes, limit_s: float = 10.0) -> bytes:
    """All that is answered to these bytes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), limit_s) as client:
        client.sendall(data)
        return rest_of(client)


def rest_of(client: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            data = client.recv(65536)
        except ConnectionResetError:
            return found
        if not data:
            return found
        found += data
