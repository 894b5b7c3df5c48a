"""One worker: built from its parts, run, drained.

Owns: choosing the implementations that a configuration names (only this file and codecs do), the worker's signals, its
heartbeat, the master's orders about itself, and the drain at its end.
Elsewhere: orders of an operator (operator_orders), forking and supervising (master), the orders (orders), sockets
(net), chat (core).
Fails: BootError, ConfigError or Unavailable before it is ready, which the master reports to the operator; afterwards
the worker runs until SIGTERM, SIGQUIT, an order to drain, or the death of the master. The caller (master.spawn) ends
the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Literal

import uvloop

from chatd import log, orders, vouched_logins
from chatd.address_bans import AddressBans
from chatd.bus.contract import Bus
from chatd.bus.local.bus import LocalBus
from chatd.bus.redis.keyring import Keyring
from chatd.codecs import make_codec, make_datagram_codec
from chatd.config.diff import live
from chatd.config.schema import Config, ListenerOptions, PluginOptions
from chatd.config.validate import BUSES
from chatd.core.core import Core
from chatd.core.elsewhere import Elsewhere
from chatd.core.parts import CoreParts
from chatd.core.plugins import loading
from chatd.core.plugins.loading import PluginNotLoaded
from chatd.core.plugins.plugin import Plugin
from chatd.errors import BootError, Disconnect, Exit
from chatd.event_readers import EventReaders, make_people
from chatd.files.open import open_content
from chatd.net.acceptor import Acceptor, ConnectionMaker, Listener
from chatd.net.connections import Connections
from chatd.net.handover.predecessor import Predecessor
from chatd.net.handover.successor import Successor
from chatd.net.udp.listener import UdpListener
from chatd.operator_orders import OperatorOrders
from chatd.orders import (
    CertificatesOrder,
    CertificatesRefused,
    DrainOrder,
    HandOverOrder,
    LogLevelOrder,
    NotUnderstood,
    ReadDatagramsOrder,
    ReloadDone,
    ReloadOrder,
    ReloadRefused,
    TraceOrder,
    Trouble,
    WorkerReady,
)
from chatd.scoreboard import State, leader
from chatd.store.contract import Tables
from chatd.store.open import configured, open_readers, open_tables
from chatd.tls.certificates import CertificateError
from chatd.tls.contexts import ServerContexts
from chatd.wire.mobileimsdk.codec import MobileimsdkCodec
from chatd.worker_context import WorkerContext

_TICK_S = 0.05
_LAG_WINDOW_S = 10.0
_FORGED_S = 600.0
"""How long `chatctl check` reports a message that the bus refused."""
_SWITCH_S = 0.001
"""How long the loop may keep the interpreter while the store thread waits for it."""


def open_bus(config: Config, slot: int, keyring: Keyring) -> Bus:
    """The bus that `config` names; it has not joined yet. keyring: signs what goes over Redis. Raises: BootError 78."""
    runtime = Path(config.server.runtime_dir)
    if config.bus.url.startswith("local:"):
        return LocalBus(runtime / "bus", runtime / "claims", slot)
    if config.bus.url.partition(":")[0] in BUSES:
        from chatd.bus.redis.bus import RedisBus

        return RedisBus(config.bus, slot, keyring)
    raise BootError(f"bus.url: no such bus: {config.bus.url.partition(':')[0]}", Exit.CONFIG)


def load_plugins(config: Config, loop: asyncio.AbstractEventLoop) -> list[Plugin]:
    """The plug-ins of [[hook]], in that order. Raises BootError, with the plug-in's name, when one cannot be used."""
    return [_load_plugin(one, config, loop) for one in config.hook]


def _load_plugin(hook: PluginOptions, config: Config, loop: asyncio.AbstractEventLoop) -> Plugin:
    try:
        return loading.load(hook, config, loop)
    except PluginNotLoaded as error:
        log.get().exception("cannot load a plug-in", hook=hook.name)
        option = f"{error.option} " if error.option else ""
        raise BootError(f"hook {hook.name}: {option}{error}", Exit.CONFIG) from None


