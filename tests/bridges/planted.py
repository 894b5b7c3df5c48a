"""Bugs planted into bridges. usage: planted.py switches, then the arguments of chatd: a test switches them on and off
(harness.switches).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from typing import Any

import msgspec

from chatd.bridges import incoming
from chatd.bridges.incoming import Incoming
from chatd.bridges.link import Link
from chatd.bridges.outgoing import Outgoing
from chatd.bridges.people import People
from chatd.store.sql.bridges import SqlBridges
from tests.faults.planted import main
from tests.harness.switches import Bugs, Planted, plant

_NUMBERS = itertools.count(random.randrange(1 << 40))


def acknowledges_before_it_stores() -> Planted:
    async def round_(guard: Any, one: Incoming, link: Link, messages: Any) -> None:
        await link.acknowledge(messages[-1])
        await asyncio.sleep(3600)

    return Incoming, "_round", round_


def does_not_recognise_repetitions() -> Planted:
    """The fp of each packet is another one."""

    def command(guard: Any, packet: Any, to_id: int) -> Any:
        made = guard(packet, to_id)
        return msgspec.structs.replace(made, fp=f"{made.fp}/{next(_NUMBERS)}"[-60:])

    return incoming, "_command", command


def does_not_wait_for_confirms() -> Planted:
    async def publish(guard: Any, link: Link, one: Any) -> None:
        """As if RabbitMQ had it."""

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
        from chatd.model import User

        return User(*account)

    return SqlBridges, "meet", meet


BUGS: Bugs = {
    "acknowledges_before_it_stores": acknowledges_before_it_stores,
    "does_not_recognise_repetitions": does_not_recognise_repetitions,
    "does_not_wait_for_confirms": does_not_wait_for_confirms,
    "does_not_keep_the_order": does_not_keep_the_order,
    "takes_names_for_numbers": takes_names_for_numbers,
    "lets_them_be_anybody": lets_them_be_anybody,
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
