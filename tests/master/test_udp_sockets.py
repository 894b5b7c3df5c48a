"""UDP sockets of worker slots: who gets what the kernel spreads, before and after the number of slots changes."""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from chatd.config.schema import ListenerOptions
from chatd.errors import BootError, Exit
from chatd.master.privileges import Identity
from chatd.master.udp_sockets import UdpSockets

LISTEN = ListenerOptions(protocol="mobileimsdk", address="udp://127.0.0.1:0")
SENDERS = 60


@pytest.fixture
def senders() -> Iterator[list[socket.socket]]:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SENDERS)]
    yield made
    for sock in made:
        sock.close()


def spread(sockets: UdpSockets, senders: list[socket.socket], slots: list[int]) -> dict[int, int]:
    """Which slot each sender's datagram comes to, by the sender's number."""
    ((_, first),) = sockets.first()
    for number, sender in enumerate(senders):
        sender.sendto(str(number).encode(), first.getsockname())
    found: dict[int, int] = {}
    for slot in slots:
        ((_, sock),) = sockets.of(slot)
        try:
            while True:
                found[int(sock.recv(100))] = slot
        except BlockingIOError:
            continue
    return found


def test_every_address_has_its_slot_and_keeps_it(senders: list[socket.socket]) -> None:
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(2, after_crash=False)
    before = spread(sockets, senders, [0, 1])
    assert len(before) == SENDERS
    assert set(Counter(before.values())) == {0, 1}
    assert spread(sockets, senders, [0, 1]) == before
    sockets.close()


def test_a_slot_given_up_gets_nothing_and_a_new_one_its_share(senders: list[socket.socket]) -> None:
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(2, after_crash=False)
    before = spread(sockets, senders, [0, 1])
    sockets.of(2)
    assert set(spread(sockets, senders, [0, 1, 2]).values()) == {0, 1, 2}
    sockets.release(2)
    assert spread(sockets, senders, [0, 1]) == before, "as if it had never been"
    sockets.close()


def test_a_worker_keeps_only_its_own(senders: list[socket.socket]) -> None:
    """What another slot's worker would keep open would go on receiving after that slot is given up."""
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(3, after_crash=False)
    sockets.keep_only(1)
    assert set(spread(sockets, senders, [1]).values()) == {1}
    sockets.close()


def test_an_address_of_another_server_is_not_shared_with_it() -> None:
    ours = UdpSockets([LISTEN], None)
    ours.bind_first(1, after_crash=False)
    ((_, sock),) = ours.first()
    same = ListenerOptions(protocol="mobileimsdk", address=f"udp://127.0.0.1:{sock.getsockname()[1]}")
    with pytest.raises(BootError, match="cannot listen") as failed:
        UdpSockets([same], None).bind_first(1, after_crash=False)
    assert failed.value.exit_code == Exit.OS
    ours.close()


def test_other_transports_are_not_its_business() -> None:
    sockets = UdpSockets([ListenerOptions(protocol="echo", address="tcp://127.0.0.1:0")], None)
    sockets.bind_first(2, after_crash=False)
    assert sockets.first() == ()
    assert sockets.of(1) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_slot_added_after_privileges_are_gone_shares_the_address(senders: list[socket.socket]) -> None:
    """Sockets of one address must have one owner; the first ones are bound by root."""
    nobody = Identity("nobody", 65534, 65534)
    sockets = UdpSockets([LISTEN], nobody)
    sockets.bind_first(1, after_crash=False)
    child = os.fork()
    if child == 0:
        os.setresuid(nobody.uid, nobody.uid, nobody.uid)
        try:
            sockets.of(1)
            os._exit(0 if set(spread(sockets, senders, [0, 1]).values()) == {0, 1} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sockets.close()


def is_refused(sender: socket.socket, where: tuple[str, int]) -> bool:
    """Whether the kernel says that nobody takes datagrams there."""
    sender.connect(where)
    sender.settimeout(2)
    sender.send(b"anybody?")
    try:
        sender.recv(1)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    return False


@pytest.mark.parametrize("address", ["udp://127.0.0.1:0", "udp://0.0.0.0:0"])
def test_shut_sockets_refuse_and_keep_the_address(address: str, senders: list[socket.socket]) -> None:
    """A client is told at once, instead of waiting for an answer from nobody; and no other server gets the address."""
    listen = ListenerOptions(protocol="mobileimsdk", address=address)
    sockets = UdpSockets([listen], None)
    sockets.bind_first(2, after_crash=False)
    ((_, first),) = sockets.first()
    port = first.getsockname()[1]
    senders[0].sendto(b"waits", ("127.0.0.1", port))
    sockets.shut()
    sockets.shut()
    assert is_refused(senders[0], ("127.0.0.1", port))
    taken = ListenerOptions(protocol="mobileimsdk", address=f"udp://127.0.0.1:{port}")
    with pytest.raises(BootError, match="cannot listen"):
        UdpSockets([taken], None).bind_first(1, after_crash=False)
    for slot in (0, 1):
        ((_, sock),) = sockets.of(slot)
        assert sock.getsockname()[1] == port
        with pytest.raises(BlockingIOError):
            sock.recv(100)
    others = senders[1:]
    assert set(spread(sockets, others, [0, 1]).values()) == {0, 1}
    sockets.close()


def test_a_port_that_cannot_be_bound_again_is_still_served(
    senders: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port below 1024, after privileges are gone: the socket that was held serves."""
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(1, after_crash=False)
    ((_, first),) = sockets.first()
    where = first.getsockname()
    sockets.shut()

    def denied(*_arguments: object) -> None:
        raise PermissionError(errno.EACCES, "permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "bind", denied)
        ((_, sock),) = sockets.of(0)
    assert sock.getsockname() == where
    senders[0].sendto(b"hello", where)
    assert sock.recv(100) == b"hello"
    sockets.close()
