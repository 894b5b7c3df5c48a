"""A whole daemon behind a load balancer: the address of a client, and connections that send no header, send it slowly
or send garbage."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from chatd.config import load as config_load
from chatd.errors import ConfigError, Disconnect, ErrorCode
from chatd.net.receipts import SETTLE_S
from tests.faults.conftest import _many_sockets  # noqa: F401
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.link import reset
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import NulPeer, Peer
from tests.harness.websocket import WebPeer
from tests.net.proxy_headers import LOCAL, SIGNATURE, Headed, v1, v2

OPEN = {"login": "open", "insecure_open_login": True}
WIRES = ("chatserver", "mobileimsdk", "mobileimsdk-ws")
CLIENT = "203.0.113.77"


class HeadedNul(Headed, NulPeer):
    pass


class HeadedMobile(Headed, MobilePeer):
    pass


class HeadedWeb(Headed, WebPeer):  # type: ignore[misc]
    pass


HEADED: dict[str, Callable[[], Any]] = {
    "chatserver": HeadedNul,
    "mobileimsdk": HeadedMobile,
    "mobileimsdk-ws": HeadedWeb,
}
PLAIN: dict[str, Callable[[], Any]] = {"chatserver": NulPeer, "mobileimsdk": MobilePeer, "mobileimsdk-ws": WebPeer}

Make = Callable[..., Daemon]


def behind(
    make_daemon: Make,
    networks: tuple[str, ...] = ("127.0.0.0/8", "::1"),
    proxy_delivered_s: float = SETTLE_S,
    **tables: Any,
) -> Daemon:
    """A daemon whose balancer is this host; `echo` is for clients that come directly."""
    listener = {"proxy_from": list(networks), "proxy_delivered_s": proxy_delivered_s}
    listen = dict.fromkeys(WIRES, listener)
    tables["accounts"] = OPEN
    tables["log"] = {"level": "DEBUG"}
    return make_daemon(listen=listen, **tables).start()


async def log_in(peer: Any, name: str) -> None:
    if isinstance(peer, NulPeer):
        peer.put({"msgid": 1, "name": name, "password": "any", "framing": "nul"})
        assert (await peer.find(msgid=2))["errno"] == 0
    else:
        await peer.log_in(name, "any")


def warnings(daemon: Daemon) -> list[str]:
    return [json.dumps(record) for record in daemon.records() if record["level"] not in ("DEBUG", "NORMAL")]


def count(daemon: Daemon) -> int:
    return sum(row["connections"] for row in daemon.status()["workers"])


# ---------------------------------------------------------------- who it is


@pytest.mark.parametrize("in_pieces", [False, True], ids=["together", "in pieces"])
def test_a_client_is_who_the_balancer_says(make_daemon: Make, in_pieces: bool) -> None:
    """Header and first bytes come in one segment, or the header byte by byte: nothing is lost, and the address is the
    client's wherever one is told."""
    daemon = behind(make_daemon)
    heads = {
        "v1": (v1(CLIENT, 1001), f"{CLIENT}:1001"),
        "v2": (v2(CLIENT, 1002, b"\x04\0\x03abc"), f"{CLIENT}:1002"),
        "v6": (v2("2001:db8::9", 1003), "[2001:db8::9]:1003"),
        "local": (LOCAL, "127.0.0.1:"),
        "unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1:"),
    }

    async def story() -> None:
        for wire in WIRES:
            for kind, (head, remote) in heads.items():
                peer = HEADED[wire]()
                peer.head, peer.in_pieces = head, in_pieces
                await peer.open(daemon.ports[wire])
                await log_in(peer, f"{kind}_{wire}")
                (record,) = [one for one in daemon.logged(f'"{kind}_{wire}"') if one["event"] == "logged in"]
                assert record["peer"].startswith(remote), record
                if wire != "chatserver":
                    assert await listed(peer, f"{kind}_{wire}") == record["peer"]
                peer.close()
        await until(10, "everybody has left", lambda: len(daemon.logged("disconnected")) >= len(WIRES) * len(heads))

    run(story())
    assert warnings(daemon) == []
    gone = {record["peer"] for record in daemon.logged("disconnected")}
    assert {f"{CLIENT}:1001", f"{CLIENT}:1002", "[2001:db8::9]:1003"} <= gone


async def listed(peer: MobilePeer, name: str) -> str:
    """The address the user is shown of this session."""
    peer.say(name, "0", json.dumps({"op": "session.list", "ref": "1"}), f"list {name}")
    told = content(await peer.find(type=2))
    (session,) = told["result"]["sessions"]
    return str(session["peer"])


