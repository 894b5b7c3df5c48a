"""A worker process of the MySQL store's tests: `python -m tests.store.mysql_writer URL NAME COUNT LIMIT_S`.

Opens the store when a line comes on standard input, writes COUNT messages through a GroupCommit as a worker does, in
bunches of different sizes: between everybody in both directions, to groups, some with fps that other processes use
too. Between them it joins and leaves groups, makes friends and moves cursors. What is refused with UNAVAILABLE is sent
again with the same fp until it is stored. Prints one JSON object: answers, a list of [conversation, seq, fp, fresh];
refused, how many were refused meanwhile; wrong, what should not have been said.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from chatd.config.urls import parse_mysql
from chatd.errors import BootError, ErrorCode, Refused, Unavailable
from chatd.model import User
from chatd.protocol import SendMessage
from chatd.scoreboard import ROW_BYTES, Row
from chatd.store.contract import AdmissionLimits, AskingRules, Draft, Stored
from chatd.store.group_commit import Connections, GroupCommit
from chatd.store.mysql import tables as mysql_tables

USERS = [User(1, "alice"), User(2, "bob"), User(3, "carol"), User(4, "dave")]
GROUPS = (1, 2)
WAIT_S = 2.0


class Writer:
    def __init__(self, store: str, name: str, count: int, limit_s: float) -> None:
        address = parse_mysql(store)
        row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        readers = [mysql_tables.open_reader(address, limit_s)]
        tables = mysql_tables.open_tables(address, limit_s, create=True)
        self.choose = random.Random(name)
        self.name, self.count = name, count
        self.answers: dict[str, tuple[int, int, str, bool]] = {}
        self.waiting: dict[str, Draft] = {}
        self.refused = 0
        self.wrong: list[str] = []
        self.store = GroupCommit(Connections(tables, readers), asyncio.get_running_loop(), row, self.answer)

    def answer(self, drafts: list[Draft], origins: list[Any], results: list[Stored | ErrorCode]) -> None:
        for draft, fp, result in zip(drafts, origins, results, strict=True):
            if isinstance(result, Stored):
                message = result.message
                if message.fp != fp or message.sender_id != draft.sender.id:
                    self.wrong.append(f"{fp} was answered with {message}")
                first = self.answers.setdefault(fp, (message.conversation, message.seq, fp, result.fresh))
                if first[:2] != (message.conversation, message.seq):
                    self.wrong.append(f"{fp} is {first} and {message}")
                self.waiting.pop(fp, None)
            elif result is ErrorCode.UNAVAILABLE:
                self.refused += 1
            else:
                self.wrong.append(f"{fp}: {result!r}")

    def draft(self, number: int) -> tuple[str, Draft]:
        kind = number % 10
        if kind == 0:
            fp = f"shared:{number}"
            return fp, Draft(USERS[0], SendMessage("", 2, 0, "shared", fp))
        fp = f"{self.name}:{number}"
        sender, other = self.choose.sample(USERS, 2)
        if kind < 4:
            return fp, Draft(sender, SendMessage("", 0, self.choose.choice(GROUPS), self.name, fp))
        return fp, Draft(sender, SendMessage(other.name, 0, 0, self.name, fp))

    async def write(self) -> None:
        number = 0
        while number < self.count:
            size = min(self.choose.choice([1, 2, 5, 40, 100]), self.count - number)
            for _ in range(size):
                fp, draft = self.draft(number)
                self.waiting[fp] = draft
                self.store.append(draft, fp)
                number += 1
            await self.something_else(number)
            await self.store.settle()
            while self.waiting:
                await asyncio.sleep(0.02)  # as a client does, only sooner
                for fp, draft in self.waiting.items():
                    self.store.append(draft, fp)
                await self.store.settle()

    async def something_else(self, number: int) -> None:
        """Other locks, in other orders."""
        one, other = self.choose.sample(USERS, 2)
        group = self.choose.choice(GROUPS) + 2  # of those that nobody writes to here
        try:
            match number % 4:
                case 0:
                    await self.store.write(
                        lambda tables: tables.admission.join(one.id, group, AdmissionLimits(10, 10), number)
                    )
                case 1:
                    await self.store.write(lambda tables: tables.groups.leave(one.id, group))
                case 2:
                    await self.store.write(
                        lambda tables: tables.friends.request(one, other.id, AskingRules(friends=100), number)
                    )
                case 3:
                    await self.store.write(lambda tables: tables.friends.remove(one.id, other.id))
            waiting = await self.store.read(lambda tables: tables.history.waiting(one.id, 50))
        except Refused:
            return
        except Unavailable:
            self.refused += 1
            return
        for message in waiting.messages:
            self.store.advance(one.id, message.conversation, message.seq)

    async def tick(self) -> None:
        while True:
            self.store.tick(WAIT_S)
            await asyncio.sleep(0.05)


async def run(store: str, name: str, count: int, limit_s: float) -> None:
    writer = Writer(store, name, count, limit_s)
    ticking = asyncio.create_task(writer.tick())
    await writer.write()
    ticking.cancel()
    writer.store.close()
    told = {"answers": list(writer.answers.values()), "refused": writer.refused, "wrong": writer.wrong}
    print(json.dumps(told), flush=True)


def main(store: str, name: str, count: str, limit_s: str) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        asyncio.run(run(store, name, int(count), float(limit_s)))
    except BootError as error:
        print(json.dumps({"boot": str(error)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
