"""An address of a [[listen]]: `tcp://HOST:PORT`, `udp://HOST:PORT`, `ws://HOST:PORT/PATH`, `unix:PATH`.

Owns: the meaning of that text. Binding is in master.listeners.
Fails: ValueError with what is wrong.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


class Address(NamedTuple):
    """transport: tcp, udp, ws or unix. host is without brackets; path is a ws path or a file."""

    transport: str
    host: str
    port: int
    path: str


def parse(text: str) -> Address:
    """Port 0 is allowed: the kernel chooses (trials and tests)."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("unix: needs a path")
        return Address("unix", "", 0, path)
    parts = urlsplit(text)
    if parts.scheme not in ("tcp", "udp", "ws"):
        raise ValueError(f'"{text}" is not tcp://HOST:PORT, udp://HOST:PORT, ws://HOST:PORT/PATH or unix:PATH')
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from None
    if not host or port is None:
        raise ValueError(f'"{text}" needs a host and a port')
    if parts.scheme == "ws":
        return Address("ws", host, port, parts.path or "/")
    if parts.path or parts.query:
        raise ValueError(f'"{text}" has something after the port')
    return Address(parts.scheme, host, port, "")
