"""Stay logged in: one connection after the other, and nothing lost or shown twice in between.

Owns: when to log in, log in again, leave; how each event from the server is handled.
Elsewhere: connections (connector), sending messages (sender), requests (requests), lists (contacts, live), commands
(commands), output (screen).
Fails: NotDone, one line for the person who asked. Events that no request waits for (a lost connection, a refused
message) are shown as notices.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import NoReturn

import msgspec

from chatd.client import frames, outgoing
from chatd.client.acknowledger import Acknowledger
from chatd.client.connection import ServerAddress, ServerConnection
from chatd.client.connector import Broken, Connector, Unreachable
from chatd.client.contacts import Contacts
from chatd.client.frames import Destination, Event, Msg, PendingMessage, User
from chatd.client.live import Live
from chatd.client.memory import Memory
from chatd.client.requests import Requests
from chatd.client.screen import Screen
from chatd.client.sender import NotDone, Sender, is_temporary
from chatd.client.timing import Backoff, Timing
from chatd.errors import MEANINGS, ErrorCode

ALREADY_LOGGED_IN = 2
"""LOGIN_ACK's errno: true for a moment after a connection broke."""

UNREADABLE = (ErrorCode.TOO_LONG, ErrorCode.INVALID_PACKET)
"""Error codes after which the server closes the connection."""


