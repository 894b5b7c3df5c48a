"""How fast events reach one receiver. usage: webhooks.py [MESSAGES]

Owns: the measurement: a store with messages that wait, a daemon with one worker, a receiver that verifies every
signature, in processes of their own; events per second until the last one was answered, and the CPU of the worker.
Elsewhere: the receiver (tests.webhooks.receiver), what the figures mean (docs/benchmarks.md).
Fails: AssertionError if an event is missing.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from chatd.model import User
from chatd.protocol import SendMessage
from chatd.store.contract import Draft
from chatd.store.sqlite.tables import open_tables
from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until
from tests.webhooks.receiver import Receiver

MESSAGES = 100_000
_PAIRS = 500
_AT_ONCE = 1000


def fill(path: Path, messages: int) -> None:
    """A store in which nothing of these has been sent to the webhook yet."""
    with contextlib.closing(open_tables(path, create=True)) as tables:
        tables.begin()
        users = [tables.accounts.create(f"user{number}", "", 1) for number in range(2 * _PAIRS)]
        tables.webhooks.register("crm", ["message.stored"])
        tables.commit()
        for begin in range(0, messages, _AT_ONCE):
            tables.begin()
            tables.append([_draft(users, number) for number in range(begin, min(begin + _AT_ONCE, messages))], 1)
            tables.commit()


def _draft(users: list[User], number: int) -> Draft:
    sender, to = users[number % _PAIRS], users[_PAIRS + number % _PAIRS]
    return Draft(sender, SendMessage("", to.id, 0, f"message {number} " + "x" * 50, f"fp{number}", True))


def main(messages: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        receiver = Receiver(root / "receiver").start()
        daemon = Daemon(root / "daemon")
        daemon.config["webhook"] = [receiver.options(events=["message.stored"])]
        daemon.write_config()
        (root / "daemon" / "state").mkdir(mode=0o750)
        try:
            fill(root / "daemon" / "state" / "chatd.db", messages)
            begun = time.monotonic()
            daemon.start()
            (worker,) = daemon.workers()
            wait_until(30, "the first event", receiver.requests)
            first = time.monotonic()
            cpu = sum(psutil.Process(worker).cpu_times()[:2])
            at_first = len(receiver.events())
            wait_until(300, "all events", lambda: len(receiver.events()) >= messages, step_s=0.05)
            took = time.monotonic() - first
            cpu = sum(psutil.Process(worker).cpu_times()[:2]) - cpu
            sent = messages - at_first
            print(f"first event {first - begun:.2f} s after the start of the daemon")
            print(f"{sent / took:,.0f} events/s, {cpu / sent * 1e6:.0f} µs of CPU of the worker for each")
        finally:
            receiver.kill()
            daemon.discard()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES))
