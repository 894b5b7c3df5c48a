"""Stay logged in: one connection after the other, and nothing lost or shown twice in between.

Owns: when to log in, log in again, leave; how each event from the server is handled.
Elsewhere: connections (connector), sending messages (sender), requests (requests), lists (contacts, live), commands
(commands), output (screen).
Fails: ChatError, one line for the person who asked. Events that no request waits for (a lost connection, a refused
message) are shown as notices.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import NoReturn

import msgspec

from chatd.client.contacts import Contacts
from chatd.client.live import Live
from chatd.client.screen import Screen
from chatd.errors import MEANINGS
from chatd_client.address import ServerAddress
from chatd_client.chatserver import frames, outgoing
from chatd_client.chatserver.acknowledger import Acknowledger
from chatd_client.chatserver.frames import Event, Msg
from chatd_client.connector import Connector
from chatd_client.errors import Broken, ChatError, Code, Unreachable, is_temporary
from chatd_client.link import Link
from chatd_client.memory import Memory
from chatd_client.model import Answer, Destination, PendingMessage, User
from chatd_client.requests import Requests
from chatd_client.sender import Sender, one_lane
from chatd_client.stream_link import NulFraming, StreamLink, StreamRoute
from chatd_client.timing import Backoff, Timing

ALREADY_LOGGED_IN = 2
"""LOGIN_ACK's errno: true for a moment after a connection broke."""

UNREADABLE = (Code.TOO_LONG, Code.INVALID_PACKET)
"""Error codes after which the server closes the connection."""


class NotLoggedIn(ChatError):
    pass


class Credentials(msgspec.Struct, frozen=True):
    who: str
    password: str


