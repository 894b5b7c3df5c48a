"""Stay logged in on the chatserver wire: one connection after the other, and nothing lost or given twice in between.

Owns: when to log in, log in again, leave; how each frame of the server is handled.
Elsewhere: connections (connector), sending messages (sender), requests (requests), single commands (calls), what a
program makes of it (the Listener).
Fails: ChatError, one line for the person who asked. Events that no command waits for are told to the Listener.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from chatd_client import events as notices
from chatd_client.address import ServerAddress
from chatd_client.chatserver import frames, outgoing
from chatd_client.chatserver.acknowledger import Acknowledger
from chatd_client.chatserver.calls import Calls
from chatd_client.chatserver.events import ConnectionLost, Disagreement, Listener, LoggedIn, LoggedOut
from chatd_client.chatserver.frames import Event, Msg, is_passing, text_of
from chatd_client.connector import Connector
from chatd_client.errors import Broken, ClientClosed, Code, LoginRefused, NotLoggedIn, Unreachable, refusal
from chatd_client.link import Link
from chatd_client.memory import Memory
from chatd_client.model import Answer, PendingMessage, User
from chatd_client.requests import Requests
from chatd_client.sender import Sender, one_lane
from chatd_client.stream_link import NulFraming, StreamLink, StreamRoute
from chatd_client.timing import Backoff, Timing

UNREADABLE = (Code.TOO_LONG, Code.INVALID_PACKET)
"""Error codes after which the server closes the connection."""

OpenMemory = Callable[[int], Memory]
"""The user's number -> what is remembered of this user; called at each first login."""


class Credentials(msgspec.Struct, frozen=True):
    who: str
    password: str