def test_from_anybody_else_nothing_is_parsed(make_daemon: Make) -> None:
    """A header is then what its bytes are on that wire: garbage. And without one, a client is served as usual."""
    daemon = behind(make_daemon, ("192.0.2.1", "2001:db8::/32"))

    async def story() -> None:
        for wire in WIRES:
            honest = PLAIN[wire]()
            await honest.open(daemon.ports[wire])
            await log_in(honest, f"honest_{wire}")
            honest.close()

    run(story())
    for wire, refusal in (("chatserver", b'"msgid":12'), ("mobileimsdk", b'"type":52'), ("mobileimsdk-ws", b" 400 ")):
        for head in (v1(CLIENT, 1001), v2(CLIENT, 1001)):
            with socket.create_connection(("127.0.0.1", daemon.ports[wire]), 10) as liar:
                liar.sendall(head + b"\r\n\r\n\0")
                assert refusal in liar.recv(1000), "garbage, and told so as on a daemon without balancers"
    assert daemon.logged(CLIENT) == []
    assert len([one for one in daemon.logged("honest_") if one["event"] == "logged in"]) == len(WIRES)


# ---------------------------------------------------------------- what counts as delivered


@pytest.mark.parametrize("writes", [True, False], ids=["writes", "is silent"])
def test_who_writes_has_what_it_was_given(make_daemon: Make, writes: bool) -> None:
    """With a long proxy_delivered_s: a client that only listens is given everything again when it comes again, one that
    wrote something later than it was given a message is not."""
    daemon = behind(make_daemon, proxy_delivered_s=60.0)

    async def enter(name: str) -> tuple[HeadedNul, list[str]]:
        """And what it was given with the login."""
        peer = HeadedNul()
        peer.head = v1(CLIENT, 1001)
        await peer.open(daemon.ports["chatserver"])
        peer.put({"msgid": 1, "name": name, "password": "any", "framing": "nul"})
        answer = await peer.find(msgid=2)
        assert answer["errno"] == 0, answer
        return peer, [json.loads(text)["msg"] for text in answer.get("offlinemsg", [])]

    async def leave(peer: HeadedNul) -> None:
        assert peer.transport is not None
        peer.transport.write_eof()
        await peer.end()

    async def story() -> None:
        alice, _ = await enter("alice")
        bob, _ = await enter("bob")
        bob.put({"msgid": 6, "toname": "alice", "msg": "one", "fp": "1"})
        await alice.find(msgid=6, msg="one")
        for _ in range(5):
            if writes:
                for _ in range(8):
                    alice.put({"msgid": 4711})
                    await asyncio.sleep(0.2)  # the pace of writing
            await leave(alice)
            alice, again = await enter("alice")
            if writes and not again:
                return
            assert again == ["one"]
        assert not writes, "it wrote five times, and was given it again"

    run(story())


# ---------------------------------------------------------------- who says nonsense, or nothing


@pytest.mark.parametrize(
    "first", [b'{"msgid":1}\0', b"\0\0\0\1x", b"GET /websocket HTTP/1.1\r\n\r\n", SIGNATURE + b"\x31"]
)
def test_without_a_header_the_balancer_is_refused(make_daemon: Make, first: bytes) -> None:
    """Not a byte is answered; the operator is told which address, and what is wrong."""
    daemon = behind(make_daemon)
    for wire in WIRES:
        with socket.create_connection(("127.0.0.1", daemon.ports[wire]), 10) as peer:
            peer.sendall(first + b"\0" * 4)
            assert ends_with(peer) == b""
    told = daemon.logged("connection without a valid PROXY header")
    assert len(told) == len(WIRES)
    assert all(record["level"] == "WARNING" and record["peer"].startswith("127.0.0.1:") for record in told)


def ends_with(peer: socket.socket) -> bytes:
    """What came before the other side ended the connection."""
    try:
        return peer.recv(1000)
    except ConnectionResetError:
        return b""


def test_health_checks_are_quiet(make_daemon: Make) -> None:
    """A check that connects and leaves, in every manner checks have: nothing worth a warning, and nothing kept."""
    daemon = behind(make_daemon)
    before = count(daemon)
    for wire in WIRES:
        for head in (b"", LOCAL, SIGNATURE + b"\x21\0\0\0", v1(CLIENT, 1), v2(CLIENT, 1), b"PROXY UNKNOWN\r\n", b"PRO"):
            for leave in (socket.socket.close, abort, half_close):
                peer = socket.create_connection(("127.0.0.1", daemon.ports[wire]), 10)
                peer.sendall(head)
                leave(peer)
                peer.close()

    async def gone() -> None:
        await until(10, "all are gone", lambda: count(daemon) <= before, 0.1)

    run(gone())
    assert warnings(daemon) == []


def abort(peer: socket.socket) -> None:
    reset(peer)
    peer.close()


def half_close(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)
    peer.settimeout(10)
    ends_with(peer)


