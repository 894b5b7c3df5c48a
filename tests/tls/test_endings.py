"""How connections with TLS end: as those without it do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.errors import Disconnect
from chatd.net.websocket.frames import CloseCode
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, wait_until
from tests.harness.person import Town
from tests.harness.websocket import WebPeer
from tests.tls.test_listeners import connect

Make = Callable[..., Daemon]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path / "certificate")


def test_a_client_that_does_not_read_is_cut(make_daemon: Make, certificate: Certificate) -> None:
    """It cannot make the server hold more than it may: reading stops while it does not read, and then it is cut."""
    daemon = make_daemon(certificate=certificate, timeouts={"stall_s": 1.0}).start()
    with connect(daemon, "echo-tls", certificate.client()) as peer:
        peer.settimeout(0.2)
        with pytest.raises(OSError, match=r"reset|Broken|EOF|closed|violation"):
            write_until_it_fails(peer)
    wait_until(5, "it is logged", lambda: daemon.logged(Disconnect.SLOW_CONSUMER.text))


def write_until_it_fails(peer: ssl.SSLSocket) -> None:
    """Without reading, for at most 15 s and 64 MiB."""
    line, sent, ends = b"x" * 1000 + b"\n", 0, time.monotonic() + 15
    while time.monotonic() < ends and sent < 64 * 1024 * 1024:
        with contextlib.suppress(TimeoutError):  # neither side reads: the server must notice
            sent += peer.send(line)


def test_a_stop_tells_why_before_the_end(make_daemon: Make, certificate: Certificate) -> None:
    """A wss:// client is told with the close code, a client in the middle of its handshake is closed too."""
    daemon = make_daemon(certificate=certificate, timeouts={"drain_s": 5.0, "drain_spread_s": 0.2}).start()

    async def story() -> int:
        town = Town(daemon)
        name = await town.newcomer()
        peer = WebPeer()
        peer.tls = certificate.client()
        await peer.open(daemon.ports["mobileimsdk-wss"])
        await peer.log_in(name, town.secret)
        with socket.create_connection(("127.0.0.1", daemon.ports["echo-tls"]), 10) as half_open:
            assert await asyncio.to_thread(daemon.stop) == 0
            assert half_open.recv(100) == b""
        await peer.end()
        return peer.close_code

    assert run(story(), 40) == CloseCode.SERVICE_RESTART
