"""Bugs planted into bridges. usage: planted.py switches, then the arguments of chatd: a test switches them on and off
(harness.switches).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from chatd.bridges import incoming
from chatd.bridges.incoming import Incoming
from chatd.bridges.link import Link, LinkFailed
from chatd.bridges.outgoing import Outgoing
from chatd.bridges.people import People
from chatd.errors import Unavailable
from chatd.model import User
from chatd.store.sql.bridges import SqlBridges
from chatd.store.sqlite.tables import SqliteTables
from tests.faults.planted import main
from tests.harness.switches import Bugs, Planted, plant

_NUMBERS = itertools.count(random.randrange(1 << 40))


def acknowledges_before_it_stores() -> Planted:
    """And dies in between."""

    async def round_(guard: Any, one: Incoming, link: Link, messages: Any) -> None:
        await link.acknowledge(messages[-1])
        await link.publish("nothing", b"")  # RabbitMQ has the acknowledgement when it has answered this

    return Incoming, "_round", _dying(round_)


def store_takes_no_messages() -> Planted:
    """Not a bug: a fault."""

    def append(guard: Any, tables: SqliteTables, *asked: Any) -> Any:
        raise Unavailable("the disk is full")

    return SqliteTables, "append", append


def dies_before_it_acknowledges() -> Planted:
    """What was read is stored."""

    async def acknowledge(guard: Any, last: Any) -> None:
        """Not done."""

    return Link, "acknowledge", _dying(acknowledge)


def dies_before_it_moves_the_cursor() -> Planted:
    """RabbitMQ has the messages."""

    async def move(guard: Any, outgoing: Outgoing, done: Any, upto: Any) -> None:
        if not done:
            await guard(outgoing, done, upto)
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return Outgoing, "_move", move


def _dying(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    async def do_and_die(*asked: Any) -> None:
        with contextlib.suppress(LinkFailed):
            await work(*asked)
        os.kill(os.getpid(), signal.SIGKILL)

    return do_and_die


def does_not_recognise_repetitions() -> Planted:
    """The fp of each packet is another one."""

    def command(guard: Any, packet: Any, to_id: int) -> Any:
        made = guard(packet, to_id)
        return msgspec.structs.replace(made, fp=f"{made.fp}/{next(_NUMBERS)}"[-60:])

    return incoming, "_command", command


def takes_a_failure_for_a_confirm() -> Planted:
    async def publish(guard: Any, outgoing: Outgoing, link: Link, one: Any) -> None:
        with contextlib.suppress(LinkFailed):
            await guard(outgoing, link, one)

    return Outgoing, "_publish_one", publish


def does_not_keep_the_order() -> Planted:
    async def chain(guard: Any, out: Outgoing, link: Link, messages: Any) -> Any:
        return await guard(out, link, list(messages)[::-1])

    return Outgoing, "_publish_chain", chain


def takes_names_for_numbers() -> Planted:
    async def recipient(guard: Any, people: People, options: Any, to: str) -> Any:
        account = await people.store.read(lambda tables: tables.accounts.find(to, 0))
        return account.user if account else await guard(people, options, to)

    return People, "recipient", recipient


def lets_them_be_anybody() -> Planted:
    """A name of the other side is taken for that of an account."""

    def meet(guard: Any, tables: Any, new: Any, now_ms: int) -> Any:
        account = tables._db.execute("SELECT id, name FROM user WHERE name = ?", (new.name,)).fetchone()
        if account is None:
            return guard(tables, new, now_ms)
        return User(*account)

    return SqlBridges, "meet", meet


BUGS: Bugs = {
    bug.__name__: bug
    for bug in (
        acknowledges_before_it_stores,
        store_takes_no_messages,
        dies_before_it_acknowledges,
        dies_before_it_moves_the_cursor,
        does_not_recognise_repetitions,
        takes_a_failure_for_a_confirm,
        does_not_keep_the_order,
        takes_names_for_numbers,
        lets_them_be_anybody,
    )
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
