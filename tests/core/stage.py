"""Cores on one loop, over one real SQLite file and one exchange, with peers that remember what they were told.

Nothing here has a socket. Time is the loop's, plus what a test adds with `pass_time`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chatd.config.account_options import AccountOptions
from chatd.config.schema import Config, LimitOptions, PluginOptions, TimeoutOptions
from chatd.core.backend_logins import BackendLogins
from chatd.core.core import Core
from chatd.core.parts import CoreParts
from chatd.core.plugins.plugin import Plugin
from chatd.core.sessions.session import Session
from chatd.core.tokens.contract import Tokens
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Message, Protocol
from chatd.penalty_table import PenaltyTable
from chatd.protocol import (
    Accepted,
    Acknowledge,
    Command,
    CreateGroup,
    Deliver,
    Event,
    Failed,
    Feature,
    GroupReady,
    JoinGroup,
    Login,
    LoginAccepted,
    SendMessage,
)
from chatd.scoreboard import ROW_BYTES, Row
from chatd.store.contract import Tables
from chatd.store.open import StoreLocation, open_tables
from chatd.wire.chatserver.codec import ChatserverCodec
from chatd.wire.echo import EchoCodec
from chatd.wire.mobileimsdk.codec import MobileimsdkCodec
from tests.core.exchange import Exchange
from tests.harness import deadline

T = TypeVar("T")
E = TypeVar("E", bound=Event)
DEADLINE_S = 10.0
FRAME_BYTES = 100
TRAITS = {
    Protocol.CHATSERVER: ChatserverCodec(0, 0, 0, 0).traits,
    Protocol.MOBILEIMSDK: MobileimsdkCodec.traits,
    Protocol.ECHO: EchoCodec.traits,
}
OPEN = AccountOptions(
    login="open",
    insecure_open_login=True,
    argon2_memory_kib=1024,
    argon2_passes=1,
    registration="open",
    min_password_chars=1,
    common_passwords="accept",
)
"""Most tests are not about registration and passwords: any account and any password will do, and hashing is cheap."""


NO_RATES = LimitOptions(commands_per_s=0, recipients_per_s=0, changes_per_hour=0)
"""The people of these tests do more in a second than any human; tests of rates set their own."""


class Peer:
    """core.session.Peer: every event is FRAME_BYTES long. `kernel` is how much the other side has received. cuts: its
    packets are too short for any message."""

    def __init__(self, worker: Worker, protocol: Protocol) -> None:
        self.worker = worker
        self.session: Session | None = None
        self.protocol = protocol
        self.remote = "nowhere:0"
        self.carrier = "tcp"
        self.heard = 0.0
        self.closed = False
        self.lossy = False
        self.has_receipts = True
        self.is_private = True
        self.gone = False
        self.traits = TRAITS[protocol]
        self.reason: Disconnect | None = None
        self.events: list[Event] = []
        self.ending_at: dict[int, Event] = {}
        """What was pushed, by the byte where it ends."""
        self.login_room = 0
        self.kernel = 0
        self.queued = 0
        self.out_bytes = 0
        self.text_bytes = 6000
        self.name = ""
        self.cuts = False

    # --- what core calls

    def push(self, event: Event) -> int:
        if self.cuts and isinstance(event, Deliver):
            event.is_cut = True
        if not self.closed:
            self.events.append(event)
            self.queued += FRAME_BYTES
            self.ending_at[self.queued] = event
        return self.queued

    def replace(self, end: int, event: Event) -> list[tuple[int, int]]:
        """What the other side has not received is taken to be queued."""
        old = self.ending_at.get(end)
        place = next((place for place, one in enumerate(self.events) if one is old), None)
        if end <= self.kernel or place is None:
            return []
        self.events[place] = self.ending_at[end] = event
        return [(end, 0)]

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        return min(self.login_room, len(event.waiting)), self.push(event)

    def is_cut(self, event: Deliver) -> bool:
        return self.cuts

    def received(self) -> int:
        return self.kernel

    def settle(self, session: Session) -> None:
        """A peer of these tests has no connection that could outlive its session."""
        self.worker.core.check_receipts(session, final=True)

    def close(self, reason: Disconnect) -> None:
        if not self.closed:
            self.worker.core.logins.left(self)
            self.closed, self.reason = True, reason

    # --- what a test does

    async def do(self, command: Command) -> None:
        work = self.worker.core.handle(self, command)
        if work is not None:
            await work

    async def login(self, name: str, first_login_time: int = 0, features: Feature | None = None) -> Peer:
        self.name = name
        await self.do(Login(name, 0, "", first_login_time, features=features))
        return self

    def send(self, to: str | int, body: str, fp: str = "", *, qos: bool = True) -> None:
        """`to`: a user's name or a group's number."""
        name, group = (to, 0) if isinstance(to, str) else ("", to)
        assert self.worker.core.handle(self, SendMessage(name, 0, group, body, fp, qos)) is None

    async def make_group(self, name: str = "team") -> int:
        await self.do(CreateGroup(name, ""))
        return self.told(GroupReady)[-1].group.id

    async def join(self, group: int) -> None:
        await self.do(JoinGroup(group))

    def acknowledge(self, fp: str) -> None:
        assert self.worker.core.handle(self, Acknowledge(fp)) is None

    def read_all(self) -> None:
        """The other side's kernel has everything."""
        self.kernel = self.queued

    def leave(self) -> None:
        self.close(Disconnect.PEER_LEFT)

    # --- what it was told

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def given(self) -> list[Deliver]:
        return self.told(Deliver)

    @property
    def messages(self) -> list[Message]:
        """With those that came in the login answer, in the order of arrival."""
        found: list[Message] = []
        for event in self.events:
            if isinstance(event, Deliver):
                found.append(event.message)
            elif isinstance(event, LoginAccepted):
                found += event.waiting[: self.login_room]
        return found

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.messages]

    @property
    def failures(self) -> list[ErrorCode]:
        return [event.code for event in self.told(Failed)]

    @property
    def accepted(self) -> list[int]:
        return [event.seq for event in self.told(Accepted)]

    @property
    def logged_in(self) -> bool:
        return self.session is not None and not self.closed


