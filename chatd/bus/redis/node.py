"""One Redis server as the bus uses it: connected for as long as it is there, and made anew when it was not.

Owns: finding the server (sentinels are asked each time), the first words, subscribing again, noticing silence, and
what an error of the server means; asking another server where this one says so (ASK, of a key that has moved there
while its slot is moving).
Not here: bytes and order (bus.redis.connection); the socket (bus.redis.connect); what is to be done when a server was
lost and is back (bus.redis.bus).
Fails: Unavailable for a question that has no answer now. The loss of the server is told to the owner, once, and that
it is back when every subscription is in force again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

import hiredis

from chatd import log
from chatd.bus.redis.connect import LOST, Limits, answers_of, ask_once, dial, why_of
from chatd.bus.redis.connection import Argument, Connection, Reply
from chatd.bus.redis.settings import Address, Place
from chatd.errors import Unavailable

logger = log.get()

CHANNELS_PER_COMMAND = 500
CHANNELS_AT_ONCE = 20_000
_DROPS = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS")
MOVES = ("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN")


class Refusal(Unavailable):
    """The server's own error; `code` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(f"redis: {text}")
        self.code = text.partition(" ")[0]


class Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Owner(Protocol):
    """What a node calls, from the loop."""

    scripts: tuple[Script, ...]

    @property
    def name(self) -> str: ...

    def plain_channels(self) -> list[bytes]:
        """Those every node must carry; the last one says that all others are in force."""
        ...

    def channels_of(self, node: Node) -> list[bytes]: ...

    def wants(self, channel: bytes) -> bool: ...

    def heard(self, channel: bytes, raw: bytes) -> None: ...

    def channels(self) -> Collection[bytes]:
        """Of all topics."""
        ...

    def ended(self, channel: bytes) -> None:
        """The server has ended a subscription by itself."""
        ...

    def dropped(self, node: Node) -> None:
        """Publishes were lost on the way to the server."""
        ...

    def moved(self, channels: Collection[bytes] = ()) -> None:
        """The server is not, or no longer, the one to ask. channels: it was to subscribe us to them."""
        ...

    def rearranged(self) -> None:
        """Topics are at other servers now."""
        ...

    def left(self, node: Node) -> None: ...

    async def joined(self, node: Node, same_server: bool) -> None:
        """Subscriptions are in force. same_server: what we said to it before it still knows."""
        ...


