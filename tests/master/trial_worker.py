"""A worker that keeps the contract of a WorkerContext and does nothing else: it answers lines with its slot and pid.

Run as `python tests/master/trial_worker.py <arguments of chatd>`. TRIAL_BOOT in the environment makes it fail to start;
TRIAL_REFUSE names a word that a reloaded configuration may not contain, TRIAL_PATIENCE is control.PATIENCE_S. A
client's line is a command: `hang`, `stacks`, `crash`, `log N SIZE`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from chatd import __main__ as chatd_main
from chatd import log, orders
from chatd.errors import BootError, ConfigError, Exit, Unavailable
from chatd.master import control
from chatd.orders import DrainOrder, HandOverOrder, LogLevelOrder, ReloadDone, ReloadOrder, ReloadRefused
from chatd.scoreboard import State
from chatd.worker_context import WorkerContext


class TrialWorker:
    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.row = context.rows[context.slot]
        self.orders = context.orders
        self.listeners = [sock for _, sock in context.listeners]
        self.clients: list[socket.socket] = []
        self.until = 0.0
        self.told_to_go = False
        self.generation = context.generation
        self.word = context.config.log.level

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._term)
        self.row.heartbeat_ns = time.monotonic_ns()
        self.row.store_ok = self.row.bus_ok = True
        self.row.state = State.READY
        self.orders.send(orders.encode(orders.WorkerReady()))
        while True:
            self.row.heartbeat_ns = time.monotonic_ns()
            self.row.connections = len(self.clients)
            watched = [self.context.life_fd, self.orders, *self.listeners, *self.clients]
            readable, _, _ = select.select(watched, [], [], 0.05)
            for one in readable:
                self._ready(one)
            log.tick()
            if self.told_to_go:
                self.told_to_go = False
                self._drain(self.context.config.timeouts.drain_s)
            if self.until and (not self.clients or time.monotonic() > self.until):
                return 0

    def _term(self, _number: int, _frame: object) -> None:
        self.told_to_go = True

    def _drain(self, within_s: float) -> None:
        self.row.state = State.DRAINING
        self.until = min(self.until or 1e18, time.monotonic() + within_s)
        for listener in self.listeners:
            listener.close()
        self.listeners = []

    def _ready(self, one: socket.socket | int) -> None:
        if one == self.context.life_fd:
            self._drain(self.context.config.timeouts.orphan_drain_s)
        elif one is self.orders:
            self._order()
        elif one in self.listeners:
            try:
                self.clients.append(one.accept()[0])
            except BlockingIOError:
                return
            except OSError:  # the master has shut it, and perhaps listens again
                time.sleep(0.02)
        else:
            self._client(one)

    def _order(self) -> None:
        try:
            data = self.orders.recv(1 << 20)
        except BlockingIOError:
            return
        if not data:  # the master is gone; the life pipe says so too
            return
        match orders.decode_order(data):
            case ReloadOrder() as order:
                self._reload(order)
            case LogLevelOrder(level=level):
                log.set_level(level)
            case DrainOrder(within_s=within_s) | HandOverOrder(within_s=within_s):
                self._drain(within_s)

    def _reload(self, order: ReloadOrder) -> None:
        refuse = os.environ.get("TRIAL_REFUSE")
        if os.environ.get("TRIAL_SILENT"):
            return
        if refuse and refuse == order.config.log.level and self.context.slot == 0:
            answer: orders.Answer = ReloadRefused(order.generation, f"log.level: {refuse} is refused")
        else:
            self.generation = order.generation
            self.word = order.config.log.level
            log.set_level(self.word)
            answer = ReloadDone(order.generation)
        self.orders.send(orders.encode(answer))

    def _client(self, one: socket.socket) -> None:
        try:
            line = one.recv(65536)
        except OSError:
            line = b""
        if not line:
            self.clients.remove(one)
            one.close()
            return
        match line.split():
            case [b"hang"]:
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                time.sleep(3600)
            case [b"crash"]:
                os._exit(1)
            case [b"log", count, size]:
                for number in range(int(count)):
                    log.get().info("line", number=number, slot=self.context.slot, padding="x" * int(size))
            case [b"error"]:
                log.get().error("an error")
        self.row.messages_in += 1
        one.sendall(f"{self.context.slot} {os.getpid()} {self.generation} {self.word}\n".encode())


def serve(context: WorkerContext) -> int:
    failure = os.environ.get("TRIAL_BOOT", "")
    mark = os.environ.get("TRIAL_BOOT_FILE", "")
    if mark and Path(mark).exists():
        failure = Path(mark).read_text().strip()
    match failure:
        case "config":
            raise ConfigError("trial.toml: store.url: cannot be used")
        case "store":
            raise Unavailable("the store does not answer")
        case "os":
            raise BootError("cannot make a thread", Exit.OS)
        case "bug":
            raise ZeroDivisionError("a bug")
        case "exit":
            os._exit(1)
        case "never":
            time.sleep(3600)
        case "wait":
            while Path(mark).exists():
                time.sleep(0.01)
    return TrialWorker(context).run()


if __name__ == "__main__":
    control.PATIENCE_S = float(os.environ.get("TRIAL_PATIENCE", control.PATIENCE_S))
    chatd_main.prepare = lambda config: None
    chatd_main.serve = serve
    sys.exit(chatd_main.main())
