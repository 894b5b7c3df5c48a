"""One Redis server as the bus uses it: a connection that is replaced whenever it is lost.

Owns: staying connected, subscribing again, noticing silence, commands with their time limits, and what an error of the
server means for the connection. Where the server says ASK, the node it names is asked.
Elsewhere: the connection itself (bus.redis.connection), making one (bus.redis.connect, bus.redis.handshake), the master
behind sentinels (bus.redis.sentinel), which server has what (bus.redis.topology), what to do when a server was lost and
is back (bus.redis.bus).
Fails: Unavailable for a command that has no answer now. The NodeListener is told once that the server is lost, and
once, when every subscription is in force again, that it is back.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import hiredis

from chatd import log
from chatd.bus.redis.channels import SubscribedChannels
from chatd.bus.redis.commands import DROPS, MOVES, RedisRefusal, RedisScript
from chatd.bus.redis.connect import CONNECT_ERRORS, open_connection, why_of
from chatd.bus.redis.connection import Argument, ConnectionCallbacks, RedisConnection, Reply
from chatd.bus.redis.handshake import ServerIdentity, shake_hands
from chatd.bus.redis.sentinel import Sentinels
from chatd.bus.redis.settings import RedisLimits, RedisServerAddress, RedisSettings
from chatd.bus.redis.subscriptions import NodeSubscriptions
from chatd.errors import Unavailable

logger = log.get()

CHANNELS_AT_ONCE = 20_000
"""Subscriptions sent after a reconnect before their confirmation is awaited."""


class NodeState(enum.Enum):
    AWAY = enum.auto()
    """There is no connection."""
    SUBSCRIBING = enum.auto()
    """Connected: commands and publishes work. Subscriptions are not yet in force."""
    UP = enum.auto()
    """Connected, and every subscription is in force."""


_OTHERS_S, _OTHERS_PAUSE_S = 5.0, 0.05  # a server that is back waits for others of its cluster; between two looks
_TRANSITIONS = {
    NodeState.AWAY: {NodeState.SUBSCRIBING},
    NodeState.SUBSCRIBING: {NodeState.UP, NodeState.AWAY},
    NodeState.UP: {NodeState.AWAY},
}


class NodeListener(Protocol):
    """Called by nodes, from the loop; the bus implements it."""

    def receiver(self, node: RedisNode) -> Callable[[bytes, bytes], None]:
        """Called with the channel and the bytes of each message that comes from this node."""
        ...

    def publishes_lost(self) -> None:
        """Something published here has not reached, or may not have reached, a server."""
        ...

    def server_lost(self, node: RedisNode) -> None: ...

    async def server_back(self, node: RedisNode, remembers: bool) -> None:
        """Every subscription is in force. remembers: the server has not been restarted or replaced, so what we wrote
        there is still there. Raises Unavailable if the node has to begin again."""
        ...

    def subscriptions_moved(self) -> None:
        """Topics are on other servers now; their subscriptions are on the way."""
        ...


class Placement(Protocol):
    """What a node asks of the topology it belongs to."""

    def channels_of(self, node: RedisNode) -> list[bytes]:
        """The subscribed channels that this node has to carry."""
        ...

    def refresh(self, resubscribe: Collection[bytes] = ()) -> None:
        """Find out again, soon, which server has what. resubscribe: channels that we are not subscribed to now."""
        ...

    def node_at(self, address: RedisServerAddress) -> RedisNode | None:
        """The node that another one has named; None if it cannot be asked now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """What all nodes of one bus have in common."""

    settings: RedisSettings
    limits: RedisLimits
    client_name: str
    """The name of our connections in Redis's list of clients."""
    scripts: tuple[RedisScript, ...]
    channels: SubscribedChannels
    listener: NodeListener


