"""The benchmark's own pieces are right: the generator counts what arrives, and notices what does not.

The servers here are bench/ideal and small lying ones; chatd's speed is `make bench`'s matter.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

import load  # noqa: E402
import servers  # noqa: E402

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


def test_a_window_delivers_and_loses_nothing(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--window", "4", "--seconds", "0.5", "--warm", "0.2", users=20)
    assert one.delivered > 100
    assert one.sent >= one.delivered
    assert 0 < one.p50_us <= one.p99_us
    assert not any(one.wrong.values())


def test_a_rate_is_kept(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--rate", "2000", "--seconds", "1", "--warm", "0.2", users=20)
    assert 1900 <= one.per_s <= 2100


def test_pairs_across_workers_are_mutual_and_counted(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--window", "1", "--seconds", "0.3", "--warm", "0.1", users=20, cross=True)
    assert one.crossed == 0.0, "ideal has one process"
    partners, crossed = load._pairs([1, 2, 3, 4], {1: 70, 2: 70, 3: 71, 4: 70})
    assert [partners[partner] for partner in partners] == [0, 1, 2, 3]
    assert crossed == 0.5


def test_holders_names_the_process_at_the_other_end(ideal: servers.Ideal) -> None:
    with socket.create_connection(("127.0.0.1", ideal.ports["mobileimsdk"])) as client:
        frame = b'{"type":0,"from":"a"}'
        client.sendall(len(frame).to_bytes(4, "big") + frame)
        assert client.recv(1000)
        assert ideal.holders("mobileimsdk") == {client.getsockname()[1]: ideal.process.pid}


def test_idle_users_are_counted_in_memory(ideal: servers.Ideal) -> None:
    one = load.run(ideal, "--idle", "--seconds", "0.1", users=500)
    assert 0.1 < one.idle_kb < 10


@pytest.mark.parametrize(
    ("copies", "complaint"),
    [
        (lambda number: 0 if number % 2 else 1, "lost"),
        (lambda number: 2, "repeated"),
        (lambda number: REFUSE if number % 2 else 1, "refused"),
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


def test_a_wrong_option_is_a_usage_error(built: None) -> None:
    answer = subprocess.run([servers.BUILD / "loadgen", "--port", "1", "--sped", "3"], capture_output=True, check=False)
    assert answer.returncode == os.EX_USAGE