class ClientSession:
    def __init__(
        self, address: ServerAddress, screen: Screen, remember: Callable[[int], Memory], timing: Timing | None = None
    ) -> None:
        """remember: opens the memory of a user's number, at each login."""
        self.address = address
        self.user: User | None = None
        self.online = False
        """Logged in on the present connection. `user` without `online`: reconnecting."""
        self._screen = screen
        self._remember = remember
        self._timing = timing or Timing()
        self._route = StreamRoute(address=address, timeout_s=self._timing.connect_s, option="--ca")
        self._connector = Connector(str(address), self._open_link, self._timing, self)
        self.sender = Sender(self._timing.answer_s, self, one_lane)
        self.requests = Requests(self._timing.answer_s, outgoing.request)
        self.on_refused: Callable[[Destination, int], None] = lambda to, code: None
        """Called with the destination and the error code of a message that is refused for good."""
        self.live = Live(self.requests, screen)
        self.contacts = Contacts()
        self._credentials: Credentials | None = None
        self._attempt = Credentials("", "")
        self._ready = asyncio.Event()
        self._online_since = 0.0
        self._awaited: tuple[tuple[Msg, ...], asyncio.Future[Event]] | None = None
        """The command that waits for its answer: message numbers that may answer it, and the answer."""
        self._login_timer: asyncio.TimerHandle | None = None
        self._last_request = (0.0, "")
        self._acknowledger = Acknowledger()
        self._memory_of = 0
        """The user whose memory is open: also after the logout, until the next login."""

    # ------------------------------------------------------------ connections (connector.ConnectionUser)

    async def keep(self) -> NoReturn:
        """Runs until cancelled: keeps a connection for as long as one is wanted."""
        await self._connector.keep()

    async def connect(self) -> None:
        """Have a connection, logged in or not. Raises Unreachable."""
        await self._connector.connect()

    def drop(self) -> None:
        """Give the present connection up; the next one follows."""
        self._connector.drop()

    @property
    def stays(self) -> bool:
        return self._credentials is not None

    @property
    def connected(self) -> bool:
        """There is a connection, logged in or not."""
        return self._connector.link is not None

    async def _open_link(self) -> Link:
        return await StreamLink.open(self._route, NulFraming())

    async def before_connecting(self) -> None:
        """See ConnectionUser: there is nothing to wait for."""

    def pausing(self, why: str) -> None:
        """See ConnectionUser: the person knows already."""

    def attached(self, link: Link) -> None:
        """Log in again. Never with takeover: two clients would end each other's sessions for ever."""
        if self._credentials is not None:
            link.send(outgoing.login(self._credentials.who, self._credentials.password))
            self._login_timer = asyncio.get_running_loop().call_later(self._timing.answer_s, self._connector.drop)

    def detached(self, why: str) -> float:
        was_online, self.online = self.online, False
        self._acknowledger.stop()
        self.requests.stop()
        self.live.end()
        self._ready.clear()
        self._stop_login_timer()
        self.sender.stop()
        if self._awaited is not None and not self._awaited[1].done():
            self._awaited[1].set_exception(Broken(f"the connection was lost before the answer ({why})"))
        if not was_online:
            return 0.0
        self._screen.notice(f"connection lost ({why}), trying again")
        self._warn_about_last_request()
        self._screen.status()
        return time.monotonic() - self._online_since

    def _warn_about_last_request(self) -> None:
        sent_at, what = self._last_request
        if what and time.monotonic() - sent_at < self._timing.doubt_s:
            self._screen.notice(f"'{what}' may not have arrived: repeat it if it had no effect")
        self._last_request = (0.0, "")

    def _stop_login_timer(self) -> None:
        if self._login_timer is not None:
            self._login_timer.cancel()
            self._login_timer = None

    # ------------------------------------------------------------ accounts

    async def register(self, name: str, password: str) -> int:
        """Returns the new number. Raises ChatError."""
        answer = await self.ask((Msg.REGISTER,), outgoing.register(name, password))
        if isinstance(answer, frames.RegisterAnswer) and answer.errno == 0:
            return answer.user_id
        raise ChatError(f"cannot register {name}: {text_of(answer) or 'the name is taken or not allowed'}")

    async def login(self, who: str, password: str, *, takeover: bool = False) -> User:
        """Once it succeeds, the session logs in again by itself after every lost connection. takeover: end the user's
        other session. Raises ChatError."""
        await self.logout()
        pause = Backoff(0.2, 1.0)
        give_up_at = time.monotonic() + self._timing.taken_s
        self._attempt = Credentials(who, password)
        while True:
            answer = await self._ask_login(takeover)
            if self.user is not None:
                return self.user
            if not _is_passing(answer) or time.monotonic() > give_up_at:
                raise ChatError(f"cannot log in as {who}: {text_of(answer) or 'unknown user or wrong password'}")
            await asyncio.sleep(pause.next_s())

    async def _ask_login(self, takeover: bool) -> Event:
        """An idle connection may just be closing: then ask again on a new one."""
        frame = outgoing.login(self._attempt.who, self._attempt.password, takeover=takeover)
        try:
            return await self.ask((Msg.LOGIN,), frame)
        except Broken:
            return await self.ask((Msg.LOGIN,), frame)

    def password_changed(self, password: str) -> None:
        """The next connection logs in with it."""
        if self._credentials is not None:
            self._credentials = msgspec.structs.replace(self._credentials, password=password)

    async def logout(self) -> None:
        """Waits for acknowledgements first. Messages still without one are sent again at the next login."""
        if self.user is None:
            return
        await self.settle()
        self._log_out()

    def _log_out(self) -> None:
        link = self._connector.link
        if self.online and self.user is not None and link is not None:
            link.send(outgoing.logout(self.user))
        elif self.user is not None:
            self._connector.drop()
        self._forget_login()

    def _forget_login(self) -> None:
        """The memory stays until the next login: messages under way to us still arrive, and must be remembered."""
        self._credentials = None
        self.user = None
        self.online = False
        self._ready.clear()
        self._stop_login_timer()
        self.sender.stop()
        self.requests.end(ChatError("logged out before the answer"))
        self.live.end()
        if self._connector.link is None:
            self._connector.release()
        self._screen.status()

    async def leave(self) -> None:
        """Log out and disconnect, after reading everything the server had under way. Does not `settle`."""
        self._log_out()
        await self._connector.finish()
        self.sender.close()

    def require_login(self) -> User:
        """The user who is logged in. Raises NotLoggedIn."""
        if self.user is None:
            raise NotLoggedIn("not logged in: /login NAME first")
        return self.user

    # ------------------------------------------------------------ messages, and commands that have no request

    def send(self, to: Destination, text: str, *, reply: int = 0) -> None:
        """Hand over a message: from here it is sent until the server acknowledges or refuses it. Raises ChatError."""
        self.require_login()
        self.sender.check_room(text)
        mentions = self._mentioned(to, text)
        message = PendingMessage(
            fp=uuid.uuid4().hex, to=to, text=text, written_at_ms=int(time.time() * 1000), reply=reply, mentions=mentions
        )
        self.sender.add(message)

    def _mentioned(self, to: Destination, text: str) -> tuple[str, ...]:
        """The members of the group whom the text names with an @ before their name."""
        if not to.group_id or "@" not in text or not self.requests.offered:
            return ()
        names = sorted(self.contacts.member_names(to.group_id), key=len, reverse=True)
        found = []
        for name in names:  # the longest first: "@ca rol" is not "@ca"
            if f"@{name}" in text:
                found.append(name)
                text = text.replace(f"@{name}", "")
        return tuple(found)

    async def settle(self, count: int = 0) -> bool:
        """Wait until at most `count` messages are unacknowledged; False when that stopped coming nearer."""
        return await self.sender.outbox.shrink_to(count, self._timing.settle_s)

    async def tell(self, frame: bytes, what: str) -> None:
        """Send a command that this wire does not answer, other than with a refusal."""
        link = await self.wait_ready()
        link.send(frame)
        self._last_request = (time.monotonic(), what)

    async def wait_ready(self) -> Link:
        """The connection, once logged in. Raises Unreachable."""
        try:
            async with asyncio.timeout(self._timing.answer_s):
                while not self.online or self._connector.link is None:
                    await self._ready.wait()
        except TimeoutError:
            raise Unreachable(f"not done: no connection to {self.address} ({self._connector.why})") from None
        return self._connector.link

    async def ask(self, refs: tuple[Msg, ...], frame: bytes) -> Event:
        """Send a command and wait for its answer, or for a refusal of it. Raises Unreachable."""
        link = await self._connector.connect()
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._awaited = (refs, future)
        link.send(frame)
        try:
            return await asyncio.wait_for(future, self._timing.answer_s)
        except TimeoutError:
            raise Unreachable("the server does not answer") from None
        finally:
            self._awaited = None

    # ------------------------------------------------------------ what the server says

    def take(self, frame: bytes) -> None:
        event = frames.decode(frame)
        if event is not None:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case frames.Chat():
                self._show(event)
            case frames.MessageAck(fp, seq):
                self.sender.acknowledged(fp, seq)
            case Answer():
                self.requests.answered(event)
            case frames.Notice():
                self.live.take(event)
            case frames.ErrorAnswer():
                self._on_refusal(event)
            case frames.LoginAnswer():
                self._on_login(event)
            case frames.RegisterAnswer():
                self._answer(event, Msg.REGISTER)
            case frames.GroupAck(group_id, name):
                self.contacts.enter(group_id, name)
                self._answer(event, Msg.CREATE_GROUP, Msg.JOIN_GROUP)
            case frames.FriendRequestNotice(sender_id, name, text):
                if self.contacts.ask(sender_id, name):
                    self._screen.notice(f"{text or 'friend request'} (/accept {sender_id} or /refuse {sender_id})")
            case frames.FriendReplyNotice(sender_id, name, text, accepted):
                self._on_friend_answered(sender_id, name, text, accepted)

    def _answer(self, event: Event, *refs: int) -> bool:
        """Hand `event` to the caller that waits for the answer to one of refs."""
        if self._awaited is None or self._awaited[1].done() or not set(refs).intersection(self._awaited[0]):
            return False
        self._awaited[1].set_result(event)
        return True

    def _show(self, chat: frames.Chat) -> None:
        """Shown first, remembered second, acknowledged last: a client killed in between shows it again rather than
        never."""
        shown = frames.shown(chat, self._memory_of)
        if not self.sender.memory.has(shown):
            self.contacts.heard_from(chat.sender_id, chat.sender_name)
            self.live.sent(f"#{chat.group_id}" if chat.group_id else chat.sender_name, chat.sender_name)
            self._screen.message(chat, self.contacts.group_name(chat.group_id))
            self.sender.memory.showed(shown, self.sender.outbox)
        self._acknowledger.shown(chat)

    def _on_friend_answered(self, sender_id: int, name: str, text: str, accepted: bool | None) -> None:
        self.contacts.heard_from(sender_id, name)
        if accepted:
            self.contacts.befriend(sender_id, online=True)
        self._screen.notice(text or f"{sender_id} has answered your friend request")

    def _on_login(self, answer: frames.LoginAnswer) -> None:
        asked = self._awaited is not None and Msg.LOGIN in self._awaited[0]
        if not answer.errno and (asked or self._credentials is not None):
            self._logged_in(answer, first=asked)
        elif not asked:
            self._relogin_refused(answer)
        self._answer(answer, Msg.LOGIN)

    def _logged_in(self, answer: frames.LoginAnswer, first: bool) -> None:
        link = self._connector.link
        assert link is not None
        self.user = answer.user
        self.online = True
        if answer.acks:
            self._acknowledger.start(link.send)
        self._online_since = time.monotonic()
        self._stop_login_timer()
        if first:
            self._credentials = self._attempt
            self.contacts = Contacts()
            self.sender.close()
        self.contacts.refresh(answer)
        self._screen.notice(f"{'logged in' if first else 'connected again'} as {answer.user.name}({answer.user.id})")
        if first:
            self._memory_of = answer.user.id
            again = self.sender.open(self._remember(answer.user.id))
            if again:
                self._screen.notice(f"sending again what was not acknowledged last time: {again}")
        self._screen.status()
        shown_before = self.sender.memory.newest_shown() if answer.requests else {}
        for event in answer.waiting:
            self._take(event)
        self._ready.set()
        if answer.requests:
            self.requests.start(link.send)
            self.live.begin(self.contacts, answer.user, self.sender, shown_before)
        else:
            self.requests.refuse_all()
        self.sender.start(self._transmit)

    def _transmit(self, message: PendingMessage) -> None:
        link = self._connector.link
        assert link is not None
        assert self.user is not None
        link.send(outgoing.chat(self.user, message, time.strftime("%Y-%m-%d %H:%M:%S")))

    # ------------------------------------------------------------ what becomes of messages (sender.SenderUser)

    def stored(self, message: PendingMessage, seq: int, at_ms: int) -> None:
        """Nothing is shown."""

    def refused(self, message: PendingMessage, code: int, text: str) -> None:
        self._screen.notice(f"not sent to {message.to}: {text or 'refused'}: {message.text}")
        self.on_refused(message.to, code)

    def unanswered(self) -> None:
        self._connector.drop()

    # ------------------------------------------------------------ refusals

    def _relogin_refused(self, answer: frames.LoginAnswer | frames.ErrorAnswer) -> None:
        """After a temporary refusal the next connection tries again; a final one ends the login."""
        if self._credentials is not None and not _is_passing(answer):
            self._screen.notice(f"logged out, the server does not let us in again: {text_of(answer)}")
            self._forget_login()
        self._connector.drop()

    def _on_refusal(self, refusal: frames.ErrorAnswer) -> None:
        if refusal.errno == Code.NOT_LOGGED_IN and self.online:
            self.drop()  # the server and we disagree: reconnect, which loses nothing
        elif refusal.ref == 0 and refusal.errno == Code.ALREADY_LOGGED_IN and self.online:
            self._ended(refusal.text)
        elif refusal.fp or refusal.ref in (Msg.ONE_CHAT, Msg.GROUP_CHAT):
            self.sender.answered_no(refusal.errno, refusal.text, refusal.fp)
        elif refusal.ref == 0 and refusal.errno in UNREADABLE and self._awaited is None and self.sender.busy:
            self.sender.answered_no(refusal.errno, refusal.text)  # the server cannot name a frame that it did not read
        elif self._answer(refusal, refusal.ref):
            pass  # the caller that asked reports it
        elif refusal.ref == Msg.LOGIN:
            self._relogin_refused(refusal)
        else:
            self._screen.notice(f"refused: {refusal.text or 'no reason given'}")

    def _ended(self, why: str) -> None:
        """Another session of the user has taken the place of this one. Coming back by itself, it would be refused, or
        end the other one in turn."""
        assert self.user is not None
        self._screen.notice(f"logged out: {why} (/takeover {self.user.name} takes it back)")
        self._forget_login()
        self._connector.drop()


_PASSING = {meaning.text for meaning in MEANINGS.values() if meaning.temporary}


def _is_passing(answer: Event) -> bool:
    """Whether a refused login may succeed in a moment. LOGIN_ACK has one errno for all reasons: the text tells."""
    if isinstance(answer, frames.LoginAnswer):
        return answer.errno == ALREADY_LOGGED_IN or answer.text in _PASSING
    return isinstance(answer, frames.ErrorAnswer) and is_temporary(answer.errno)


def text_of(answer: Event) -> str:
    """What the server says of it, "" = nothing."""
    if isinstance(answer, frames.LoginAnswer | frames.RegisterAnswer | frames.ErrorAnswer):
        return answer.text
    return ""
