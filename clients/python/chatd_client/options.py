"""What a program may choose about its client.

Owns: Options and Secret.
Elsewhere: times (timing).
Fails: never.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from chatd_client.timing import Timing

Secret = str | Callable[[], Awaitable[str]]
"""A password or token, or a coroutine function that gets one for each login: tokens expire."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """All have defaults that suit a bot."""

    journal: Path | str | None = None
    """File in which the client remembers what was taken and what is not yet acknowledged, over restarts; one per user
    and server. None = only as long as the program runs."""
    ca: str = ""
    """PEM file of the certificates that may have signed the server's; "" = those of this system."""
    tls: ssl.SSLContext | None = None
    """In place of the default, which verifies the server; for client certificates, for example."""
    http: str = ""
    """Where the server's files are, such as https://chat.example.org; "" = what the server says, or the host of its
    WebSocket."""
    features: tuple[str, ...] = ("seq", "typing")
    """What is asked of chatd at the login. Without "seq", messages have no numbers."""
    extra: Mapping[str, object] = {}
    """Further members of `extra` in the login, for plug-ins of the server."""
    inbox_messages: int = 4096
    """Maximum messages that wait to be taken. A server gives fewer than this (limits.in_flight, 512 by default) before
    it waits for acknowledgements; if one does not, the client disconnects until half of them are taken."""
    feed_events: int = 1000
    """Maximum events that wait to be read; with more, the oldest are dropped."""
    timing: Timing = Timing()
