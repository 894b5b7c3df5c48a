"""The terminal client in one place: the library's client, the lists, and telling the person what happens.

Owns: App: what the person is told of logins, connections and refusals; whom a message mentions.
Elsewhere: everything that is said to the server (chatd_client), notices and lists (live, contacts), commands
(commands), output (screen).
Fails: ChatError from send(); ScreenGone through the client's keeper, if nobody reads the output any more.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.client.contacts import Contacts
from chatd.client.live import Live
from chatd.client.screen import Screen
from chatd_client import events
from chatd_client.address import ServerAddress
from chatd_client.chatserver import (
    Chat,
    Client,
    ConnectionLost,
    Disagreement,
    FriendReplyNotice,
    FriendRequestNotice,
    GroupAck,
    Happening,
    LoggedIn,
    LoggedOut,
)
from chatd_client.memory import Memory
from chatd_client.model import Destination
from chatd_client.timing import Timing


class App:
    """A chatd_client.chatserver.Listener. contacts: those of the last login."""

    def __init__(
        self, address: ServerAddress, screen: Screen, remember: Callable[[int], Memory], timing: Timing | None = None
    ) -> None:
        """remember: opens the memory of a user's number, at each login."""
        self.client = Client(address, self, open_memory=remember, timing=timing)
        self.contacts = Contacts()
        self.live = Live(self.client, screen)
        self.on_refused: Callable[[Destination, int], None] = lambda to, code: None
        """Called with the destination and the error code of a message that is refused for good."""
        self._screen = screen

    # ------------------------------------------------------------ writing

    def send(self, to: Destination, text: str, *, reply: int = 0) -> None:
        """Raises ChatError."""
        self.client.send(to, text, reply=reply, mentions=self._mentioned(to, text))

    def _mentioned(self, to: Destination, text: str) -> tuple[str, ...]:
        """The members of the group whom the text names with an @ before their name."""
        if not to.group_id or "@" not in text or not self.client.offers_requests:
            return ()
        names = sorted(self.contacts.member_names(to.group_id), key=len, reverse=True)
        found = []
        for name in names:  # the longest first: "@ca rol" is not "@ca"
            if f"@{name}" in text:
                found.append(name)
                text = text.replace(f"@{name}", "")
        return tuple(found)

    # ------------------------------------------------------------ what happens (chatd_client.chatserver.Listener)

    def message(self, chat: Chat) -> None:
        self.contacts.heard_from(chat.sender_id, chat.sender_name)
        self.live.sent(f"#{chat.group_id}" if chat.group_id else chat.sender_name, chat.sender_name)
        self._screen.message(chat, self.contacts.group_name(chat.group_id))

    def changed(self) -> None:
        if not self.client.online:
            self.live.end()
        self._screen.status()

    def happened(self, event: Happening) -> None:
        match event:
            case LoggedIn():
                self._on_login(event)
            case ConnectionLost():
                self._on_lost(event)
            case LoggedOut(user, why, elsewhere):
                back = f" (/takeover {user.name} takes it back)" if elsewhere else ""
                reason = why if elsewhere else f"the server does not let us in again: {why}"
                self._screen.notice(f"logged out{':' if elsewhere else ','} {reason}{back}")
            case Disagreement(why):
                self._screen.notice(f"refused: {why or 'no reason given'}")
            case events.SendRefused():
                message = event.message
                self._screen.notice(f"not sent to {message.to}: {event.text or 'refused'}: {message.text}")
                self.on_refused(message.to, event.code)
            case GroupAck(group_id, name):
                self.contacts.enter(group_id, name)
            case FriendRequestNotice(sender_id, name, text):
                if self.contacts.ask(sender_id, name):
                    self._screen.notice(f"{text or 'friend request'} (/accept {sender_id} or /refuse {sender_id})")
            case FriendReplyNotice():
                self._on_friend_answered(event)
            case events.Draining():
                pass  # told when the connection ends
            case _:
                self.live.take(event)

    def _on_login(self, login: LoggedIn) -> None:
        user = login.user
        if not login.again:
            self.contacts = Contacts()
        self.contacts.refresh(login.friends, login.groups)
        self._screen.notice(f"{'connected again' if login.again else 'logged in'} as {user.name}({user.id})")
        if login.sent_again:
            self._screen.notice(f"sending again what was not acknowledged last time: {login.sent_again}")
        if self.client.offers_requests:
            self.live.begin(self.contacts, login)

    def _on_lost(self, lost: ConnectionLost) -> None:
        if lost.retry_after_s is None:
            self._screen.notice(f"connection lost ({lost.why}), trying again")
        else:
            self._screen.notice("the server has ended this connection for maintenance, connecting again")
        if lost.doubtful:
            self._screen.notice(f"'{lost.doubtful}' may not have arrived: repeat it if it had no effect")

    def _on_friend_answered(self, answer: FriendReplyNotice) -> None:
        self.contacts.heard_from(answer.sender_id, answer.sender_name)
        if answer.accepted:
            self.contacts.befriend(answer.sender_id, online=True)
        self._screen.notice(answer.text or f"{answer.sender_id} has answered your friend request")
