"""UDP sockets of worker slots: who gets what the kernel spreads, before and after the number of slots changes."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import pytest

from chatd.config.schema import ListenerOptions
from chatd.errors import BootError, Exit
from chatd.master.privileges import Identity
from chatd.master.udp_sockets import UdpSockets, UdpState
from chatd.master.udp_steering import BUCKETS, bucket_of

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
    assert spread(sockets, senders, [0, 1, 2]) == before, "nobody serves it yet"
    sockets.use(2)
    found, moved = before, 0
    for _ in range(BUCKETS // 4):
        found = spread(sockets, senders, [0, 1, 2])
        assert moved <= sum(slot == 2 for slot in found.values()), "a client that has moved stays"
        moved = sum(slot == 2 for slot in found.values())
        assert all(slot in (2, before[sender]) for sender, slot in found.items()), "nobody else moves"
        sockets.step()
    assert SENDERS // 6 < moved < SENDERS * 2 // 3
    sockets.avoid(2)
    left = spread(sockets, senders, [0, 1])
    assert len(left) == SENDERS
    assert all(slot == left[sender] for sender, slot in found.items() if slot != 2), "nobody else moves"
    sockets.release(2)
    assert len(spread(sockets, senders, [0, 1])) == SENDERS
    sockets.close()


def test_clients_of_a_slot_that_nobody_serves_go_to_the_others_and_come_back(senders: list[socket.socket]) -> None:
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(3, after_crash=False)
    before = spread(sockets, senders, [0, 1, 2])
    sockets.avoid(1)
    without = spread(sockets, senders, [0, 1, 2])
    assert set(without.values()) == {0, 2}
    assert all(slot == without[sender] for sender, slot in before.items() if slot != 1)
    for slot in (0, 2):
        sockets.avoid(slot)
    assert len(spread(sockets, senders, [0, 1, 2])) == SENDERS, "it waits in the sockets while nobody serves any"
    for slot in range(3):
        sockets.use(slot)
    assert spread(sockets, senders, [0, 1, 2]) == before
    sockets.close()


def test_a_successor_gets_what_its_predecessor_got(senders: list[socket.socket]) -> None:
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(2, after_crash=False)
    before = spread(sockets, senders, [0, 1])
    sockets.share(5, 0)
    assert sockets.of(5) == sockets.of(0)
    sockets.release(0)
    assert spread(sockets, senders, [5, 1]) == {sender: 5 if slot == 0 else slot for sender, slot in before.items()}
    sockets.close()


@pytest.mark.parametrize(
    ("address", "family", "where"),
    [
        ("udp://127.0.0.1:0", socket.AF_INET, "127.0.0.1"),
        ("udp://[::1]:0", socket.AF_INET6, "::1"),
        ("udp://[::]:0", socket.AF_INET, "127.0.0.1"),
        ("udp://[::]:0", socket.AF_INET6, "::1"),
    ],
)
def test_every_family_is_steered(address: str, family: socket.AddressFamily, where: str) -> None:
    """The kernel's own choice would not leave out a slot."""
    listen = ListenerOptions(protocol="mobileimsdk", address=address)
    sockets = UdpSockets([listen], None)
    sockets.bind_first(2, after_crash=False)
    sockets.avoid(0)
    ((_, left_out),), ((_, used),) = sockets.of(0), sockets.of(1)
    port = used.getsockname()[1]
    for number in range(40):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (where, port))
        assert used.recv(100) == b"hello", number
    with pytest.raises(BlockingIOError):
        left_out.recv(100)
    sockets.close()


@pytest.mark.parametrize(
    ("address", "family", "where", "number"),
    [("udp://127.0.0.1:0", socket.AF_INET, "127.0.0.1", 0x7F000001), ("udp://[::1]:0", socket.AF_INET6, "::1", 1)],
)
def test_the_kernel_computes_the_bucket_of_a_client(
    address: str, family: socket.AddressFamily, where: str, number: int
) -> None:
    listen = ListenerOptions(protocol="mobileimsdk", address=address)
    sockets = UdpSockets([listen], None)
    sockets.bind_first(3, after_crash=False)
    by_descriptor = {sock.fileno(): sock for slot in range(3) for _, sock in sockets.of(slot)}
    ((_, first),) = sockets.first()
    steering = sockets.state().steering[address]
    for _ in range(40):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", first.getsockname()[:2])
            bucket = bucket_of(number, sender.getsockname()[1], steering.seed)
        assert by_descriptor[steering.order[steering.home[bucket]]].recv(100) == b"hello"
    sockets.close()


