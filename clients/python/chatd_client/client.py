"""The client of a program: open it, send, take messages, ask.

Owns: the public methods, and what a program may pass to them.
Elsewhere: everything behind them (session and its parts).
Fails: ChatError and its subclasses; ValueError for an argument that can never be right.
"""

from __future__ import annotations

import asyncio
import time
import types
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Literal, TypedDict, TypeVar, Unpack

from chatd_client.address import parse_url
from chatd_client.errors import ClientClosed, NotAcknowledged
from chatd_client.events import AnyEvent
from chatd_client.files import Home
from chatd_client.model import Destination, Message, PendingMessage, Sent, User
from chatd_client.operations import Operations
from chatd_client.options import Options, Secret
from chatd_client.session import Session
from chatd_client.state import State

T = TypeVar("T")


class MessageFields(TypedDict, total=False):
    """What a message may have besides its text.

    reply: the seq of the message of the same conversation that it answers. mentions: names or numbers of members of the
    group, or "all". typeu: the application's own sub-type. files: ids of files of the user that were
    uploaded and not sent; the text may be empty then. fp: its id, by which the server stores it once, however often it
    is sent; one is made if there is none. timeout_s: in place of Timing.send_s.
    """

    reply: int
    mentions: Sequence[str | int] | Literal["all"]
    typeu: int
    files: Sequence[str]
    fp: str
    timeout_s: float


class Client(Operations):
    """Use as an async context manager:

        async with Client("tls://chat.example.org:8901", "bot", password="…") as chat:
            await chat.send("alice", "hello")
            async for message in chat.messages():
                ...

    Entering returns once logged in, and ends the user's other session on this wire. From then on the client comes back
    by itself after every disconnect, until it is closed or the server ends it (State.CLOSED).

    All methods belong to one event loop. friends, blocks, privacy, profiles, presence, groups, conversations, files,
    account: the operations of the server, by subject.
    """

    def __init__(
        self, url: str, name: str, *, password: str = "", token: Secret = "", options: Options | None = None
    ) -> None:
        """url: tcp://, tls://, ws:// or wss://, HOST:PORT, of a mobileimsdk listener. password or token: the secret; a
        token may be a coroutine function, which is called for each login. Raises ValueError."""
        if bool(password) == bool(token):
            raise ValueError("give a password or a token")
        options, address = options or Options(), parse_url(url)
        self._session = session = Session(address, name, password or token, options)
        home = Home(url=options.http, origin=address.origin, context=options.tls, authorities=options.ca)
        super().__init__(session.requests, session.use_secret, home)
        session.on_live.append(self.presence.watch_again)
        self._send_s = options.timing.send_s

    async def __aenter__(self) -> Client:
        """Raises Unreachable, LoginRefused, Kicked, JournalUnusable."""
        await self._session.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Logs out. Without an error, it first waits for acknowledgements (Timing.settle_s), and the message that was
        taken last counts as taken."""
        await self._session.close(settle=error is None)

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def me(self) -> User:
        """The user; the number is known once logged in."""
        return self._session.me

    @property
    def features(self) -> tuple[str, ...]:
        """What chatd has granted of Options.features."""
        return self._session.features

    @property
    def unacknowledged(self) -> int:
        """Messages in the outbox."""
        return len(self._session.sender.outbox)

    # ------------------------------------------------------------ sending

    async def send(self, to: str | int, text: str, **fields: Unpack[MessageFields]) -> Sent:
        """Returns once the message is durably stored. to: a user's name or number, or "#" and the number of a group.

        The message is sent over as many connections as this takes, and stored once. Messages to one recipient are
        stored in the order of the calls. Cancelling the call does not take the message back.

        Raises Refused (nothing was stored), NotAcknowledged (it is still sent), Overloaded, SessionEnded.
        """
        mentions = fields.get("mentions", ())
        message = PendingMessage(
            fp=fields.get("fp") or uuid.uuid4().hex,
            to=Destination.of(to),
            text=text,
            written_at_ms=int(time.time() * 1000),
            reply=fields.get("reply", 0),
            mentions=mentions if mentions == "all" else tuple(mentions),
            typeu=fields.get("typeu", -1),
            files=tuple(fields.get("files", ())),
        )
        stored = self._session.send(message)
        try:
            async with asyncio.timeout(fields.get("timeout_s", self._send_s)):
                return await asyncio.shield(stored)
        except TimeoutError:
            raise self._session.given_up(message.fp) or NotAcknowledged(
                f"not acknowledged in time, and still sent: {text[:40]}", message.fp
            ) from None

    async def reply(self, to: Message, text: str, **fields: Unpack[MessageFields]) -> Sent:
        """Answer a message in its conversation. As send()."""
        fields.setdefault("reply", to.seq)
        return await self.send(to.conversation, text, **fields)

    # ------------------------------------------------------------ receiving

    async def messages(self) -> AsyncIterator[Message]:
        """Every message to the user, once, each conversation in order. A message counts as taken when the next one is
        asked for, or the client is closed without an error; then it is acknowledged. Ends when the client is closed.

        Raises SessionEnded if the server ends the session; what was not taken waits for the next login.
        """
        while True:
            try:
                message = await self._session.inbox.next()
            except ClientClosed:
                return
            yield message

    async def receive(self, timeout_s: float | None = None) -> Message:
        """The next message. The one before it counts as taken. Raises SessionEnded, and TimeoutError, after which
        nothing is lost."""
        async with asyncio.timeout(timeout_s):
            return await self._session.inbox.next()

    async def events(self) -> AsyncIterator[AnyEvent]:
        """What happens besides messages, as structs of chatd_client.events: notices of the server, and changes of the
        state. They are not stored: nothing that happened while the client was away is among them, but what still waits
        for an answer. Ends when the client is closed. Raises SessionEnded."""
        while True:
            try:
                event = await self._session.feed.next()
            except ClientClosed:
                return
            yield event

    # ------------------------------------------------------------ asking

    async def request(self, op: str, shape: type[T], **arguments: object) -> T:
        """An operation of the server, or of its plug-ins, by name; the result is read as `shape`. `with_` stands for
        the argument "with"; arguments that are None are left out. Raises Refused, NoAnswer, Overloaded and
        SessionEnded."""
        return await self._session.requests.ask(op, shape, **arguments)
