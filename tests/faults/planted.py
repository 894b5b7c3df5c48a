"""`python -m tests.faults.planted BUG -c FILE …` is chatd with a bug planted in its workers.

Owns: the bugs (BUGS below), each the kind of mistake a promise forbids. The daemon's own code knows nothing of this:
a worker is patched after its fork, before it is built.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

import chatd.__main__ as entry
from chatd.worker_context import WorkerContext

SLOW_COMMIT_S = 0.05


def acknowledge_before_commit() -> None:
    """P1: the sender is told at once; the commit takes a little longer."""
    from chatd.core.messages import Messages
    from chatd.protocol import Accepted
    from chatd.store.sqlite.tables import SqliteTables

    send, commit = Messages.send, SqliteTables.commit

    def hasty(self: Messages, session: Any, command: Any, client_body: str | None = None) -> None:
        session.peer.push(Accepted(command, 0, 0))
        send(self, session, command, client_body)

    def slow(self: SqliteTables) -> None:
        time.sleep(SLOW_COMMIT_S)
        commit(self)

    Messages.send, SqliteTables.commit = hasty, slow  # type: ignore[method-assign]


def no_dedupe() -> None:
    """P2: what is sent again is stored again."""
    from chatd.store.contract import Draft
    from chatd.store.sqlite.tables import SqliteTables

    append, number = SqliteTables.append, itertools.count(random.randrange(1 << 40))

    def forgetful(self: SqliteTables, drafts: Sequence[Any], now_ms: int, *rules: Any) -> Any:
        renamed = [
            Draft(draft.sender, msgspec.structs.replace(draft.command, fp=f"{draft.command.fp}/{next(number)}"))
            for draft in drafts
        ]
        return append(self, renamed, now_ms, *rules)

    SqliteTables.append = forgetful  # type: ignore[method-assign]


def cursor_before_acknowledgement() -> None:
    """P4, P6: what was given counts as received."""
    from chatd.core.in_flight import InFlightMessages

    give = InFlightMessages.give

    def trusting(self: Any, session: Any, cursor: Any, event: Any, told_at: int = 0) -> None:
        give(self, session, cursor, event, told_at)
        self._store.advance(session.user.id, event.message.conversation, event.message.seq)

    InFlightMessages.give = trusting  # type: ignore[method-assign]


def out_of_order() -> None:
    """P3: now and then a message is overtaken."""
    from chatd.net.connection import Connection
    from chatd.protocol import Deliver

    push = Connection.push

    def dawdling(self: Any, event: Any) -> int:
        if isinstance(event, Deliver) and random.random() < 0.05:
            self.connections.loop.call_later(0.1, push, self, event)
            return int(self.written + self.out_bytes)
        return push(self, event)

    Connection.push = dawdling  # type: ignore[method-assign]


def skipped() -> None:
    """P3, P4: now and then a message is counted as given and is not."""
    from chatd.core.in_flight import InFlightMessages

    give = InFlightMessages.give

    def careless(self: Any, session: Any, cursor: Any, event: Any, told_at: int = 0) -> None:
        if told_at or random.random() > 0.02:
            give(self, session, cursor, event, told_at)

    InFlightMessages.give = careless  # type: ignore[method-assign]


def to_somebody_else() -> None:
    """P12: now and then a message also reaches a session it is not for."""
    from chatd.core.delivery import Delivery

    arrived = Delivery.arrived

    def talkative(self: Any, message: Any, members_version: int, **more: Any) -> None:
        arrived(self, message, members_version, **more)
        if random.random() < 0.02:
            from chatd.protocol import Deliver

            random.choice(self._hub.sessions()).peer.push(Deliver(message, message.fp, {}))

    Delivery.arrived = talkative  # type: ignore[method-assign]


def deaf_bus() -> None:
    """P4: publishes between workers are lost, and nobody reports a gap."""
    from chatd.bus.local.bus import LocalBus
    from chatd.core.bus_messages import MessageStored, decode

    publish = LocalBus.publish

    def silent(self: Any, topic: int, data: bytes) -> None:
        if not isinstance(decode(data), MessageStored):
            publish(self, topic, data)

    LocalBus.publish = silent  # type: ignore[method-assign]


def empty_queue_counts() -> None:
    """P1, P4: what has left the kernel's send queue counts as received, as after a reset everything has."""
    import fcntl
    import termios

    from chatd.net.connection import Connection

    def trusting(self: Any) -> int:
        if self.transport is None:
            return 0
        try:
            queued = int.from_bytes(fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"), "little")
        except (OSError, ValueError):
            return 0
        return int(self.written - self.transport.get_write_buffer_size() - queued)

    Connection.received = trusting  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        acknowledge_before_commit,
        no_dedupe,
        cursor_before_acknowledgement,
        out_of_order,
        skipped,
        to_somebody_else,
        deaf_bus,
        empty_queue_counts,
    )
}


def main(bugs: dict[str, Callable[[], None]]) -> int:
    bug, *arguments = sys.argv[1:]
    serve = entry.serve

    def planted(context: WorkerContext) -> int:
        bugs[bug]()
        return serve(context)

    entry.serve = planted
    return entry.main(arguments)


if __name__ == "__main__":
    sys.exit(main(BUGS))