class Clock:
    """The running loop, `ahead_s` later."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ahead_s = 0.0

    def time(self) -> float:
        return self._loop.time() + self.ahead_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Worker:
    def __init__(self, stage: Stage, tables: Tables, plugins: Sequence[tuple[PluginOptions, object]]) -> None:
        self.stage = stage
        self.tables = tables
        self.row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        self.bus = stage.exchange.bus()
        self.slot = self.bus.slot
        loaded = [Plugin(hook, made, stage.clock) for hook, made in plugins]
        self.core = Core(
            CoreParts(
                tables=tables,
                bus=self.bus,
                plugins=loaded,
                config=lambda: stage.config,
                row=self.row,
                penalty_table=stage.penalty_table,
                tokens=stage.tokens,
                backend=stage.backend,
                loop=stage.clock,
            )
        )

    def peer(self, protocol: Protocol = Protocol.MOBILEIMSDK) -> Peer:
        return Peer(self, protocol)

    async def mobile(self, name: str, first_login_time: int = 0) -> Peer:
        return await self.peer(Protocol.MOBILEIMSDK).login(name, first_login_time)

    async def desk(self, name: str) -> Peer:
        return await self.peer(Protocol.CHATSERVER).login(name)

    async def close(self) -> None:
        await self.core.store.settle()
        self.core.plugins.close()
        self.core.store.close()
        await self.bus.close()


class Stage:
    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self.config = Config(accounts=OPEN, limits=NO_RATES)
        self.clock = Clock(asyncio.get_running_loop())
        self.exchange = Exchange()
        self.penalty_table = PenaltyTable(sets=8)
        self.tokens: Tokens | None = None
        self.backend: BackendLogins | None = None
        """Of workers made from now on."""
        self.workers: list[Worker] = []
        self._path = path
        self._stack = stack

    def limit(self, **limits: int) -> None:
        self.config = msgspec.structs.replace(self.config, limits=msgspec.structs.replace(NO_RATES, **limits))

    def time_out(self, **timeouts: float) -> None:
        self.config = msgspec.structs.replace(
            self.config, timeouts=msgspec.structs.replace(TimeoutOptions(), **timeouts)
        )

    def account(self, **settings: Any) -> None:
        """For workers made from now on."""
        accounts = msgspec.structs.replace(self.config.accounts, **settings)
        self.config = msgspec.structs.replace(self.config, accounts=accounts)

    def people(self, **settings: Any) -> None:
        """What users accept who have not chosen."""
        people = msgspec.structs.replace(self.config.people, **settings)
        self.config = msgspec.structs.replace(self.config, people=people)

    async def worker(
        self,
        wrap: Callable[[Tables], Tables] = lambda tables: tables,
        plugins: Sequence[tuple[PluginOptions, object]] = (),
    ) -> Worker:
        """plugins: each with its table of the configuration."""
        worker = Worker(self, wrap(open_tables(StoreLocation(path=self._path), 2.0, create=True)), plugins)
        self._stack.push_async_callback(worker.close)
        await worker.core.open()
        self.workers.append(worker)
        return worker

    def tick(self) -> None:
        for worker in self.workers:
            worker.core.tick()

    async def until(self, what: str, state: Callable[[], T]) -> T:
        """The first true value of `state`, while the workers' clocks tick."""

        def ticked() -> T:
            self.tick()
            return state()

        return await deadline.until(DEADLINE_S, what, ticked, 0.002)

    async def settled(self) -> None:
        """Everything asked for so far is stored, told, and read again where somebody was behind."""
        for _ in range(3):
            for worker in self.workers:
                await worker.core.store.settle()
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        self.clock.ahead_s += seconds
        for worker in self.workers:
            worker.core.delivery.in_flight.resend()
        await asyncio.sleep(0)


def play(path: Path, story: Callable[[Stage], Coroutine[Any, Any, T]]) -> T:
    """Run the story; whatever it left open is closed."""

    async def whole() -> T:
        async with AsyncExitStack() as stack:
            return await story(Stage(path / "chatd.db", stack))

    return deadline.run(whole(), 60.0)
