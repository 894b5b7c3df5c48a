"""A real worker on its own: what it makes of the master's orders, and how long it drains."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd import __main__ as chatd_main
from chatd import orders
from chatd.config.schema import Config, ListenerOptions, ServerOptions, StoreOptions, TimeoutOptions
from chatd.master import directories, spawn
from chatd.master.certificates import CertificateKeeper
from chatd.master.udp_sockets import UdpSockets
from chatd.orders import Answer, DrainOrder, KickDone, KickOrder, NotUnderstood, ReloadDone, ReloadOrder, WorkerReady
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import Scoreboard, State
from tests.harness.deadline import wait_until


class LoneWorker:
    """Forked by the test, which is its master."""

    def __init__(self, root: Path) -> None:
        self.root = root
        server = ServerOptions(state_dir=str(root), runtime_dir=str(root), log_dir=str(root))
        listener = ListenerOptions(protocol="echo", address="tcp://127.0.0.1:0")
        self.config = Config(
            server=server,
            store=StoreOptions(url=f"sqlite:{root}/chatd.db"),
            timeouts=TimeoutOptions(drain_s=600, drain_spread_s=400),
            listen=(listener,),
        )
        directories.prepare_bus(server, None)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        board = Scoreboard()
        self.row = board.rows[0]
        self.life = os.pipe()
        shared = spawn.Shared(
            scoreboard=board,
            penalty_table=PenaltyTable(sets=8),
            listeners=((listener, self.listening),),
            udp_sockets=UdpSockets((), None),
            certificates=CertificateKeeper(self.config, "-"),
            life_read=self.life[0],
            serve=chatd_main.serve,
            leave_master=lambda: os.close(self.life[1]),
        )
        self.child = spawn.fork(0, 1, self.config, shared)
        wait_until(30, "it is ready", lambda: self.row.state == State.READY)
        assert self.answer() == WorkerReady()

    def answer(self) -> Answer:
        assert select.select([self.child.orders], [], [], 10)[0], "no answer"
        return orders.decode_answer(self.child.orders.recv(orders.MAX_BYTES))

    def send(self, data: bytes | orders.Order) -> None:
        self.child.orders.send(data if isinstance(data, bytes) else orders.encode(data))

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listening.getsockname()[:2], 5)
        client.sendall(b"hello\n")
        assert client.recv(100)
        return client

    def errors(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in (self.root / "error.log").read_text().splitlines()]

    def wait(self, limit_s: float) -> int:
        assert select.select([self.child.pidfd], [], [], limit_s)[0], "it is still there"
        return os.waitstatus_to_exitcode(os.waitpid(self.child.pid, 0)[1])


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[LoneWorker]:
    made = LoneWorker(tmp_path)
    yield made
    if not select.select([made.child.pidfd], [], [], 0)[0]:
        os.kill(made.child.pid, signal.SIGKILL)
        os.waitpid(made.child.pid, 0)
    made.child.close()
    made.listening.close()
    for descriptor in made.life:
        os.close(descriptor)


@pytest.mark.parametrize("data", [b"nonsense", b'{"order": "explode"}', b'{"order": "kick"}', b"[" * 1000])
def test_an_order_that_is_not_understood_is_logged_and_harms_nobody(worker: LoneWorker, data: bytes) -> None:
    worker.send(data)
    assert isinstance(worker.answer(), NotUnderstood)
    worker.send(KickOrder(ref=5, user="nobody", user_id=0, reason=""))
    assert worker.answer() == KickDone(ref=5, sessions=0, known=False)
    assert [record["event"] for record in worker.errors()] == ["malformed order from the master"]
    worker.connect().close()


def test_a_reload_is_confirmed(worker: LoneWorker) -> None:
    worker.send(ReloadOrder(2, worker.config))
    assert worker.answer() == ReloadDone(2)
    assert worker.row.generation == 2


def test_an_order_shortens_a_drain_that_is_under_way(worker: LoneWorker) -> None:
    client = worker.connect()
    os.kill(worker.child.pid, signal.SIGTERM)
    wait_until(10, "it drains", lambda: worker.row.state == State.DRAINING)
    began = time.monotonic()
    worker.send(DrainOrder(0.5))
    assert worker.wait(10) == 0
    assert time.monotonic() - began >= 0.4, "its clients had their time"
    client.close()


def test_a_second_order_cannot_lengthen_a_drain(worker: LoneWorker) -> None:
    client = worker.connect()
    worker.send(DrainOrder(0.5))
    wait_until(10, "it drains", lambda: worker.row.state == State.DRAINING)
    worker.send(DrainOrder(60.0))
    assert worker.wait(10) == 0
    client.close()