class Node:
    """server: its run id, which a restart changes; client: our number there."""

    def __init__(
        self,
        place: Place,
        owner: Owner,
        limits: Limits,
        address: Address | None = None,
        other: Callable[[Address], Node | None] = lambda address: None,
    ) -> None:
        """other: the server with this address, if it may be asked now."""
        self._place = place
        self._owner = owner
        self._limits = limits
        self._other = other
        self._loop = asyncio.get_running_loop()
        self._sharded = place.kind == "cluster"
        self._addresses = [address] if address else list(place.addresses)
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        self._ping: asyncio.Future[Reply] | None = None
        self._last: asyncio.Future[None] | None = None
        self.address = self._addresses[0]
        self.server = ""
        self.client = 0
        self.uptime_s = 0.0
        self.up = False
        """Connected, and every subscription is in force."""

    # ------------------------------------------------------------ its life

    async def open(self) -> None:
        """The first connection. Raises Unavailable."""
        try:
            connection = await self._connect()
            await self._enter(connection)
        except LOST as error:
            await self.close()
            raise Unavailable(f"cannot use redis at {self.address}: {why_of(error)}") from None
        self.start(connection)

    def start(self, connection: Connection | None = None) -> None:
        """Keep connected from now on."""
        self._keeper = self._loop.create_task(self._keep(connection))
        self._ticked_at = self._loop.time()
        self._tick()

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._connection is not None:
            self._connection.drop("closed")
            self._account_for(self._connection)
        self._connection = None
        self.up = False

    def _account_for(self, connection: Connection) -> None:
        if connection.unanswered or connection.gap:
            self._owner.dropped(self)

    async def _keep(self, connection: Connection | None) -> None:
        first_s, longest_s = self._limits.retry_s
        wait_s, complained, back = first_s, False, connection is not None
        while True:
            if connection is not None and back:
                began = self._loop.time()
                why = await asyncio.shield(connection.lost)
                self._lost(connection)
                logger.warning("bus: redis is lost", address=str(self.address), why=why)
                complained = True
                if self._loop.time() - began > 2 * longest_s:
                    wait_s = first_s
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(wait_s * 2, longest_s)
            back = False
            try:
                connection = await self._connect()
                same = await self._enter(connection)
                await self._owner.joined(self, same)
                back = True
                if complained:
                    logger.info("bus: redis is back", address=str(self.address))
            except LOST as error:
                self._lost(connection)
                if not complained:
                    logger.warning("bus: redis cannot be used", address=str(self.address), why=why_of(error))
                complained = True
            except Exception:
                self._lost(connection)
                logger.exception("bus: coming back to redis failed")

    def _lost(self, connection: Connection | None) -> None:
        if connection is None or self._connection is not connection:
            return
        connection.drop("given up")
        self._connection, self._ping = None, None
        self._account_for(connection)
        self.up = False
        self._owner.left(self)

    def _tick(self) -> None:
        now = self._loop.time()
        # This worker was stopped itself: what the server sent meanwhile has not been read yet.
        stopped = now - self._ticked_at > 2 * self._limits.ping_s
        self._ticked_at = now
        connection = self._connection
        if connection is not None and not connection.lost.done():
            if stopped:
                connection.heard_at = now
            elif now - connection.heard_at > self._limits.silent_s:
                connection.drop(f"silent for {now - connection.heard_at:.1f} s")
            if self._ping is None or self._ping.done():
                self._ping = connection.ask(b"PING")
                self._ping.add_done_callback(_look)
        self._ticker = self._loop.call_later(self._limits.ping_s, self._tick)

    # ------------------------------------------------------------ connecting

    async def _connect(self) -> Connection:
        """A connection that has introduced itself."""
        place = self._place
        if place.kind == "sentinel":
            self.address = await self._ask_sentinels()
        connection = await self._dial(self.address)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await self._introduce(connection)
        except BaseException as error:
            connection.drop(why_of(error))
            raise
        return connection

    async def _dial(self, address: Address) -> Connection:
        owner = self._owner
        return await dial(
            self._place,
            self._limits,
            address,
            lambda: Connection(
                self._limits.queue_bytes, owner.heard, self._publish_refused, owner.ended, lambda: owner.dropped(self)
            ),
        )

    async def _introduce(self, connection: Connection) -> None:
        place = self._place
        asked = [connection.ask("HELLO", 3, *place.login, "SETNAME", self._owner.name)]
        if place.db:
            asked.append(connection.ask("SELECT", place.db))
        asked += [connection.ask("SCRIPT", "LOAD", script.text) for script in self._owner.scripts]
        asked.append(connection.ask("INFO", "server"))
        hello, *_, info = await answers_of(asked)
        if hello.get(b"role") != b"master":
            raise Unavailable(f"it is a {hello.get(b'role', b'?').decode()}, not a master")
        told = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
        self._introduced = (told.get("run_id", ""), int(hello[b"id"]))
        if self._sharded and int(told.get("redis_version", "0").partition(".")[0]) < 7:
            raise Unavailable("sharded channels need Redis 7 or newer")
        self.uptime_s = float(told.get("uptime_in_seconds", 0))

    async def _ask_sentinels(self) -> Address:
        """Where the master is, as the first sentinel says that answers; it is asked first the next time."""
        why = "no sentinel answers"
        for sentinel in tuple(self._addresses):
            try:
                command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._place.service)
                found = await ask_once(self._place, self._limits, sentinel, self._place.sentinel_login, *command)
            except LOST as error:
                why = f"sentinel {sentinel}: {why_of(error)}"
                continue
            if found is None:
                why = f"sentinel {sentinel} knows no {self._place.service}"
                continue
            self._addresses.remove(sentinel)
            self._addresses.insert(0, sentinel)
            return Address(found[0].decode(), int(found[1]))
        raise Unavailable(why)

    async def _enter(self, connection: Connection) -> bool:
        """Subscribe again. True where the server is the one we had before, and still remembers."""
        server, client = self._introduced
        same: bool = server == self.server
        old, self.server, self.client = self.client, server, client
        self._connection, self._last = connection, None
        if same and old:  # it may not know yet that our last connection is dead
            connection.ask("CLIENT", "KILL", "ID", old).add_done_callback(_look)
        channels = self._owner.channels_of(self)
        for at in range(0, len(channels), CHANNELS_AT_ONCE):
            wanted = [one for one in channels[at : at + CHANNELS_AT_ONCE] if self._owner.wants(one)]
            await self._confirmed(self._subscribe(connection, wanted))
        await self._confirmed(connection.subscription(b"SUBSCRIBE", self._owner.plain_channels()))
        self.up = True
        return same

    async def _confirmed(self, done: asyncio.Future[None] | None) -> None:
        if done is not None:
            async with asyncio.timeout(10 * self._limits.answer_s):
                await done

    # ------------------------------------------------------------ using it

    @property
    def connected(self) -> bool:
        """May be asked. Subscriptions may not yet be in force (`up`)."""
        return self._connection is not None

    def publish(self, framed: bytes) -> None:
        if self._connection is not None:
            self._connection.publish(framed)
        else:
            self._owner.dropped(self)

    def subscribe(self, channels: list[bytes]) -> asyncio.Future[None] | None:
        """Done when the server has confirmed it. None: it is done when the server is back."""
        return self._subscribe(self._connection, channels) if self._connection is not None else None

    def _subscribe(self, connection: Connection, channels: list[bytes]) -> asyncio.Future[None] | None:
        if not channels:
            return None
        for pieces in self._pieces(channels):
            self._last = connection.subscription(b"SSUBSCRIBE" if self._sharded else b"SUBSCRIBE", pieces)
            self._last.add_done_callback(partial(self._subscribed, pieces))
        return self._last

    def unsubscribe(self, channels: list[bytes]) -> None:
        if self._connection is None:
            return
        for pieces in self._pieces(channels):
            done = self._connection.subscription(b"SUNSUBSCRIBE" if self._sharded else b"UNSUBSCRIBE", pieces)
            done.add_done_callback(partial(self._subscribed, ()))

    def _pieces(self, channels: list[bytes]) -> list[list[bytes]]:
        """Sharded channels of one command must have one slot."""
        size = 1 if self._sharded else CHANNELS_PER_COMMAND
        return [channels[at : at + size] for at in range(0, len(channels), size)]

    @property
    def confirming(self) -> asyncio.Future[None] | None:
        """Done when everything subscribed until now is confirmed; None where nothing is on its way."""
        return self._last if self._last is not None and not self._last.done() else None

    def ask(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """Without a limit of time: the answer comes, or the server is given up. Raises what Connection.ask does."""
        if self._connection is None:
            raise Unavailable(f"redis at {self.address} is not there")
        return self._connection.ask(*arguments)

    async def call(self, *arguments: Argument, limit: bool = True) -> Reply:
        """Raises Unavailable: Refusal for the server's own error."""
        try:
            return await self._answer(self.ask(*arguments), limit)
        except Refusal as refusal:
            other = self._named_by(refusal)
            if other is None:
                raise
            return await other._answer(other._ask_importing(*arguments), limit)

    async def _answer(self, asked: asyncio.Future[Reply], limit: bool) -> Reply:
        try:
            async with asyncio.timeout(self._limits.answer_s if limit else None):
                return await asked
        except TimeoutError:
            raise Unavailable(f"redis at {self.address} does not answer") from None
        except hiredis.ReplyError as error:
            self.refused(error)
            raise Refusal(str(error)) from None

    def _named_by(self, refusal: Refusal) -> Node | None:
        """Whom an ASK says to ask. A node that does not know its own host means the one it speaks from."""
        if refusal.code != "ASK":
            return None
        host, _, port = str(refusal).rpartition(" ")[2].rpartition(":")
        return self._other(Address(self.address.host if host in ("", "?") else host, int(port)))

    def _ask_importing(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """About a slot that is not this server's yet. The two commands stay together: nothing comes between what is
        asked in one turn."""
        self.ask("ASKING").add_done_callback(_look)
        return self.ask(*arguments)

    async def run(self, script: Script, key: bytes, *arguments: Argument) -> Reply:
        """Without a limit of time, as `ask`."""
        try:
            return await self.call("EVALSHA", script.sha, 1, key, *arguments, limit=False)
        except Refusal as refusal:
            if refusal.code != "NOSCRIPT":
                raise
            return await self.call("EVAL", script.text, 1, key, *arguments, limit=False)

    def refused(self, error: hiredis.ReplyError) -> None:
        """An error that means more than that one question failed."""
        code = str(error).partition(" ")[0]
        cut_off = code == "NOREPLICAS" and self._place.kind == "sentinel"  # another may be the master by now
        if (code in _DROPS or cut_off) and self._connection is not None:
            self._connection.drop(str(error))
        elif code in MOVES and code != "ASK":  # while a slot moves it is still here
            self._owner.moved()

    def _subscribed(self, channels: Collection[bytes], done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if not isinstance(error, hiredis.ReplyError):
            return
        if self._sharded and str(error).startswith(MOVES):
            self._owner.moved(channels)
        elif self._connection is not None:
            self._connection.drop(str(error))

    def _publish_refused(self, error: hiredis.ReplyError) -> None:
        self.refused(error)
        self._owner.dropped(self)


def _look(done: asyncio.Future[Reply]) -> None:
    """Nobody waits for this answer; its error says nothing that the connection does not."""
    if not done.cancelled():
        done.exception()