def run(context: WorkerContext) -> int:
    """Serve until ordered to leave; returns the exit code. Raises: BootError, ConfigError or Unavailable when it cannot
    start."""
    sys.setswitchinterval(_SWITCH_S)
    config = context.config
    tables = open_tables(configured(config), config.timeouts.store_s, create=True, patient=context.patient)
    vouched_logins.names_only(config, [tables])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        worker = Worker(context, tables, runner.get_loop())
        return runner.run(worker.serve())


class Worker:
    """The whole worker. serve() runs once, from the boot to the end of the drain."""

    def __init__(self, context: WorkerContext, tables: Tables, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._config = context.config
        self._row = context.rows[context.slot]
        self._log = log.get()
        bus = context.config.bus
        self._keyring = Keyring(bus.keys, accepts_unsigned=bus.insecure_unsigned)
        self._vouched = vouched_logins.make(self.config)
        self._bus = open_bus(context.config, context.slot, self._keyring)
        bans = AddressBans()
        people = make_people(self.config)
        self._core = Core(self._core_parts(tables, bans, people))
        self._connections = Connections(self._core, self.config, self._row, loop, bans)
        self._core.bans.end_banned = self._connections.end_banned
        self._operator_orders = OperatorOrders(self._core, context.slot)
        self._acceptor = Acceptor(self._connections, make_codec, context.rows, context.slot)
        self._readers = EventReaders(context, self.config, self._core, people)
        self._http = self._http_server()
        self._udp: list[UdpListener] = []
        self._taking: Successor | None = None
        """Takes over the sessions of the worker that this one succeeds; None = it succeeds none."""
        self._successor: socket.socket | None = None
        """To the worker that takes over from this one."""
        self._leave = asyncio.Event()
        """Set when the worker is to drain."""
        self._drain_s: float | None = None
        """How long the drain may take; None = timeouts.drain_s."""
        self._drain_limit: asyncio.Timeout | None = None
        """While the worker drains: an order may shorten it."""
        self._due = 0.0
        """When the next tick is due, by the loop's clock."""
        self._lag_until = 0.0
        """Until then a lower lag does not replace the highest one shown."""
        self._rounds = 0
        self._refused = 0
        """Messages refused by the bus, when this was looked at last."""
        self._refused_at = float("-inf")
        """When the bus last refused a message, by the loop's clock."""
        self._troubles: dict[Literal["store", "bus"], str] = {"store": "", "bus": ""}
        """What the master was told last: why the part cannot be used."""

    def _core_parts(self, tables: Tables, bans: AddressBans, elsewhere: Elsewhere | None) -> CoreParts:
        context, config = self._context, self._config
        return CoreParts(
            tables=tables,
            readers=vouched_logins.names_only(
                config, open_readers(configured(config), config.timeouts.store_s, config.store.readers)
            ),
            bus=self._bus,
            plugins=load_plugins(config, self._loop),
            config=self.config,
            tokens=self._vouched.tokens,
            backend=self._vouched.backend,
            elsewhere=elsewhere,
            files=open_content(config.files),
            row=self._row,
            penalty_table=context.penalty_table,
            address_bans=bans,
            many_hosts=not config.bus.url.startswith("local:"),
            loop=self._loop,
            slot=context.slot,
            leads=lambda: leader(context.rows) == context.slot,
        )

    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    def _make_datagram_codec(self, listen: ListenerOptions) -> MobileimsdkCodec:
        return make_datagram_codec(listen, self._config)

    async def serve(self) -> int:
        """Boot, serve, drain. Raises: BootError, ConfigError or Unavailable when it cannot start."""
        context, loop = self._context, self._loop
        loop.add_signal_handler(signal.SIGTERM, self._leave.set)
        loop.add_reader(context.life_fd, self._orphaned)
        loop.add_reader(context.orders, self._read_order)
        await self._core.open(patient=context.patient)
        await self._readers.open()
        self._due = loop.time() + _TICK_S
        self._tick()
        self._acceptor.open([self._listener(listen, sock) for listen, sock in context.listeners])
        self._open_udp(context.predecessor)
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
        self._row.bus_ok = self._bus.healthy
        self._row.state = State.READY
        self._answer(WorkerReady())
        self._log.info("worker ready", slot=context.slot, generation=context.generation)
        await self._leave.wait()
        return await self._drain()

    def _open_udp(self, predecessor: socket.socket | None) -> None:
        """Begin to read the UDP sockets; with a predecessor, when it reads them no more, and has handed over."""
        for listen, sock in self._context.udp_sockets:
            self._attach_udp(listen, sock, is_reading=predecessor is None)
        if predecessor is not None:
            arrivals = self._core.arrivals
            self._taking = Successor(arrivals, self._connections, self._acceptor, self._udp, predecessor)
            self._taking.open()

    def _read_datagrams(self, address: str, sockets: list[socket.socket]) -> None:
        for listen in self._config.listen:
            if listen.address == address:
                for sock in sockets:
                    self._attach_udp(listen, sock, is_reading=True)

    def _attach_udp(self, listen: ListenerOptions, sock: socket.socket, *, is_reading: bool) -> None:
        make_codec = self._make_datagram_codec
        udp = UdpListener(self._connections, listen, sock, make_codec, is_reading=is_reading)
        self._connections.attach(udp)
        self._udp.append(udp)

    def _http_server(self) -> ConnectionMaker | None:
        """None without an HTTP listener; then nothing of it is loaded."""
        if not any(one.protocol == "http" for one in self._context.config.listen):
            return None
        from chatd.http.server import HttpServer

        return HttpServer(self._core, self.config, self._row, self._loop, self._readers.webhooks)

    def _listener(self, listen: ListenerOptions, sock: socket.socket) -> Listener:
        """Raises BootError for certificates that cannot be used; the master has used them, so that is a bug."""
        certificates = self._context.certificates.get(listen.address)
        maker = self._http if listen.protocol == "http" else None
        if not certificates:
            return Listener(listen, sock, maker=maker)
        try:
            contexts = ServerContexts(certificates, maker.alpn if maker is not None else ())
            return Listener(listen, sock, contexts, maker)
        except CertificateError as error:
            raise BootError(f"{listen.address}: {error}", Exit.CONFIG) from None

    # ---------------------------------------------------------------- the clock

    def _tick(self) -> None:
        """Every _TICK_S: the heartbeat, the loop's lag, and what the parts do at intervals."""
        now = self._loop.time()
        row = self._row
        row.heartbeat_ns = time.monotonic_ns()
        lag_us = int(max(0.0, now - self._due) * 1e6)
        if lag_us > row.loop_lag_us or now > self._lag_until:
            row.loop_lag_us = lag_us
            self._lag_until = now + _LAG_WINDOW_S
        self._due = now + _TICK_S
        self._loop.call_later(_TICK_S, self._tick)
        self._core.tick()
        self._connections.tick()
        self._rounds += 1
        if self._rounds % 20 == 0:
            row.bus_ok = self._bus.healthy
            row.bus_round_trip_us = self._bus.round_trip_us
            row.penalties_replaced = self._context.penalty_table.replaced
            self._report_refused()
            self._report_trouble("store", "" if row.store_ok else self._core.store.trouble or "does not answer")
            self._report_trouble("bus", self._bus.trouble)
            self._connections.round()
            self._readers.report()
            log.tick()

    def _report_refused(self) -> None:
        refused, now = self._bus.refused, self._loop.time()
        if refused != self._refused:
            self._refused, self._refused_at = refused, now
        self._row.bus_forged = now - self._refused_at < _FORGED_S

    def _report_trouble(self, part: Literal["store", "bus"], why: str) -> None:
        """Tell the master if it has changed; if that does not read, at the next call."""
        if why != self._troubles[part]:
            with contextlib.suppress(BlockingIOError):
                self._answer(Trouble(part, why[: orders.WHY_CHARS]))
                self._troubles[part] = why

    # ---------------------------------------------------------------- orders

    def _read_order(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._context.orders, orders.MAX_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._context.orders)
            return
        came_with_it = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        try:
            order = orders.decode_order(data)
        except orders.MalformedMessage as error:
            self._log.error("malformed order from the master", why=str(error))
            self._answer(NotUnderstood(str(error)[: orders.WHY_CHARS]))
            return
        self._carry_out(order, came_with_it)

    def _carry_out(self, order: orders.Order, came_with_it: list[socket.socket]) -> None:
        match order:
            case ReloadOrder():
                self._answer(self._reload(order))
            case HandOverOrder():
                self._successor = next(iter(came_with_it), None)
                self._drain_within(order.within_s)
            case DrainOrder():
                self._drain_within(order.within_s)
            case ReadDatagramsOrder():
                self._read_datagrams(order.address, came_with_it)
            case TraceOrder():
                self._core.trace(order.user_id, order.for_s, tell_others=order.tell_others)
            case LogLevelOrder():
                log.set_level(order.level)
            case CertificatesOrder():
                self._renew(order)
            case _:
                if (work := self._operator_orders.answer(order)) is not None:
                    self._connections.run(self._answer_later(work))

    async def _answer_later(self, work: Awaitable[orders.Answer]) -> None:
        """If the master does not take it, it reports that this worker has not answered."""
        answer = await work
        with contextlib.suppress(OSError):
            self._answer(answer)

    def _answer(self, answer: orders.Answer) -> None:
        with contextlib.suppress(BrokenPipeError):  # the master is gone: _orphaned() is called, and acts
            self._context.orders.send(orders.encode(answer))

    def _reload(self, order: ReloadOrder) -> orders.Answer:
        """Apply what may change live; the rest stays as this worker was started with."""
        try:
            config = live(self._config, order.config)
            self._vouched.replace(config)
            self._config, bus = config, config.bus
            self._keyring.replace(bus.keys, accepts_unsigned=bus.insecure_unsigned)
            log.set_level(order.config.log.level)
        except ValueError as error:
            return ReloadRefused(order.generation, str(error)[: orders.WHY_CHARS])
        self._row.generation = order.generation
        return ReloadDone(order.generation)

    def _renew(self, order: CertificatesOrder) -> None:
        try:
            self._acceptor.renew(order.address, order.certificates)
        except CertificateError as error:
            self._answer(CertificatesRefused(order.address, str(error)[: orders.WHY_CHARS]))

    # ---------------------------------------------------------------- the way out

    def _orphaned(self) -> None:
        """The master is gone, and no worker will be replaced: stop accepting at once, and drain."""
        self._loop.remove_reader(self._context.life_fd)
        self._acceptor.shut()
        if self._drain_s is None:
            self._drain_s = self._config.timeouts.orphan_drain_s
        self._log.error("the master is gone, draining")
        self._leave.set()

    def _drain_within(self, within_s: float) -> None:
        """Drain, or go on draining, but for no longer than this from now."""
        self._drain_s = within_s
        limit = self._drain_limit
        if limit is not None and not limit.expired():
            latest = self._loop.time() + within_s
            limit.reschedule(min(limit.when() or latest, latest))
        self._leave.set()

    async def _drain_connections(self, spread_s: float) -> None:
        """What a successor has taken over is not drained. Over UDP first, and at once: unless the whole server drains,
        the address has other sockets, or a successor has these."""
        if self._successor is not None:
            self._acceptor.close_listeners()
            await Predecessor(self._core.departures, self._connections, self._udp, self._successor).run()
        self._acceptor.shut()
        await self._connections.drain_datagrams()
        if self._context.master_row.state != State.DRAINING:
            self._connections.close_datagrams()
        await self._connections.drain(spread_s)

    async def _drain(self) -> int:
        """Disconnect the clients, let the store finish, and close everything. Returns the exit code."""
        timeouts = self._config.timeouts
        self._row.state = State.DRAINING
        if self._taking is not None:
            self._taking.close()
        if self._successor is None:
            self._acceptor.shut()
        within_s = timeouts.drain_s if self._drain_s is None else self._drain_s
        spread_s = min(timeouts.drain_spread_s, within_s * 2 / 3)
        self._log.info("draining", connections=len(self._connections.members), within_s=within_s)
        drain = self._loop.create_task(self._drain_connections(spread_s))
        readers = self._loop.create_task(self._readers.close())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s) as self._drain_limit:
                await asyncio.wait([drain])
        self._drain_limit = None
        drain.cancel()
        for connection in tuple(self._connections.members):
            connection.cut(Disconnect.DRAINING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeouts.store_s):
                await readers
                await self._core.keys.write_used()
                await self._core.store.settle()
                await self._core.plugins.settle()
        self._core.figures.tick(self._core.plugins)
        self._core.store.close()
        await self._bus.close()
        await self._vouched.close()
        self._log.info("worker leaves")
        return Exit.OK