@pytest.mark.parametrize("strangers", [2000, pytest.param(8000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_thousands_whose_header_never_ends_are_cut(make_daemon: Make, strangers: int) -> None:
    """From a balancer's address: silent, or a byte now and then of a header as long as may be. All are cut when a
    login would be due, on every wire, and hold little meanwhile; a proper client is served."""
    login_s = 4.0
    daemon = behind(make_daemon, workers=2, timeouts={"login_s": login_s})
    many = HEADED["chatserver"]
    long_head = v2(CLIENT, 1, b"\0" * 2000)

    async def story() -> None:
        before = memory(daemon)
        peers: list[Peer] = []
        for number in range(strangers):
            peer: Peer = NulPeer()
            await peer.open(daemon.ports[WIRES[number % 3]])
            peers.append(peer)
        there_at = time.monotonic()
        held = memory(daemon) - before
        assert held < strangers * 50_000, f"{held} bytes for {strangers} strangers"
        sent = 0
        while not all(peer.gone.is_set() for peer in peers):
            assert time.monotonic() - there_at < login_s + 6, "still there long after the deadline"
            for peer in peers[::2]:
                peer.write(long_head[sent : sent + 20])
            sent += 20
            if sent == 20:
                client = many()
                client.head = v1(CLIENT, 5)
                await client.open(daemon.ports["chatserver"])
                await log_in(client, "alice")
            await asyncio.sleep(0.25)  # the pace of the drops
        client.put({"msgid": 4711})
        assert (await client.find(msgid=12))["errno"] == ErrorCode.UNKNOWN_REQUEST

    run(story(), 100)
    held_back = daemon.status()["totals"]["log_held_back"]
    assert len(daemon.logged(Disconnect.LOGIN_TIMEOUT.text)) + held_back >= strangers * 0.6
    assert warnings(daemon) == []


def memory(daemon: Daemon) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in daemon.workers())


def test_on_a_wire_without_login_a_header_is_due_all_the_same(make_daemon: Make) -> None:
    daemon = make_daemon(timeouts={"login_s": 1.0}).start()
    (echo,) = [one for one in daemon.config["listen"] if one["protocol"] == "echo"]
    daemon.stop()
    echo["proxy_from"] = ["127.0.0.1"]
    daemon.write_config()
    daemon.launch()

    async def story() -> None:
        await until(20, "it serves", lambda: daemon.answers("chatserver"))
        silent, client = NulPeer(), HeadedNul()
        await silent.open(daemon.ports["echo"])
        client.head = v2(CLIENT, 1)
        await client.open(daemon.ports["echo"])
        client.split = lambda data: [b'"' + data + b'"']  # type: ignore[method-assign]
        client.decode = lambda body: {"said": body.decode()}  # type: ignore[method-assign]
        client.write(b"hello\n")
        assert "hello" in (await client.take())["said"]
        await silent.end(12)
        assert not client.gone.is_set()

    run(story())


# ---------------------------------------------------------------- room, leaving, configuration


def test_when_there_is_no_room_the_client_hears_it(make_daemon: Make) -> None:
    """The header is taken off first, or the refusal would be lost in a reset."""
    daemon = behind(make_daemon, limits={"connections": 5})

    async def story() -> None:
        kept = []
        for number in range(12):
            peer = HeadedNul()
            peer.head = v1(f"192.0.2.{number + 1}", 1000)  # nobody has more connections than the next one
            await peer.open(daemon.ports["chatserver"])
            peer.put({"msgid": 4711})
            kept.append((await peer.take())["errno"])
        assert set(kept) == {ErrorCode.UNKNOWN_REQUEST, ErrorCode.BUSY}
        assert kept == sorted(kept, key=lambda code: code == ErrorCode.BUSY)

    run(story())


def test_who_is_not_introduced_yet_does_not_hold_up_a_stop(make_daemon: Make) -> None:
    daemon = behind(make_daemon, timeouts={"drain_s": 25.0, "drain_spread_s": 0.5})
    peers = [socket.create_connection(("127.0.0.1", daemon.ports[wire]), 10) for wire in WIRES]
    peers[0].sendall(b"PROXY TCP4")

    async def all_there() -> None:
        await until(10, "all are there", lambda: count(daemon) >= len(peers), 0.1)

    run(all_there())
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 20, "only the end of the time ended it"
    for peer in peers:
        peer.close()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("address = 'tcp://h:1'\nproxy_from = ['haproxy1']", "'haproxy1' does not appear to be"),
        ("address = 'tcp://h:1'\nproxy_from = ['::1', '10.0.0.1/8']", "10.0.0.1/8 has host bits set"),
        ("address = 'udp://h:1'\nproxy_from = ['10.0.0.1']", "is not for"),
        ("address = 'unix:x'\nproxy_from = ['10.0.0.1']", "is not for"),
    ],
)
def test_what_cannot_be_a_balancer_is_told(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "chatd.toml"
    file.write_text(f"[[listen]]\nprotocol = 'mobileimsdk'\n{text}")
    with pytest.raises(ConfigError, match=r"listen\[0\]\.proxy_from: .*") as caught:
        config_load.load(file)
    assert what in str(caught.value)
