"""The benchmark's own pieces are right: the generator counts what arrives, and notices what does not.

The servers here are bench/ideal, small lying ones, and a chatd for what the others cannot do; how fast it is, is
`make bench`'s matter.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import load  # noqa: E402
import servers  # noqa: E402

pytestmark = pytest.mark.xdist_group("bench")
"""They share the compiled programs."""

REFUSE = -1


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = servers.BUILD, load.BUILD
    servers.BUILD = load.BUILD = tmp_path_factory.mktemp("build")
    servers.build()
    yield
    servers.BUILD, load.BUILD = before


@pytest.fixture
def ideal(built: None) -> Iterator[servers.Ideal]:
    server = servers.Ideal()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_window_delivers_and_loses_nothing(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--window", "4", "--seconds", "0.5", "--warm", "0.2", users=20)
    assert one.delivered > 100
    assert one.sent >= one.delivered
    assert 0 < one.p50_us <= one.p99_us
    assert not any(one.wrong.values())


def test_a_rate_is_kept(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--rate", "2000", "--seconds", "1", "--warm", "0.2", users=20)
    assert 1900 <= one.per_s <= 2100


@pytest.mark.slow
def test_pairs_across_workers_are_mutual_and_counted(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--window", "1", "--seconds", "0.3", "--warm", "0.1", users=20, cross=True)
    assert one.crossed == 0.0, "ideal has one process"
    partners, crossed = load.pairs([1, 2, 3, 4], {1: 70, 2: 70, 3: 71, 4: 70})
    assert [partners[partner] for partner in partners] == [0, 1, 2, 3]
    assert crossed == 0.5


def test_holders_names_the_process_at_the_other_end(ideal: servers.Ideal) -> None:
    with socket.create_connection(("127.0.0.1", ideal.ports["mobileimsdk"])) as client:
        frame = b'{"type":0,"from":"a"}'
        client.sendall(len(frame).to_bytes(4, "big") + frame)
        assert client.recv(1000)
        assert ideal.holders("mobileimsdk") == {client.getsockname()[1]: ideal.process.pid}


@pytest.mark.slow
def test_idle_users_are_counted_in_memory(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--idle", "--seconds", "0.1", users=500)
    assert 0.1 < one.idle_kb < 10


@pytest.mark.parametrize(
    ("copies", "complaint"),
    [
        (lambda number: 0 if number % 2 else 1, "lost"),
        (lambda number: 2, "repeated"),
        pytest.param(lambda number: REFUSE if number % 2 else 1, "refused", marks=pytest.mark.slow),
    ],
    ids=["every second message swallowed", "every message twice", "every second message refused"],
)
def test_a_server_that_loses_doubles_or_refuses_is_found_out(built: None, copies, complaint: str) -> None:  # type: ignore[no-untyped-def]
    """A chatserver that treats the n-th message of a connection as `copies(n)` says."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve_two, args=(listener, copies), daemon=True)
    thread.start()
    command = [servers.BUILD / "loadgen", "--wire", "chatserver", "--port", str(listener.getsockname()[1])]
    command += ["--users", "2", "--rate", "100", "--warm", "0", "--seconds", "0.5"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    end = json.loads(answer.stdout.splitlines()[-1])
    assert end["phase"] == "end"
    figures = {name: end[name] for name in ("lost", "repeated", "refused")}
    assert [name for name, count in figures.items() if count] == [complaint], "one complaint, and the right one"
    thread.join(10)
    listener.close()


def _serve_two(listener: socket.socket, copies) -> None:  # type: ignore[no-untyped-def]
    clients = [listener.accept()[0], listener.accept()[0]]
    threads = [threading.Thread(target=_relay, args=(clients[i], clients[1 - i], copies)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()


def _relay(source: socket.socket, target: socket.socket, copies) -> None:  # type: ignore[no-untyped-def]
    pending, number = b"", 0
    while data := source.recv(65536):
        *frames, pending = (pending + data).split(b"\0")
        for frame in frames:
            if b'"msgid":1,' in frame:
                source.sendall(b'{"msgid":2,"errno":0}\0')
            else:
                if copies(number) == REFUSE:
                    source.sendall(frame.replace(b'"msgid":6', b'"msgid":12') + b"\0")
                else:
                    target.sendall((frame + b"\0") * copies(number))
                number += 1


@pytest.fixture(scope="module")
def chatd(built: None) -> Iterator[servers.Chatd]:
    server = servers.Chatd(1)
    yield server
    server.stop()


@pytest.mark.parametrize("qos", ["true", "false"])
def test_every_member_gets_a_copy_of_every_message(chatd: servers.Chatd, qos: str) -> None:
    group = load.Group(chatd, users=10)
    for _ in ("made", "known already"):
        one = group.run("--window", "2", "--qos", qos, "--warm", "0", "--seconds", "0.5")
        assert one.sent > 10
        assert 9 * one.sent * 0.5 < one.delivered <= 9 * one.sent
        assert 0 < one.p50_us <= one.p99_us
        assert 0 < one.generator_busy < 1
        assert 0 < one.per_read < 10
        assert not any(one.wrong.values())


@pytest.mark.slow
def test_a_group_hears_a_fixed_rate(chatd: servers.Chatd) -> None:
    one = load.Group(chatd, users=10).run("--rate", "100", "--warm", "0.2", "--seconds", "1")
    assert 0.6 * 900 <= one.per_s <= 1.4 * 900


@pytest.mark.slow
def test_a_storm_of_logins_beside_others(chatd: servers.Chatd) -> None:
    storm = load.Storm(chatd, users=100, seconds=1.0)
    for _ in ("first", "repeated"):
        one = storm.blow(rate=500)
        assert 250 <= one.per_s <= 750
        assert 50 <= one.logins_per_s <= 110
        assert one.p50_us > 0
        assert one.login_p99_us > 0
        assert not any(one.wrong.values())
        assert chatd.connections("mobileimsdk") == 0


@pytest.mark.parametrize(
    ("copies", "complaint"),
    [
        (lambda number, member: int((number, member) != (3, 2)), "lost"),
        (lambda number, member: 1 + ((number, member) == (3, 2)), "repeated"),
        (lambda number, member: REFUSE if number == 3 else 1, "refused"),
    ],
    ids=["one copy swallowed", "one copy twice", "one message refused"],
)
def test_a_group_that_loses_doubles_or_refuses_is_found_out(built: None, copies, complaint: str) -> None:  # type: ignore[no-untyped-def]
    """A mobileimsdk server that gives a member `copies(n, member)` of the n-th message to its group."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_serve_group, args=(listener, 4, copies), daemon=True)
    thread.start()
    command = [servers.BUILD / "fanout", "--port", str(listener.getsockname()[1]), "--users", "4", "--senders", "1"]
    command += ["--rate", "50", "--warm", "0", "--seconds", "0.5"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    end = json.loads(answer.stdout.splitlines()[-1])
    assert end["phase"] == "end"
    figures = {name: end[name] for name in ("lost", "reordered", "repeated", "refused") if end[name]}
    assert figures == {complaint: 1}
    assert end["delivered"] == 3 * end["sent"] - {"lost": 1, "repeated": 0, "refused": 3}[complaint]
    thread.join(10)
    listener.close()


def _serve_group(listener: socket.socket, users: int, copies) -> None:  # type: ignore[no-untyped-def]
    members = [listener.accept()[0] for _ in range(users)]
    pending = [b""] * users
    number = 0
    with selectors.DefaultSelector() as selector:
        for index, member in enumerate(members):
            selector.register(member, selectors.EVENT_READ, index)
        while selector.get_map():
            for key, _ in selector.select():
                data = members[key.data].recv(65536)
                if not data:
                    selector.unregister(key.fileobj)
                *packets, pending[key.data] = _frames(pending[key.data] + data)
                for packet in map(json.loads, packets):
                    number += packet["to"] == "#7"
                    _serve_packet(packet, members, key.data, partial(copies, number))
    for member in members:
        member.close()


def _frames(data: bytes) -> Iterator[bytes]:
    """The bodies of the whole frames, then the rest."""
    while len(data) >= 4 and len(data) - 4 >= (size := int.from_bytes(data[:4], "big")):
        yield data[4 : 4 + size]
        data = data[4 + size :]
    yield data


def _serve_packet(packet: dict, members: list[socket.socket], sender: int, copies) -> None:  # type: ignore[no-untyped-def]
    def put(member: socket.socket, kind: int, content: object, **fields: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
        frame = json.dumps({"type": kind, "dataContent": text, "from": "0", **fields}, separators=(",", ":")).encode()
        member.sendall(len(frame).to_bytes(4, "big") + frame)

    if packet["type"] == 0:
        put(members[sender], 50, {"code": 0, "firstLoginTime": 1})
    elif packet["type"] == 2 and packet["to"] == "0":
        ref = json.loads(packet["dataContent"])["ref"]
        put(members[sender], 2, {"ref": ref, "ok": True, "result": {"group": {"id": 7}}})
    elif packet["type"] == 2 and copies(0) == REFUSE:
        put(members[sender], 52, {"errorCode": 1025, "errorMsg": packet["fp"]})
    elif packet["type"] == 2:
        put(members[sender], 4, packet["fp"])
        for number, member in enumerate(members):
            for _ in range(copies(number) if number != sender else 0):
                put(member, 2, packet["dataContent"], to="#7", QoS=True, fp=packet["fp"], **{"from": packet["from"]})


@pytest.mark.parametrize(
    ("program", "option"), [("loadgen", "--sped"), ("loadgen", "--senders"), ("fanout", "--sped"), ("fanout", "--qos")]
)
def test_a_wrong_option_is_a_usage_error(built: None, program: str, option: str) -> None:
    command = [servers.BUILD / program, "--port", "1", option, "3"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == os.EX_USAGE