class RedisNode:
    def __init__(self, context: NodeContext, placement: Placement, address: RedisServerAddress | None = None) -> None:
        """address: if not the first one of the settings."""
        settings = context.settings
        self._context = context
        self._placement = placement
        self._limits = context.limits
        self._loop = asyncio.get_running_loop()
        self._sentinels = Sentinels(settings, context.limits) if settings.kind == "sentinel" else None
        self._sharded = settings.kind == "cluster"
        self._subscriptions = NodeSubscriptions(self._sharded, self._subscription_refused)
        self._connection: RedisConnection | None = None
        """The present connection; None exactly in the state AWAY."""
        self._state = NodeState.AWAY
        self._keeper: asyncio.Task[None] | None = None
        """Stays connected, from start() to close()."""
        self._backoff = _Backoff(*context.limits.retry_s)
        self.trouble = ""
        """Why the server could not be used last; not cleared by its return."""
        self._trouble_logged = False
        """A failure was logged: further ones are not, and the return is."""
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        """Loop time of the last tick: a late tick means that this worker itself was stopped."""
        self._ping: asyncio.Future[Reply] | None = None
        """The last PING on this connection; None before the first."""
        self.client_id = 0
        """The number of our last connection at the server."""
        self.address = address or settings.addresses[0]
        self.run_id = ""
        """The server's run id, which a restart changes. "" before the first connection."""
        self.uptime_s = 0.0
        """How long the server had been running when we connected."""

    @property
    def is_connected(self) -> bool:
        """Commands and publishes may be sent."""
        return self._connection is not None

    @property
    def is_up(self) -> bool:
        return self._state is NodeState.UP

    @property
    def queued_bytes(self) -> int:
        """Bytes waiting to be sent. For tests and diagnosis."""
        return self._connection.queued_bytes if self._connection is not None else 0

    def _become(self, state: NodeState) -> None:
        assert state in _TRANSITIONS[self._state], f"redis node: {self._state.name} -> {state.name}"
        self._state = state

    # ------------------------------------------------------------ staying connected

    async def open(self) -> None:
        """Connect for the first time, and stay connected.

        Raises:
            Unavailable: it was not possible; the node is closed.
        """
        try:
            connection, server = await self._connect()
            await self._enter(connection, server)
        except CONNECT_ERRORS as error:
            await self.close()
            raise Unavailable(f"cannot use redis at {self.address}: {why_of(error)}") from None
        self.start(connection)

    def start(self, connection: RedisConnection | None = None) -> None:
        """Stay connected from now on; without a connection, connect first."""
        self._keeper = self._loop.create_task(self._stay_connected(connection))
        self._ticked_at = self._loop.time()
        self._tick()

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._connection is not None:
            self._disconnect(self._connection, "closed")

    async def _stay_connected(self, connection: RedisConnection | None) -> None:
        while True:
            if connection is not None:
                await self._serve_until_lost(connection)
            connection = await self._reconnect()

    async def _serve_until_lost(self, connection: RedisConnection) -> None:
        began = self._loop.time()
        why = await asyncio.shield(connection.lost)
        self._give_up(connection)
        self.trouble = f"lost the connection: {why}"
        logger.warning("bus: lost the connection to redis", address=str(self.address), why=why)
        self._trouble_logged = True
        self._backoff.served(self._loop.time() - began)

    async def _reconnect(self) -> RedisConnection:
        """Try until it works, with growing pauses."""
        while True:
            await asyncio.sleep(self._backoff.next_s())
            connection = await self._try_to_connect()
            if connection is not None:
                return connection

    async def _try_to_connect(self) -> RedisConnection | None:
        """None: it did not work, and nothing is left of the attempt."""
        connection = None
        try:
            connection, server = await self._connect()
            remembers = await self._enter(connection, server)
            await self._tell_back(connection, remembers)
        except CONNECT_ERRORS as error:
            self._give_up(connection)
            self.trouble = why_of(error)
            if not self._trouble_logged:
                logger.warning("bus: redis cannot be used", address=str(self.address), why=why_of(error))
            self._trouble_logged = True
            return None
        except Exception:
            self._give_up(connection)
            logger.exception("bus: reconnecting to redis failed", address=str(self.address))
            return None
        if self._trouble_logged:
            logger.info("bus: redis is back", address=str(self.address))
        return connection

    async def _tell_back(self, connection: RedisConnection, remembers: bool) -> None:
        """What the listener does now may need other servers of a cluster, which come back as well: one that gave up
        its connection because of one of them would fail that one in turn. Raises CONNECT_ERRORS."""
        until = self._loop.time() + _OTHERS_S
        while True:
            try:
                await self._context.listener.server_back(self, remembers)
                return
            except Unavailable as error:
                waits = not isinstance(error, RedisRefusal) or "CLUSTERDOWN" in str(error)
                if not waits or connection.lost.done() or self._loop.time() > until:
                    raise
            await asyncio.sleep(_OTHERS_PAUSE_S)

    def _give_up(self, connection: RedisConnection | None) -> None:
        """Afterwards the node is AWAY, and the listener knows."""
        if connection is not None and self._connection is connection:
            self._disconnect(connection, "given up")
            self._context.listener.server_lost(self)

    def _disconnect(self, connection: RedisConnection, why: str) -> None:
        connection.drop(why)
        self._connection, self._ping = None, None
        if connection.publishes_unanswered or connection.gap:
            self._context.listener.publishes_lost()
        self._become(NodeState.AWAY)

    def _tick(self) -> None:
        """Give up a server that has been silent for too long; otherwise ask it something, so that it answers."""
        now = self._loop.time()
        # This worker itself was stopped: what the server sent meanwhile has not been read yet.
        was_stopped = now - self._ticked_at > 2 * self._limits.ping_s
        self._ticked_at = now
        connection = self._connection
        if connection is not None and not connection.lost.done():
            if was_stopped:
                connection.heard_at = now
            elif now - connection.heard_at > self._limits.silent_s:
                connection.drop(f"silent for {now - connection.heard_at:.1f} s")
            if self._ping is None or self._ping.done():
                self._ping = connection.ask(b"PING")
                self._ping.add_done_callback(_ignore_answer)
        self._ticker = self._loop.call_later(self._limits.ping_s, self._tick)

    # ------------------------------------------------------------ connecting

    async def _connect(self) -> tuple[RedisConnection, ServerIdentity]:
        """A connection after its handshake. Raises one of CONNECT_ERRORS."""
        context = self._context
        if self._sentinels is not None:
            self.address = await self._sentinels.find_master()
        callbacks = ConnectionCallbacks(
            on_message=context.listener.receiver(self),
            on_publish_refused=self._publish_refused,
            on_subscription_ended=self._subscription_ended,
            on_gap=context.listener.publishes_lost,
        )
        connection = await open_connection(context.settings, self._limits, self.address, callbacks)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                server = await shake_hands(connection, context.settings, context.client_name, context.scripts)
        except BaseException as error:
            connection.drop(why_of(error))
            raise
        return connection, server

    async def _enter(self, connection: RedisConnection, server: ServerIdentity) -> bool:
        """Use this connection from now on, and subscribe again. True if the server is the one we had before, and still
        remembers. Raises one of CONNECT_ERRORS."""
        remembers = server.run_id == self.run_id
        old_client_id, self.client_id = self.client_id, server.client_id
        self.run_id, self.uptime_s = server.run_id, server.uptime_s
        self._become(NodeState.SUBSCRIBING)
        self._connection = connection
        self._subscriptions.reset()
        if remembers and old_client_id:  # the server may not know yet that our last connection is dead
            connection.ask("CLIENT", "KILL", "ID", old_client_id).add_done_callback(_ignore_answer)
        subscribed = self._context.channels
        channels = self._placement.channels_of(self)
        for at in range(0, len(channels), CHANNELS_AT_ONCE):
            wanted = [channel for channel in channels[at : at + CHANNELS_AT_ONCE] if channel in subscribed]
            await self._confirmed(self._subscriptions.subscribe(connection, wanted))
        await self._confirmed(connection.subscription(b"SUBSCRIBE", subscribed.everywhere))
        self._become(NodeState.UP)
        return remembers

    async def _confirmed(self, done: asyncio.Future[None] | None) -> None:
        if done is not None:
            async with asyncio.timeout(10 * self._limits.answer_s):
                await done

    # ------------------------------------------------------------ publishing and subscribing

    def publish(self, framed: bytes) -> None:
        """A framed PUBLISH or SPUBLISH command."""
        if self._connection is not None:
            self._connection.publish(framed)
        else:
            self._context.listener.publishes_lost()

    def subscribe(self, channels: list[bytes]) -> None:
        """See `confirming`. While the server is away this is done when it is back."""
        if self._connection is not None:
            self._subscriptions.subscribe(self._connection, channels)

    def unsubscribe(self, channels: list[bytes]) -> None:
        if self._connection is not None:
            self._subscriptions.unsubscribe(self._connection, channels)

    @property
    def confirming(self) -> asyncio.Future[None] | None:
        """Done when everything subscribed until now is confirmed; None if it is. Do not cancel it."""
        return self._subscriptions.confirming

    def _subscription_ended(self, channel: bytes) -> None:
        if channel in self._context.channels:
            self._placement.refresh([channel])

    def _subscription_refused(self, channels: Collection[bytes], error: hiredis.ReplyError) -> None:
        if self._sharded and str(error).startswith(MOVES):
            self._placement.refresh(channels)
        elif self._connection is not None:
            self._connection.drop(str(error))

    def _publish_refused(self, error: hiredis.ReplyError) -> None:
        self._act_on_error(error)
        self._context.listener.publishes_lost()

    # ------------------------------------------------------------ commands

    async def call(self, *arguments: Argument, limit: bool = True) -> Reply:
        """The answer to a command. limit: wait for at most answer_s, else until the server is given up.

        Raises:
            RedisRefusal: the server answered with an error.
            Unavailable: there is no answer. The command may have been executed.
        """
        try:
            return await self._answer(self._ask(*arguments), limit)
        except RedisRefusal as refusal:
            other = self._named_by(refusal)
            if other is None:
                raise
            return await other._answer(other._ask_importing(*arguments), limit)

    async def run(self, script: RedisScript, key: bytes, *arguments: Argument) -> Reply:
        """The result of a script on one key. Waits and raises as call() does, without the limit."""
        try:
            return await self.call("EVALSHA", script.sha, 1, key, *arguments, limit=False)
        except RedisRefusal as refusal:
            if refusal.code != "NOSCRIPT":
                raise
            return await self.call("EVAL", script.text, 1, key, *arguments, limit=False)

    def _ask(self, *arguments: Argument) -> asyncio.Future[Reply]:
        if self._connection is None:
            raise Unavailable(f"redis at {self.address} is not connected")
        return self._connection.ask(*arguments)

    def _ask_importing(self, *arguments: Argument) -> asyncio.Future[Reply]:
        """About a slot that is not this server's yet. The two commands stay together, because nothing comes between
        commands sent in one turn of the loop."""
        self._ask("ASKING").add_done_callback(_ignore_answer)
        return self._ask(*arguments)

    async def _answer(self, asked: asyncio.Future[Reply], limit: bool) -> Reply:
        try:
            async with asyncio.timeout(self._limits.answer_s if limit else None):
                return await asked
        except TimeoutError:
            raise Unavailable(f"redis at {self.address} does not answer") from None
        except hiredis.ReplyError as error:
            self._act_on_error(error)
            raise RedisRefusal(str(error)) from None

    def _named_by(self, refusal: RedisRefusal) -> RedisNode | None:
        """The node that an ASK refers to. A node that does not know its own host means the one it speaks from."""
        if refusal.code != "ASK":
            return None
        host, _, port = str(refusal).rpartition(" ")[2].rpartition(":")
        return self._placement.node_at(RedisServerAddress(self.address.host if host in ("", "?") else host, int(port)))

    def _act_on_error(self, error: hiredis.ReplyError) -> None:
        """Act on an error that means more than that one command has failed."""
        code = str(error).partition(" ")[0]
        cut_off = code == "NOREPLICAS" and self._sentinels is not None  # another server may be the master by now
        if (code in DROPS or cut_off) and self._connection is not None:
            self._connection.drop(str(error))
        elif code in MOVES and code != "ASK":  # ASK: while a slot moves, it is still here
            self._placement.refresh()


class _Backoff:
    """The pauses between attempts to connect: from first_s on each is twice as long, up to longest_s, less a random
    part of up to a half."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = self._wait_s = first_s
        self._longest_s = longest_s

    def next_s(self) -> float:
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, self._longest_s)
        return wait_s * random.uniform(0.5, 1.0)

    def served(self, for_s: float) -> None:
        """A connection has lasted for_s. After a good one the pauses begin again at first_s."""
        if for_s > 2 * self._longest_s:
            self._wait_s = self._first_s


def _ignore_answer(done: asyncio.Future[Reply]) -> None:
    """No caller waits for this answer, and its error says nothing that the connection does not."""
    if not done.cancelled():
        done.exception()