def test_a_later_program_goes_on_in_the_same_way(senders: list[socket.socket]) -> None:
    """After an upgrade no client has moved, and a socket that nobody serves is still left out."""
    sockets = UdpSockets([LISTEN], None)
    sockets.bind_first(3, after_crash=False)
    sockets.avoid(2)
    sockets.release(0)
    before = spread(sockets, senders, [1, 2])
    state = msgspec.json.decode(msgspec.json.encode(sockets.state()), type=UdpState)
    copies = {one: os.dup(one) for one in state.descriptors()}
    replace = msgspec.structs.replace
    later = UdpSockets([LISTEN], None)
    later.resume(
        replace(
            state,
            sockets=tuple(replace(one, descriptor=copies[one.descriptor]) for one in state.sockets),
            steering={
                address: replace(one, order=tuple(copies[number] for number in one.order))
                for address, one in state.steering.items()
            },
        )
    )
    assert spread(later, senders, [1, 2]) == before
    later.use(2)
    assert set(spread(later, senders, [1, 2]).values()) == {1, 2}
    sockets.keep_only(1)
    later.close()


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
            sockets.use(1)
            for _ in range(BUCKETS):
                sockets.step()
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


# ---------------------------------------------------------------- sockets of systemd


def of_systemd(count: int, port: int = 0) -> list[socket.socket]:
    """As systemd binds ListenDatagram=127.0.0.1:PORT, written `count` times, with ReusePort=yes."""
    made: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(made[0].getsockname() if made else ("127.0.0.1", port))
        made.append(sock)
    return made


@pytest.fixture
def adopting() -> Iterator[Callable[[int, int], UdpSockets]]:
    """Sockets for a number of slots, with a number of sockets of systemd."""
    made: list[UdpSockets] = []

    def adopt(slots: int, count: int) -> UdpSockets:
        given = of_systemd(count)
        port = given[0].getsockname()[1]
        listen = ListenerOptions(protocol="mobileimsdk", address=f"udp://127.0.0.1:{port}")
        made.append(UdpSockets([listen], None))
        assert made[-1].adopt(given) == []
        made[-1].bind_first(slots, after_crash=False)
        return made[-1]

    yield adopt
    for sockets in made:
        sockets.close()


def readers(sockets: UdpSockets, senders: list[socket.socket], slots: list[int]) -> dict[int, int]:
    """Which slot reads each sender's datagram, by the sender's number."""
    for number, sender in enumerate(senders):
        sender.sendto(str(number).encode(), sockets.first()[0][1].getsockname())
    return waiting(sockets, slots)


