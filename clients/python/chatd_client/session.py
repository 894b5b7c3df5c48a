"""Stay logged in on the mobileimsdk wire: one connection after the other, and nothing lost or given twice in between.

Owns: when to log in, log in again, and give up; the states; signs of life; how everything that the server says is
handled.
Elsewhere: connections (connector), sending messages (sender), requests (requests), what the caller takes (inbox), what
is remembered (memory).
Fails: SessionEnded and Unreachable from open(). Later, the error that ended the session is raised by everything that
waits.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from pathlib import Path
from typing import Any

import msgspec

from chatd_client import packets
from chatd_client.address import ServerAddress
from chatd_client.connector import Connector
from chatd_client.errors import (
    ChatError,
    ClientClosed,
    Code,
    EndReason,
    Kicked,
    LoginRefused,
    SessionEnded,
    Unreachable,
    UntrustedServer,
    is_temporary,
    login_refusal,
    refusal,
)
from chatd_client.events import AnyNotice, Draining, JournalLost, SendRefused, StateChanged
from chatd_client.feed import Feed
from chatd_client.inbox import Inbox
from chatd_client.link import Link
from chatd_client.memory import Memory, open_journal
from chatd_client.model import Answer, Message, PendingMessage, Sent, User
from chatd_client.options import Options, Secret
from chatd_client.requests import Requests
from chatd_client.seen import Shown
from chatd_client.sender import Sender
from chatd_client.state import State, StateMachine
from chatd_client.stream_link import LengthFraming, StreamLink, StreamRoute

RECENT_FPS = 10_000
"""Fps of answers, notices and messages without a number that are remembered, to know copies."""
AFTER_MANY_ATTEMPTS_S = 30.0
"""The pause after a login was refused because of too many attempts."""


class Session:
    """me: the user. features: those that the server has granted at the last login."""

    def __init__(self, address: ServerAddress, name: str, secret: Secret, options: Options) -> None:
        self.me = User(0, name)
        self.features: tuple[str, ...] = ()
        self.on_live: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Run after each login."""
        self._secret = secret
        self._options = options
        self._timing = timing = options.timing
        self._states = StateMachine(self._state_changed)
        self._address = msgspec.structs.replace(address, authorities=options.ca) if options.ca else address
        self._connector = Connector(str(address), self._open_link, timing, self)
        self.sender = Sender(timing.answer_s, self)
        self.requests = Requests(timing.answer_s, self._encode_request)
        self.inbox = Inbox(options.inbox_messages, self._taken)
        self.feed = Feed(options.feed_events)
        self._sent: dict[str, asyncio.Future[Sent]] = {}
        """Messages whose sender waits, by fp."""
        self._put_off: dict[str, tuple[int, str]] = {}
        """The last temporary refusal of such a message: code and text."""
        self._acks: dict[Hashable, bytes] = {}
        """How the messages in the inbox are acknowledged."""
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._first_login_time = 0
        self._live = asyncio.Event()
        self._live_since = 0.0
        self._heard_at = 0.0
        self._refusals = 0
        """Logins refused in a row although the secret was fresh."""
        self._ended: ChatError | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        """That of the login, and of the next sign of life."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self.requests.end(ClientClosed("the client is not open"))

    @property
    def state(self) -> State:
        return self._states.state

    def _state_changed(self, state: State, why: str) -> None:
        (self._live.set if state in (State.LIVE, State.CLOSED) else self._live.clear)()
        self.feed.put(StateChanged(state, why))

    # ------------------------------------------------------------ opening and closing

    async def open(self) -> None:
        """Returns once logged in. Raises Unreachable, LoginRefused, Kicked, JournalUnusable."""
        if self._keeper is not None:
            raise ClientClosed("a client is opened once: make a new one")
        self.sender.open(self._open_memory())
        self.requests.begin()
        self._keeper = self._start(self._connector.keep())
        connecting = self._start(self._ask_for_connection())
        try:
            async with asyncio.timeout(self._timing.enter_s):
                await self._live.wait()
        except TimeoutError:
            why = self._connector.why or "no answer"
            self._end(Unreachable(f"cannot log in at {self._address}: {why}"))
        except BaseException:
            self._end(ClientClosed("closed before the login"))
            raise
        finally:
            connecting.cancel()
            if self._ended is not None:
                await self._stop()
        if self._ended is not None:
            raise self._ended

    async def _ask_for_connection(self) -> None:
        try:
            await self._connector.connect()
        except UntrustedServer as error:
            self._end(error)
        except Unreachable:
            pass  # the connector goes on trying; open() ends it

    def _open_memory(self) -> Memory:
        path = self._options.journal
        if path is None:
            return Memory(None)
        return open_journal(Path(path), self.me.name, lambda text: self.feed.put(JournalLost(text)))

    async def close(self, *, settle: bool) -> None:
        """Log out and disconnect. settle: first wait for acknowledgements, at most timing.settle_s from one to the
        next; what the caller has taken last counts as taken."""
        if settle and self._ended is None:
            self.inbox.finish()
            await self.sender.outbox.shrink_to(0, self._timing.settle_s)
        link = self._connector.link
        if self.state is State.LIVE and link is not None:
            link.send(packets.logout(self.me))
        self._end(ClientClosed("the client is closed"))
        await self._stop()

    async def _stop(self) -> None:
        await self._connector.finish()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.sender.close()

    def _end(self, why: ChatError) -> None:
        """The session does not come back."""
        if self._ended is not None:
            return
        self._ended = why
        self._cancel_timers()
        self.sender.stop()
        self.requests.end(why)
        self.inbox.end(why)
        for future in self._sent.values():
            if not future.done():
                future.set_exception(why)
        self._states.enter(State.CLOSED, why.text)
        self.feed.end(why)
        self._connector.release()
        if not isinstance(why, ClientClosed):
            self._connector.drop()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        """A task that fails for a reason that nobody foresaw ends the session, so that nobody waits for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            why = SessionEnded(f"a bug in the client: {error!r}")
            why.__cause__ = error
            self._end(why)

    # ------------------------------------------------------------ connections (connector.ConnectionUser)

    @property
    def stays(self) -> bool:
        return self._ended is None

    async def _open_link(self) -> Link:
        route = StreamRoute(address=self._address, timeout_s=self._timing.connect_s, context=self._options.tls)
        if not self._address.path:
            return await StreamLink.open(route, LengthFraming())
        # Only here: a program without WebSocket does not load the library.
        from chatd_client.websocket_link import WebSocketLink

        return await WebSocketLink.open(route)

    async def before_connecting(self) -> None:
        await self.inbox.has_room.wait()
        self._states.enter(State.CONNECTING)

    def attached(self, link: Link) -> None:
        self._start(self._log_in(link))
        self._timers["login"] = asyncio.get_running_loop().call_later(self._timing.answer_s, self._connector.drop)

    async def _log_in(self, link: Link) -> None:
        try:
            secret = self._secret if isinstance(self._secret, str) else await self._secret()
        except Exception as error:  # noqa: BLE001  # the program's own function; it is asked again
            self._connector.why = f"no token: {error}"
            link.abort()
            return
        wishes = packets.LoginWishes(
            name=self.me.name,
            secret=secret,
            first_login_time=self._first_login_time,
            features=self._options.features,
            extra=self._options.extra,
        )
        link.send(packets.login(wishes))

    def use_secret(self, secret: str) -> None:
        """The next connection logs in with it."""
        if isinstance(self._secret, str):
            self._secret = secret

    def detached(self, why: str) -> float:
        was_live = self.state is State.LIVE
        self._cancel_timers()
        self.sender.stop()
        self.requests.stop()
        if self._ended is None:
            self._states.enter(State.WAITING, why)
        return asyncio.get_running_loop().time() - self._live_since if was_live else 0.0

    def pausing(self, why: str) -> None:
        if self._ended is None:
            self._states.enter(State.WAITING, why)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def unanswered(self) -> None:
        """See SenderUser."""
        self._connector.drop()

    def _sign_of_life(self, link: Link) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._heard_at > self._timing.keep_alive_s + self._timing.answer_s:
            link.abort()
            return
        link.send(packets.keep_alive(self.me))
        self._timers["life"] = asyncio.get_running_loop().call_later(
            self._timing.keep_alive_s, self._sign_of_life, link
        )

    # ------------------------------------------------------------ what the server says

    def take(self, frame: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        match packets.decode(frame):
            case packets.Received(content, fp, ack):
                if isinstance(content, Message):
                    self._on_message(content, ack)
                else:
                    self._on_server_text(content, fp, ack)
            case packets.Stored(fp, seq, at_ms):
                self.sender.acknowledged(fp, seq, at_ms)
            case packets.PacketRefused(code, text, fp):
                self._on_refusal(code, text, fp)
            case packets.LoginAnswered() as answer:
                self._on_login(answer)
            case packets.SessionKicked(why, text):
                self._on_kick(Kicked(why, text))

    def _on_login(self, answer: packets.LoginAnswered) -> None:
        link = self._connector.link
        if link is None or self._ended is not None:
            return
        if answer.code:
            self._login_refused(answer.code)
            return
        self._cancel_timers()
        self._refusals = 0
        self._first_login_time = answer.first_login_time
        self.features = answer.features or ()
        self.me = User(answer.id, self.me.name)
        self._live_since = asyncio.get_running_loop().time()
        self._states.enter(State.LIVE)
        self._sign_of_life(link)
        self.sender.start(lambda message: link.send(packets.message(self.me, message)))
        self.requests.start(link.send)
        for hook in self.on_live:
            self._start(hook())

    def _login_refused(self, code: int) -> None:
        """After a temporary refusal the next connection tries again. So it does, once, where the secret is asked for at
        each login: this one may have expired on its way."""
        fresh = not isinstance(self._secret, str) and code in (Code.BAD_CREDENTIALS, Code.TOKEN_EXPIRED)
        self._connector.why = f"the login is refused: {login_refusal(code)}"
        if code == Code.TOO_MANY_ATTEMPTS:
            self._connector.hold_off(AFTER_MANY_ATTEMPTS_S)
        if is_temporary(code) or (fresh and not self._refusals):
            self._refusals += fresh
            self._connector.drop()
        else:
            self._end(LoginRefused(f"{self.me.name} cannot log in: {login_refusal(code)}", code=code))

    def _on_kick(self, kicked: Kicked) -> None:
        if kicked.why is EndReason.EXPIRED and not isinstance(self._secret, str):
            self._connector.drop()  # with a new token
        else:
            self._end(kicked)

    def _on_refusal(self, code: int, text: str, fp: str) -> None:
        if code == Code.NOT_LOGGED_IN:
            self._connector.drop()  # the server and we disagree: reconnect, which loses nothing
        elif fp and not self.requests.refused(fp, code, text):
            if fp in self._sent and is_temporary(code):
                self._put_off[fp] = code, text
            self.sender.answered_no(code, text, fp)

    def _on_server_text(self, content: Answer | AnyNotice | None, fp: str, ack: bytes) -> None:
        if ack:
            self._send(ack)
        if fp and self._is_copy(fp):
            return
        match content:
            case Answer():
                self.requests.answered(content)
            case Draining(_, retry_after_ms):
                self._connector.hold_off(retry_after_ms / 1000)
                self.feed.put(content)
            case None:
                pass
            case _:
                self.feed.put(content)

    def _is_copy(self, fp: str) -> bool:
        """Whether it came before; now it has."""
        if fp in self._recent:
            return True
        self._recent[fp] = None
        if len(self._recent) > RECENT_FPS:
            self._recent.popitem(last=False)
        return False

    # ------------------------------------------------------------ messages to the caller

    def _on_message(self, message: Message, ack: bytes) -> None:
        key: Hashable = (message.conversation_id, message.seq) if message.seq else (message.sender, message.fp)
        if self.inbox.holds(key):
            self._acks[key] = ack
        elif self.sender.memory.has(_shown(message)) or (not message.seq and message.fp in self._recent):
            self._send(ack)
        elif self.inbox.put(key, message):
            self._acks[key] = ack
        else:
            self._connector.why = "messages come faster than they are taken"
            self._connector.drop()

    def _taken(self, key: Hashable, message: Message) -> None:
        """The caller has it: remembered first, acknowledged second, so that it is not given again if the
        acknowledgement is lost."""
        if message.seq:
            self.sender.memory.showed(_shown(message), self.sender.outbox)
        elif message.fp:
            self._is_copy(message.fp)
        self._send(self._acks.pop(key, b""))

    def _send(self, packet: bytes) -> None:
        """Now or never: what is sent here is asked for again by the server, if it is lost."""
        link = self._connector.link
        if packet and link is not None and self.state is State.LIVE:
            link.send(packet)

    # ------------------------------------------------------------ messages of the caller (sender.SenderUser)

    def send(self, message: PendingMessage) -> asyncio.Future[Sent]:
        """Hand over a message: from here it is sent until the server acknowledges or refuses it. The same fp again is
        the same message. Raises Invalid, Overloaded, SessionEnded."""
        if self._ended is not None or self._keeper is None:
            raise self._ended or ClientClosed("the client is not open")
        known = self.sender.outbox.get(message.fp)
        if known is not None and (known.to, known.text) != (message.to, message.text):
            raise refusal(Code.FP_REUSED, "this fp is already used for another message", fp=message.fp)
        if known is None:
            self.sender.check_room(message.text)
        if message.fp not in self._sent:
            self._sent[message.fp] = asyncio.get_running_loop().create_future()
        future = self._sent[message.fp]
        if known is None:
            self.sender.add(message)
        return future

    def given_up(self, fp: str) -> ChatError | None:
        """Nobody waits for this message any more. The error if the server has put it off: it is then not sent."""
        self._sent.pop(fp, None)
        put_off = self._put_off.pop(fp, None)
        if put_off is None or not self.sender.withdraw(fp):
            return None
        return refusal(*put_off, fp=fp, retry_after=self._timing.answer_s)

    def stored(self, message: PendingMessage, seq: int, at_ms: int) -> None:
        """See SenderUser."""
        self._put_off.pop(message.fp, None)
        future = self._sent.pop(message.fp, None)
        if future is not None and not future.done():
            future.set_result(Sent(conversation=message.to.place, seq=seq, sent_at_ms=at_ms, fp=message.fp))

    def refused(self, message: PendingMessage, code: int, text: str) -> None:
        """See SenderUser."""
        self._put_off.pop(message.fp, None)
        future = self._sent.pop(message.fp, None)
        if future is None:  # of an earlier run, or nobody waits any more
            self.feed.put(SendRefused(message=message, code=code, text=text))
        elif not future.done():
            future.set_exception(refusal(code, text, fp=message.fp))

    def _encode_request(self, op: str, ref: int, fp: str, arguments: Any) -> bytes:
        return packets.request(self.me, op, ref, fp, arguments)


def _shown(message: Message) -> Shown:
    """By what a message is known again: edits change its text, but neither its fp nor its time."""
    digest = zlib.crc32(f"{message.sender}\0{message.sent_at_ms}".encode("utf-8", "replace"))
    return Shown(message.conversation_id, message.seq, digest, f"{message.sent_at_ms:016d}")