class Session:
    """user: who is logged in, also while the client comes back. online: logged in on the present connection. user
    without online: coming back."""

    def __init__(self, address: ServerAddress, listener: Listener, open_memory: OpenMemory, timing: Timing) -> None:
        self.address = address
        self.user: User | None = None
        self.online = False
        self._listener = listener
        self._open_memory = open_memory
        self._timing = timing
        self._route = StreamRoute(address=address, timeout_s=timing.connect_s, option="--ca")
        self.connector = Connector(str(address), self._open_link, timing, self)
        self.sender = Sender(timing.answer_s, self, one_lane)
        self.requests = Requests(timing.answer_s, outgoing.request)
        self.calls = Calls(self.connector, timing)
        self._credentials: Credentials | None = None
        """With which the client comes back; None while logged out."""
        self._attempt = Credentials("", "")
        """Those of the login that waits for its answer."""
        self._ready = asyncio.Event()
        self._online_since = 0.0
        self._login_timer: asyncio.TimerHandle | None = None
        self._retry_after_s: float | None = None
        """The server has announced the end of this connection (draining), and is then left alone for so long."""
        self._acknowledger = Acknowledger()
        self._memory_of = 0
        """The user whose memory is open: also after the logout, until the next login."""

    # ------------------------------------------------------------ connections (connector.ConnectionUser)

    @property
    def stays(self) -> bool:
        return self._credentials is not None

    async def _open_link(self) -> Link:
        return await StreamLink.open(self._route, NulFraming())

    async def before_connecting(self) -> None:
        """See ConnectionUser: there is nothing to wait for."""

    def pausing(self, why: str) -> None:
        """See ConnectionUser: the listener knows already."""

    def attached(self, link: Link) -> None:
        """Log in again. Never with takeover: two clients would end each other's sessions for ever."""
        if self._credentials is not None:
            link.send(outgoing.login(self._credentials.who, self._credentials.password))
            self._login_timer = asyncio.get_running_loop().call_later(self._timing.answer_s, self.connector.drop)

    def detached(self, why: str) -> float:
        was_online, self.online = self.online, False
        retry_after_s, self._retry_after_s = self._retry_after_s, None
        self._acknowledger.stop()
        self.requests.stop()
        self._ready.clear()
        self._stop_login_timer()
        self.sender.stop()
        doubtful = self.calls.lost(why)
        if not was_online:
            return 0.0
        self._listener.happened(ConnectionLost(why=why, doubtful=doubtful, retry_after_s=retry_after_s))
        self._listener.changed()
        return time.monotonic() - self._online_since

    def _stop_login_timer(self) -> None:
        if self._login_timer is not None:
            self._login_timer.cancel()
            self._login_timer = None

    # ------------------------------------------------------------ accounts

    async def register(self, name: str, password: str) -> int:
        """See Client."""
        answer = await self.calls.ask((Msg.REGISTER,), outgoing.register(name, password))
        if isinstance(answer, frames.RegisterAnswer) and answer.errno == 0:
            return answer.user_id
        why = text_of(answer) or "the name is taken or not allowed"
        raise refusal(frames.code_of(answer), f"cannot register {name}: {why}")

    async def login(self, who: str, password: str, *, takeover: bool = False) -> User:
        """See Client."""
        await self.logout()
        pause = Backoff(0.2, 1.0)
        give_up_at = time.monotonic() + self._timing.taken_s
        self._attempt = Credentials(who, password)
        while True:
            answer = await self._ask_login(takeover)
            if self.user is not None:
                return self.user
            if not is_passing(answer) or time.monotonic() > give_up_at:
                why = text_of(answer) or "unknown user or wrong password"
                raise LoginRefused(f"cannot log in as {who}: {why}", code=frames.code_of(answer))
            await asyncio.sleep(pause.next_s())

    async def _ask_login(self, takeover: bool) -> Event:
        """An idle connection may just be closing: then ask again on a new one."""
        frame = outgoing.login(self._attempt.who, self._attempt.password, takeover=takeover)
        try:
            return await self.calls.ask((Msg.LOGIN,), frame)
        except Broken:
            return await self.calls.ask((Msg.LOGIN,), frame)

    def password_changed(self, password: str) -> None:
        """The next connection logs in with it."""
        if self._credentials is not None:
            self._credentials = msgspec.structs.replace(self._credentials, password=password)

    async def logout(self) -> None:
        """See Client."""
        if self.user is None:
            return
        await self.settle()
        self._log_out()

    def _log_out(self) -> None:
        link = self.connector.link
        if self.online and self.user is not None and link is not None:
            link.send(outgoing.logout(self.user))
        elif self.user is not None:
            self.connector.drop()
        self._forget_login()

    def _forget_login(self) -> None:
        """The memory stays until the next login: messages under way to us still arrive, and must be remembered."""
        self._credentials = None
        self.user = None
        self.online = False
        self._ready.clear()
        self._stop_login_timer()
        self.sender.stop()
        self.requests.end(ClientClosed("logged out before the answer"))
        if self.connector.link is None:
            self.connector.release()
        self._listener.changed()

    async def leave(self) -> None:
        """See Client."""
        self._log_out()
        await self.connector.finish()
        self.sender.close()

    def require_login(self) -> User:
        """The user who is logged in. Raises NotLoggedIn."""
        if self.user is None:
            raise NotLoggedIn
        return self.user

    # ------------------------------------------------------------ what is sent

    def send(self, message: PendingMessage) -> None:
        """Hand over a message: from here it is sent until the server acknowledges or refuses it. Raises NotLoggedIn,
        Invalid, Overloaded."""
        self.require_login()
        self.sender.check_room(message.text)
        self.sender.add(message)

    async def settle(self, count: int = 0) -> bool:
        """See Client."""
        return await self.sender.outbox.shrink_to(count, self._timing.settle_s)

    async def tell(self, frame: bytes, what: str) -> None:
        """Send a command that this wire does not answer, other than with a refusal. Raises Unreachable."""
        self.calls.tell(await self.wait_ready(), frame, what)

    async def wait_ready(self) -> Link:
        """The connection, once logged in. Raises Unreachable."""
        try:
            async with asyncio.timeout(self._timing.answer_s):
                while not self.online or self.connector.link is None:
                    await self._ready.wait()
        except TimeoutError:
            raise Unreachable(f"not done: no connection to {self.address} ({self.connector.why})") from None
        return self.connector.link

    def _transmit(self, message: PendingMessage) -> None:
        link = self.connector.link
        assert link is not None
        assert self.user is not None
        link.send(outgoing.chat(self.user, message, time.strftime("%Y-%m-%d %H:%M:%S")))

    # ------------------------------------------------------------ what the server says

    def take(self, frame: bytes) -> None:
        event = frames.decode(frame)
        if event is not None:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case frames.Chat():
                self._give(event)
            case frames.MessageAck(fp, seq):
                self.sender.acknowledged(fp, seq)
            case Answer():
                self.requests.answered(event)
            case frames.Notice():
                self._on_notice(event)
            case frames.ErrorAnswer():
                self._on_refusal(event)
            case frames.LoginAnswer():
                self._on_login(event)
            case frames.RegisterAnswer():
                self.calls.answered(event, Msg.REGISTER)
            case frames.GroupAck():
                self._listener.happened(event)
                self.calls.answered(event, Msg.CREATE_GROUP, Msg.JOIN_GROUP)
            case frames.FriendRequestNotice() | frames.FriendReplyNotice():
                self._listener.happened(event)

    def _give(self, chat: frames.Chat) -> None:
        """Given first, remembered second, acknowledged last: a client killed in between is given it again rather than
        never."""
        shown = frames.shown(chat, self._memory_of)
        if not self.sender.memory.has(shown):
            self._listener.message(chat)
            self.sender.memory.showed(shown, self.sender.outbox)
        self._acknowledger.shown(chat)

    def _on_notice(self, notice: frames.Notice) -> None:
        known = notices.decode(notice.frame)
        if isinstance(known, notices.Draining):
            self._retry_after_s = known.retry_after_ms / 1000
            self.connector.hold_off(self._retry_after_s)
        if known is not None:
            self._listener.happened(known)

    def _on_login(self, answer: frames.LoginAnswer) -> None:
        asked = self.calls.waits_for(Msg.LOGIN)
        if not answer.errno and (asked or self._credentials is not None):
            self._logged_in(answer, first=asked)
        elif not asked:
            self._login_again_refused(answer)
        self.calls.answered(answer, Msg.LOGIN)

    def _logged_in(self, answer: frames.LoginAnswer, first: bool) -> None:
        link = self.connector.link
        assert link is not None
        self.user = answer.user
        self.online = True
        if answer.acks:
            self._acknowledger.start(link.send)
        self._online_since = time.monotonic()
        self._stop_login_timer()
        again = 0
        if first:
            self._credentials = self._attempt
            self.sender.close()
            self._memory_of = answer.user.id
            again = self.sender.open(self._open_memory(answer.user.id))
        if not answer.requests:
            self.requests.refuse_all()
        self._listener.happened(
            LoggedIn(
                user=answer.user,
                again=not first,
                friends=answer.friends,
                groups=answer.groups,
                sent_again=again,
                newest_seen=self.sender.memory.newest_shown() if answer.requests else {},
            )
        )
        self._listener.changed()
        for event in answer.waiting:
            self._take(event)
        self._ready.set()
        if answer.requests:
            self.requests.start(link.send)
        self.sender.start(self._transmit)

    # ------------------------------------------------------------ what becomes of messages (sender.SenderUser)

    def stored(self, message: PendingMessage, seq: int, at_ms: int) -> None:
        """Nothing is told: see Client.settle()."""

    def refused(self, message: PendingMessage, code: int, text: str) -> None:
        self._listener.happened(notices.SendRefused(message=message, code=code, text=text))

    def unanswered(self) -> None:
        self.connector.drop()

    # ------------------------------------------------------------ refusals

    def _login_again_refused(self, answer: frames.LoginAnswer | frames.ErrorAnswer) -> None:
        """After a temporary refusal the next connection tries again; a final one ends the login."""
        if self._credentials is not None and not is_passing(answer):
            self._over(text_of(answer), elsewhere=False)
        self.connector.drop()

    def _on_refusal(self, refusal: frames.ErrorAnswer) -> None:
        if refusal.errno == Code.NOT_LOGGED_IN and self.online:
            self.connector.drop()  # the server and we disagree: reconnect, which loses nothing
        elif refusal.ref == 0 and refusal.errno == Code.ALREADY_LOGGED_IN and self.online:
            self._over(refusal.text, elsewhere=True)  # coming back, it would be refused, or end the other one in turn
            self.connector.drop()
        elif refusal.fp or refusal.ref in (Msg.ONE_CHAT, Msg.GROUP_CHAT):
            self.sender.answered_no(refusal.errno, refusal.text, refusal.fp)
        elif refusal.ref == 0 and refusal.errno in UNREADABLE and self.calls.idle and self.sender.busy:
            self.sender.answered_no(refusal.errno, refusal.text)  # the server cannot name a frame that it did not read
        elif self.calls.answered(refusal, refusal.ref):
            pass  # the caller that asked is told
        elif refusal.ref == Msg.LOGIN:
            self._login_again_refused(refusal)
        else:
            self._listener.happened(Disagreement(refusal.text))

    def _over(self, why: str, *, elsewhere: bool) -> None:
        assert self._credentials is not None
        user = self.user or User(0, self._credentials.who)
        self._listener.happened(LoggedOut(user, why, elsewhere))
        self._forget_login()