class NotLoggedIn(NotDone):
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
        self._connector = Connector(address, self._timing, self)
        self.sender = Sender(self._timing.answer_s, self._connector.drop, screen.notice)
        self.requests = Requests(self._timing.answer_s)
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
        return self._connector.connection is not None

    def attached(self, connection: ServerConnection) -> None:
        """Log in again. Never with takeover: two clients would end each other's sessions for ever."""
        if self._credentials is not None:
            connection.send(outgoing.login(self._credentials.who, self._credentials.password))
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
        """Returns the new number. Raises NotDone."""
        answer = await self._ask((Msg.REGISTER,), outgoing.register(name, password))
        if isinstance(answer, frames.RegisterAnswer) and answer.errno == 0:
            return answer.user_id
        raise NotDone(f"cannot register {name}: {_text_of(answer) or 'the name is taken or not allowed'}")

    async def login(self, who: str, password: str, *, takeover: bool = False) -> User:
        """Once it succeeds, the session logs in again by itself after every lost connection. takeover: end the user's
        other session. Raises NotDone."""
        await self.logout()
        pause = Backoff(0.2, 1.0)
        give_up_at = time.monotonic() + self._timing.taken_s
        self._attempt = Credentials(who, password)
        while True:
            answer = await self._ask_login(takeover)
            if self.user is not None:
                return self.user
            if not _is_passing(answer) or time.monotonic() > give_up_at:
                raise NotDone(f"cannot log in as {who}: {_text_of(answer) or 'unknown user or wrong password'}")
            await asyncio.sleep(pause.next_s())

    async def _ask_login(self, takeover: bool) -> Event:
        """An idle connection may just be closing: then ask again on a new one."""
        frame = outgoing.login(self._attempt.who, self._attempt.password, takeover=takeover)
        try:
            return await self._ask((Msg.LOGIN,), frame)
        except Broken:
            return await self._ask((Msg.LOGIN,), frame)

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
        connection = self._connector.connection
        if self.online and self.user is not None and connection is not None:
            connection.send(outgoing.logout(self.user))
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
        self.requests.end(NotDone("logged out before the answer"))
        self.live.end()
        if self._connector.connection is None:
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
        """Hand over a message: from here it is sent until the server acknowledges or refuses it. Raises NotDone."""
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

    async def request_friend(self, friend_id: int) -> None:
        """On a server without requests. Asking a user who has already asked accepts: the server makes the two friends,
        and tells only the other."""
        await self._tell(outgoing.add_friend(self.require_login(), friend_id), f"addfriend {friend_id}")
        if self.contacts.requests.pop(friend_id, None) is not None:
            self.contacts.befriend(friend_id, online=True)

    async def answer_friend(self, friend_id: int, accept: bool) -> None:
        """On a server without requests."""
        word = "accept" if accept else "refuse"
        await self._tell(outgoing.answer_friend(self.require_login(), friend_id, accept), f"{word} {friend_id}")
        if self.contacts.requests.pop(friend_id, None) is not None and accept:
            self.contacts.befriend(friend_id, online=True)

    async def create_group(self, name: str, description: str) -> frames.GroupAck:
        frame = outgoing.create_group(self.require_login(), name, description)
        group = await self._enter_group(frame, Msg.CREATE_GROUP)
        self.contacts.rename(group.group_id, group.name, description)
        return group

    async def join_group(self, group_id: int) -> frames.GroupAck:
        """On a server without requests."""
        return await self._enter_group(outgoing.join_group(self.require_login(), group_id), Msg.JOIN_GROUP)

    async def _enter_group(self, frame: bytes, ref: Msg) -> frames.GroupAck:
        await self._wait_ready()
        answer = await self._ask((ref,), frame)
        if isinstance(answer, frames.GroupAck):
            return answer
        raise NotDone(_text_of(answer) or "refused")

    async def _tell(self, frame: bytes, what: str) -> None:
        """Send a command that this wire does not answer, other than with a refusal."""
        connection = await self._wait_ready()
        connection.send(frame)
        self._last_request = (time.monotonic(), what)

    async def _wait_ready(self) -> ServerConnection:
        try:
            async with asyncio.timeout(self._timing.answer_s):
                while not self.online or self._connector.connection is None:
                    await self._ready.wait()
        except TimeoutError:
            raise Unreachable(f"not done: no connection to {self.address} ({self._connector.why})") from None
        return self._connector.connection

    async def _ask(self, refs: tuple[Msg, ...], frame: bytes) -> Event:
        """Send a command and wait for its answer, or for a refusal of it. Raises Unreachable."""
        connection = await self._connector.connect()
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._awaited = (refs, future)
        connection.send(frame)
        try:
            return await asyncio.wait_for(future, self._timing.answer_s)
        except TimeoutError:
            raise Unreachable("the server does not answer") from None
        finally:
            self._awaited = None

    # ------------------------------------------------------------ what the server says

    def take(self, event: Event) -> None:
        match event:
            case frames.Chat():
                self._show(event)
            case frames.MessageAck(fp, seq):
                self.sender.acknowledged(fp, seq)
            case frames.Answer():
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
        if not self.sender.memory.has_shown(chat):
            self.contacts.heard_from(chat.sender_id, chat.sender_name)
            self.live.sent(f"#{chat.group_id}" if chat.group_id else chat.sender_name, chat.sender_name)
            self._screen.message(chat, self.contacts.group_name(chat.group_id))
            self.sender.memory.showed(chat, self.sender.outbox)
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
        connection = self._connector.connection
        assert connection is not None
        self.user = answer.user
        self.online = True
        if answer.acks:
            self._acknowledger.start(connection.send)
        self._online_since = time.monotonic()
        self._stop_login_timer()
        if first:
            self._credentials = self._attempt
            self.contacts = Contacts()
            self.sender.close()
        self.contacts.refresh(answer)
        self._screen.notice(f"{'logged in' if first else 'connected again'} as {answer.user.name}({answer.user.id})")
        if first:
            again = self.sender.open(self._remember(answer.user.id))
            if again:
                self._screen.notice(f"sending again what was not acknowledged last time: {again}")
        self._screen.status()
        shown_before = self.sender.memory.newest_shown() if answer.requests else {}
        for event in answer.waiting:
            self.take(event)
        self._ready.set()
        if answer.requests:
            self.requests.start(connection.send)
            self.live.begin(self.contacts, answer.user, self.sender, shown_before)
        else:
            self.requests.refuse_all()
        self.sender.start(self._transmit)

    def _transmit(self, message: PendingMessage) -> None:
        connection = self._connector.connection
        assert connection is not None
        assert self.user is not None
        connection.send(outgoing.chat(self.user, message, time.strftime("%Y-%m-%d %H:%M:%S")))

    def _relogin_refused(self, answer: frames.LoginAnswer | frames.ErrorAnswer) -> None:
        """After a temporary refusal the next connection tries again; a final one ends the login."""
        if self._credentials is not None and not _is_passing(answer):
            self._screen.notice(f"logged out, the server does not let us in again: {_text_of(answer)}")
            self._forget_login()
        self._connector.drop()

    def _on_refusal(self, refusal: frames.ErrorAnswer) -> None:
        if refusal.errno == ErrorCode.NOT_LOGGED_IN and self.online:
            self.drop()  # the server and we disagree: reconnect, which loses nothing
        elif refusal.ref == 0 and refusal.errno == ErrorCode.ALREADY_LOGGED_IN and self.online:
            self._ended(refusal.text)
        elif refusal.fp or refusal.ref in (Msg.ONE_CHAT, Msg.GROUP_CHAT):
            self.sender.answered_no(refusal)
        elif refusal.ref == 0 and refusal.errno in UNREADABLE and self._awaited is None and self.sender.busy:
            self.sender.answered_no(refusal)  # the server cannot name a frame that it did not read
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


def _text_of(answer: Event) -> str:
    if isinstance(answer, frames.LoginAnswer | frames.RegisterAnswer | frames.ErrorAnswer):
        return answer.text
    return ""
