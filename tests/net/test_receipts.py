"""Which bytes count as received: the settling time, and what the kernel says of TCP and Unix sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.net.receipts import SETTLE_S, Receipts, SocketState, tcp_state, unix_state, was_reset
from tests.harness.deadline import wait_until
from tests.harness.link import reset


def test_what_was_acknowledged_counts_after_the_settling_time() -> None:
    receipts = Receipts(SETTLE_S)
    assert receipts.acknowledged(100, 10.0) == 0
    assert receipts.acknowledged(150, 10.01) == 0, "counted with the next look, not forgotten"
    assert receipts.acknowledged(200, 10.0 + SETTLE_S / 2) == 0
    assert receipts.acknowledged(200, 10.0 + SETTLE_S) == 100
    assert receipts.acknowledged(250, 10.0 + SETTLE_S * 1.5) == 200
    assert receipts.acknowledged(250, 10.0 + SETTLE_S * 2.5) == 250
    assert receipts.acknowledged(250, 99.0) == 250


def test_a_client_that_is_heard_through_a_balancer_has_what_could_be_forwarded_by_then() -> None:
    receipts = Receipts(30.0, is_relayed=True)
    assert receipts.acknowledged(100, 10.0) == 0
    assert receipts.acknowledged(200, 12.0) == 0
    receipts.heard(10.0 + SETTLE_S / 2)
    assert receipts.acknowledged(200, 12.0) == 0
    receipts.heard(12.0)
    assert receipts.acknowledged(200, 12.0) == 100
    assert receipts.acknowledged(200, 41.9) == 100, "from one that says nothing, longer"
    assert receipts.acknowledged(200, 42.0) == 200


@given(st.lists(st.tuples(st.floats(0.0, 0.4), st.integers(0, 5000)), max_size=200))
def test_receipts_are_never_early_and_hold_little(steps: list[tuple[float, int]]) -> None:
    receipts, now, taken = Receipts(SETTLE_S), 0.0, 0
    history = [(0.0, 0)]
    for wait_s, more in steps:
        now, taken = now + wait_s, taken + more
        history.append((now, taken))
        at_most = max(value for at, value in history if now - at >= SETTLE_S or not value)
        assert receipts.acknowledged(taken, now) <= at_most
        assert len(receipts.samples) <= 21
    now += SETTLE_S
    receipts.acknowledged(taken, now)
    assert receipts.acknowledged(taken, now + 2 * SETTLE_S) == taken


# ---------------------------------------------------------------- what the kernel says


def tcp_pair(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """The accepted end, and the client's."""
    with socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        return listener.accept()[0], client


def state_of(sock: socket.socket) -> SocketState:
    state = tcp_state(sock)
    assert state is not None
    return state


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_tcp_counts_what_was_sent_and_nothing_else(family: socket.AddressFamily) -> None:
    """Not the handshake: a connection begins at 0."""
    here, client = tcp_pair(family)
    assert state_of(here).acknowledged == 0
    here.sendall(b"x" * 100_000)
    wait_until(5, "some is acknowledged", lambda: state_of(here).acknowledged > 0)
    assert state_of(here).acknowledged <= 100_000
    while state_of(here).acknowledged < 100_000:
        client.recv(65536)
    assert state_of(here).is_open
    here.shutdown(socket.SHUT_WR)
    wait_until(5, "FIN is acknowledged, and counts", lambda: state_of(here).acknowledged == 100_001)
    assert state_of(here).is_open
    client.close()
    here.close()


def test_tcp_says_when_bytes_last_came() -> None:
    here, client = tcp_pair()
    client.sendall(b"x")
    wait_until(5, "time has passed", lambda: state_of(here).silence_s > 0.05)
    client.sendall(b"x")
    wait_until(5, "bytes came", lambda: state_of(here).silence_s < 0.05)
    here.close()
    client.close()


def _read_and_close(client: socket.socket) -> None:
    client.recv(1000)
    client.close()


def _read_and_reset(client: socket.socket) -> None:
    client.recv(1000)
    reset(client)
    client.close()


@pytest.mark.parametrize(
    ("end", "is_reset"), [(_read_and_close, False), (_read_and_reset, True), (socket.socket.close, True)]
)
def test_a_client_that_closes_with_unread_bytes_resets(end: Callable[[socket.socket], None], is_reset: bool) -> None:
    """What the kernel had acknowledged stays counted; only the state tells that the client may not have it."""
    here, client = tcp_pair()
    here.sendall(b"x" * 100)
    wait_until(5, "it is acknowledged", lambda: state_of(here).acknowledged == 100)
    end(client)
    if is_reset:
        wait_until(5, "the reset has come", lambda: not state_of(here).is_open)
    else:
        assert here.recv(1) == b""
        assert state_of(here).is_open
    assert state_of(here).acknowledged == 100
    assert was_reset(here) is is_reset
    here.close()


def test_after_both_sides_have_closed_only_the_error_tells_a_reset() -> None:
    here, client = tcp_pair()
    here.sendall(b"x" * 100)
    here.shutdown(socket.SHUT_WR)
    wait_until(5, "all is acknowledged", lambda: state_of(here).acknowledged == 101)
    _read_and_close(client)
    assert here.recv(1) == b""
    assert not state_of(here).is_open
    assert not was_reset(here)
    here.close()


def test_what_the_kernel_does_not_say_is_not_known() -> None:
    """A closed socket, a Unix socket, and a kernel before Linux 4.1, whose struct tcp_info is shorter."""

    class OldKernel:
        def getsockopt(self, level: int, option: int, length: int) -> bytes:
            return b"\x01" * min(length, 104)

    here, client = tcp_pair()
    here.close()
    client.close()
    one, other = socket.socketpair()
    unknown: list[Any] = [here, one, OldKernel()]
    assert [tcp_state(sock) for sock in unknown] == [None, None, None]
    assert unix_state(here, 0) is None
    one.close()
    other.close()


@pytest.mark.parametrize(("reads", "closes"), [(True, True), (True, False), (False, True), (False, False)])
def test_on_a_unix_socket_what_the_peer_has_read_is_acknowledged(reads: bool, closes: bool) -> None:
    """Closed with unread bytes, the queue is as empty as after reading."""
    here, client = socket.socketpair()
    here.sendall(b"x" * 100)
    if reads:
        client.recv(1000)
    if closes:
        client.close()
    state = unix_state(here, 100)
    assert state is not None
    assert (state.acknowledged == 100 and state.is_open) is reads
    here.close()
    client.close()