def waiting(sockets: UdpSockets, slots: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for slot in slots:
        for _, sock in sockets.of(slot):
            with contextlib.suppress(BlockingIOError):
                while True:
                    found[int(sock.recv(100))] = slot
    return found


@pytest.mark.parametrize(("slots", "count", "having"), [(2, 2, {0, 1}), (2, 5, {0, 1}), (3, 1, {0}), (4, 2, {0, 1})])
def test_every_socket_of_systemd_is_read_by_one_slot(
    adopting: Callable[[int, int], UdpSockets], senders: list[socket.socket], slots: int, count: int, having: set[int]
) -> None:
    sockets = adopting(slots, count)
    before = readers(sockets, senders, list(range(slots)))
    assert len(before) == SENDERS, "none is lost"
    assert set(before.values()) == having
    assert readers(sockets, senders, list(range(slots))) == before, "and each sender keeps its slot"
    held = [sock for slot in range(slots) for _, sock in sockets.of(slot)]
    assert len(held) == len(set(held)) == count


def test_the_sockets_of_a_place_that_is_given_up_are_read_by_another(
    adopting: Callable[[int, int], UdpSockets], senders: list[socket.socket]
) -> None:
    sockets = adopting(2, 2)
    before = readers(sockets, senders, [0, 1])
    sockets.places = 1
    sockets.release(1)
    for number, sender in enumerate(senders):  # before anybody has been told
        sender.sendto(str(number).encode(), sockets.first()[0][1].getsockname())
    assert len(sockets.take_unread(0)) == 1
    assert waiting(sockets, [0]) == dict.fromkeys(before, 0)


def test_a_worker_that_is_added_gets_sockets_that_were_left_over(
    adopting: Callable[[int, int], UdpSockets], senders: list[socket.socket]
) -> None:
    sockets = adopting(2, 2)
    sockets.release(1)
    assert len(sockets.of(3)) == 1, "the place of the one that has gone"
    assert sockets.of(4) == ()
    assert set(readers(sockets, senders, [0, 3]).values()) == {0, 3}


def test_a_successor_has_the_same_sockets_of_systemd(adopting: Callable[[int, int], UdpSockets]) -> None:
    sockets = adopting(2, 4)
    sockets.share(7, 0)
    assert sockets.of(7) == sockets.of(0)
    sockets.release(0)
    assert sockets.take_unread(1) == (), "they still have a reader"
    assert len(sockets.of(7)) == 2


def test_what_comes_while_a_host_is_drained_waits_in_the_sockets_of_systemd(
    adopting: Callable[[int, int], UdpSockets], senders: list[socket.socket]
) -> None:
    sockets = adopting(2, 2)
    before = readers(sockets, senders, [0, 1])
    sockets.shut()
    for number, sender in enumerate(senders):
        sender.sendto(str(number).encode(), sockets.first()[0][1].getsockname())
    sockets.of(0), sockets.of(1)
    assert waiting(sockets, [0, 1]).keys() == before.keys()


def test_a_later_program_has_them_all(adopting: Callable[[int, int], UdpSockets], senders: list[socket.socket]) -> None:
    sockets = adopting(2, 3)
    sockets.release(1)
    state = sockets.state()
    copies = {number: os.dup(number) for number in set(state.descriptors())}
    moved = msgspec.structs.replace(
        state,
        sockets=tuple(msgspec.structs.replace(one, descriptor=copies[one.descriptor]) for one in state.sockets),
    )
    address = state.sockets[0].address
    later = UdpSockets([ListenerOptions(protocol="mobileimsdk", address=address)], None)
    later.resume(moved)
    later.places = 2
    assert later.given() == {address: 3}
    assert len(later.of(0)) + len(later.of(1)) == 3
    assert set(readers(later, senders, [0, 1]).values()) == {0, 1}
    later.close()


def test_sockets_at_other_addresses_are_given_back() -> None:
    (stranger,) = of_systemd(1)
    sockets = UdpSockets([LISTEN], None)
    assert sockets.adopt([stranger]) == [stranger]
    stranger.close()


def test_a_socket_of_both_families_is_that_of_0_0_0_0() -> None:
    """systemd binds ListenDatagram=PORT to [::]."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as given:
        given.bind(("::", 0))
        listen = ListenerOptions(protocol="mobileimsdk", address=f"udp://0.0.0.0:{given.getsockname()[1]}")
        sockets = UdpSockets([listen], None)
        assert sockets.adopt([given]) == []
        assert sockets.given() == {listen.address: 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_other_user_can_bind_beside_the_sockets_of_systemd() -> None:
    """Where all of them have SO_REUSEADDR, as systemd leaves them, anybody can."""
    given = of_systemd(2)
    address = given[0].getsockname()
    assert binds_beside(address)
    listen = ListenerOptions(protocol="mobileimsdk", address=f"udp://127.0.0.1:{address[1]}")
    sockets = UdpSockets([listen], None)
    sockets.adopt(given)
    assert not binds_beside(address)
    for sock in given:
        sock.close()


@pytest.mark.parametrize(
    ("given", "beside", "takes"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
    ],
)
def test_what_was_bound_beside_a_socket_of_systemd_before_the_start_refuses_it(
    given: str, beside: str, *, takes: bool
) -> None:
    """Any user can do that while chatd has never been started; the kernel then prefers that socket."""
    ours = reusing(given, 0)
    port = ours.getsockname()[1]
    intruder = reusing(beside, port)
    host = f"[{given}]" if ":" in given else given
    listen = ListenerOptions(protocol="mobileimsdk", address=f"udp://{host}:{port}")
    with ours:
        if takes:
            with pytest.raises(BootError) as refused:
                UdpSockets([listen], None).adopt([ours])
            assert f"has bound another one beside it ({beside} port {port})" in str(refused.value)
            assert pwd.getpwuid(os.geteuid()).pw_name in str(refused.value)
            assert refused.value.exit_code == Exit.OS
        else:
            assert UdpSockets([listen], None).adopt([ours]) == []
        intruder.close()
        assert UdpSockets([listen], None).adopt([ours]) == []
        with pytest.raises(OSError, match="in use"):
            reusing(given, port)


def reusing(host: str, port: int) -> socket.socket:
    """As systemd binds one without ReusePort=, and as anybody can."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def binds_beside(address: tuple[str, int]) -> bool:
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind(address)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
