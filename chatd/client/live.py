"""Lists that are always current: notices change the contacts, and requests complete what the login answer left out.

Owns: what each notice changes, and what a person is told of it; whose presence the server reports; unread counts at
login.
Elsewhere: the contacts themselves (contacts), asking, and when the client is logged in (chatd_client).
Fails: never. A list that cannot be read stays as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from chatd.client.changes import Changes
from chatd.client.contacts import Contacts
from chatd.client.screen import Screen
from chatd_client import events as notices
from chatd_client import results
from chatd_client.chatserver import Client, LoggedIn
from chatd_client.errors import ChatError, NotOffered
from chatd_client.model import User

TYPES_AGAIN_S = 3.0
"""The other side is told at most this often."""
TYPES_FOR_S = 6.0
"""Somebody who has begun to type is shown for so long, unless they go on or send."""


def shown_as(user: User | None) -> str:
    return f"{user.name}({user.id})" if user else "somebody"


class Live:
    """contacts: those of the present login. typing: who types in which conversation, until when by the clock. changes:
    of messages that were shown."""

    def __init__(self, client: Client, screen: Screen) -> None:
        self.contacts = Contacts()
        self.typing: dict[tuple[str, str], float] = {}
        self.changes = Changes(client.conversations, client, screen, self._where)
        self._client = client
        self._screen = screen
        self._me = 0
        self._loading: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._types_again_at = 0.0
        """When the other side is next told that the person types, by the clock."""
        self._types_nothing = False
        """The server does not have that."""

    # ------------------------------------------------------------ logging in and out

    def begin(self, contacts: Contacts, login: LoggedIn) -> None:
        """Logged in, with requests, on a new connection."""
        self.contacts = contacts
        self._me = login.user.id
        self.changes.begin(login.user, login.newest_seen)
        self._types_nothing = False
        self.end()
        self._loading = asyncio.get_running_loop().create_task(self._load())

    def end(self) -> None:
        """The connection is lost."""
        self.typing.clear()
        for task in (self._loading, self._telling):
            if task is not None:
                task.cancel()
        self._loading = self._telling = None

    async def _load(self) -> None:
        with contextlib.suppress(ChatError):
            unread = await self.unread()
            for head in unread if self._screen.is_interactive else ():
                self._screen.notice(f"unread: {self.unread_line(head)}")
        with contextlib.suppress(ChatError):  # otherwise they stay as the login answer had them
            friends = await self._client.friends.overview()
            self.contacts.set_friends(friends.friends, friends.requests)
            self.contacts.set_groups(await self._client.groups.list())
            await self.watch([friend.id for friend in friends.friends])
        await self._ask_for_changes()

    async def _ask_for_changes(self) -> None:
        """As often as more were missed meanwhile."""
        with contextlib.suppress(ChatError):
            while self.changes.missed:
                await self.changes.ask()

    def _changes_missed(self) -> None:
        if self._loading is not None and self._loading.done():
            self._loading = asyncio.get_running_loop().create_task(self._ask_for_changes())

    # ------------------------------------------------------------ asking

    async def unread(self) -> list[results.Head]:
        """The conversations with unread messages. Raises ChatError."""
        return [head for head in await self.changes.ask() if head.unread]

    def unread_line(self, head: results.Head) -> str:
        name = self.contacts.group_name(int(head.place[1:])) if head.place.startswith("#") else ""
        more = "+" if head.unread_more else ""
        mentions = f", you are mentioned in {' '.join(map(str, head.mentioned))}" if head.mentioned else ""
        return f"{name}{head.place} {head.unread}{more}{mentions}"

    async def watch(self, user_ids: Sequence[int]) -> None:
        """Be told when these users go online and offline, as far as they allow it. Raises ChatError."""
        try:
            found = await self._client.presence.watch_allowed(user_ids)
        except NotOffered:
            return
        for user in found:
            self.contacts.set_presence(user.id, online=user.online)

    def _watch_soon(self, user: User) -> None:
        """Notices are handled at once; what they make necessary is asked for afterwards."""
        if self._loading is not None and self._loading.done():
            self._loading = asyncio.get_running_loop().create_task(self._watch_quietly(user.id))

    async def _watch_quietly(self, user_id: int) -> None:
        with contextlib.suppress(ChatError):
            await self.watch([user_id])

    async def load_members(self, group_id: int) -> None:
        """All members with their roles, from now on kept up to date by notices. Raises ChatError."""
        if group_id in self.contacts.complete:
            return
        found = await self._client.groups.members(group_id)
        self.contacts.set_members(group_id, found)
        friends = self.contacts.friends
        await self.watch([one.id for one in found if one.id != self._me and one.id not in friends])

    # ------------------------------------------------------------ notices

    def take(self, notice: notices.AnyNotice) -> None:
        text = self._person(notice) or self._membership(notice) or self._admission(notice) or self._conversation(notice)
        if text and not self._is_own(notice):
            self._screen.notice(text)
        self._screen.status()

    def _is_own(self, notice: notices.AnyNotice) -> bool:
        """The person has done it, and is told by the command."""
        by = getattr(notice, "by", None)
        return by is not None and by.id == self._me

    def _person(self, notice: notices.AnyNotice) -> str:
        match notice:
            case notices.FriendAsks(user):
                if self.contacts.ask(user.id, user.name):
                    return f"{user.name} ({user.id}) asks to be your friend (/accept {user.id} or /refuse {user.id})"
            case notices.FriendAccepted(user):
                self.contacts.remember(user.id, user.name)
                self.contacts.befriend(user.id, online=True, name=user.name)
                self._watch_soon(user)
                return f"{user.name} ({user.id}) has accepted your friend request"
            case notices.FriendRefused(user):
                return f"{user.name} ({user.id}) has refused your friend request"
            case notices.PresenceChanged(user, online):
                self.contacts.set_presence(user.id, online=online)
        return ""

    def _where(self, place: str) -> str:
        return f" in {self._place(int(place[1:]))}" if place.startswith("#") else ""

    def _place(self, group_id: int) -> str:
        return f"{self.contacts.group_name(group_id)}#{group_id}"

    def _membership(self, notice: notices.AnyNotice) -> str:
        match notice:
            case notices.MemberJoined(group, user):
                self.contacts.add_member(group, user, online=True)
                if group in self.contacts.complete:
                    self._watch_soon(user)
                return f"{shown_as(user)} has joined {self._place(group)}"
            case notices.MemberLeft(group, user, owner):
                self.contacts.remove_member(group, user.id)
                if owner:
                    self.contacts.set_role(group, owner, "owner")
                return f"{shown_as(user)} has left {self._place(group)}"
            case notices.MemberKicked(group, None):
                return self._out_of(group, f"you were removed from {self._place(group)}")
            case notices.MemberKicked(group, user, by):
                assert user is not None
                self.contacts.remove_member(group, user.id)
                return f"{shown_as(by)} has removed {shown_as(user)} from {self._place(group)}"
            case notices.GroupRenamed(group, details):
                before = self._place(group)
                self.contacts.rename(group, details.name, details.description)
                return f"{before} is now {self._place(group)}" + (
                    f": {details.description}" if details.description else ""
                )
            case notices.RoleGiven(group, user, role):
                self.contacts.set_role(group, user.id, role)
                return f"{shown_as(user)} is now {role} of {self._place(group)}"
            case notices.GroupEntered(group, details):
                self.contacts.enter(group, details.name, details.description)
                return f"you are now a member of {self._place(group)}"
            case notices.GroupDissolved(group, by):
                return self._out_of(group, f"{shown_as(by)} has dissolved {self._place(group)}")
        return ""

    def _out_of(self, group_id: int, text: str) -> str:
        self.contacts.leave(group_id)
        return text

    def _admission(self, notice: notices.AnyNotice) -> str:
        match notice:
            case notices.GroupInvited(group, details, by, waiting):
                if waiting and not self.contacts.is_news(("invited", group)):
                    return ""
                return f"{shown_as(by)} invites you to {details.name}#{group} (/joingroup {group} or /decline {group})"
            case notices.InvitationDeclined(group, user):
                return f"{shown_as(user)} has declined your invitation to {self._place(group)}"
            case notices.JoinRequested(group, user, waiting):
                if waiting and not self.contacts.is_news(("asks", group, user.id)):
                    return ""
                name = self._place(group)
                return (
                    f"{shown_as(user)} asks to join {name} (/approve #{group} {user.id} or /reject #{group} {user.id})"
                )
            case notices.JoinRejected(group, details):
                return f"your request to join {details.name}#{group} was refused"
            case notices.RulesChanged():
                return f"{shown_as(notice.by)} has changed the rules of {self._place(notice.group)} (/groupinfo)"
            case notices.MemberBanned(group, user, by):
                return f"{shown_as(by)} has banned {shown_as(user)} from {self._place(group)}"
            case notices.MemberUnbanned(group, user, by):
                return f"{shown_as(by)} lets {shown_as(user)} join {self._place(group)} again"
            case notices.MemberMuted(group, user, until_ms):
                until = f" until {when(until_ms)}" if until_ms else ""
                return f"{self._who(user)} cannot write in {self._place(group)}{until}"
            case notices.MemberUnmuted(group, user):
                return f"{self._who(user)} can write in {self._place(group)} again"
        return ""

    def _who(self, user: User) -> str:
        return "you" if user.id == self._me else shown_as(user)

    def _conversation(self, notice: notices.AnyNotice) -> str:
        match notice:
            case notices.MessageChanged(place, seq, state, text, by):
                if not self.changes.arrived(notice):
                    self._changes_missed()
                    return ""
                who, where = by.name if by else "somebody", self._where(place)
                if state == "edited":
                    return f"{who} edited {seq}{where}: {text}"
                return f"{who} {state} {seq}{where}"
            case notices.MessageCut(_, seq, user):
                return f"{user.name}'s client could show only the beginning of your message {seq}"
            case notices.OperatorSays(text):
                return f"the operator of the server says: {text}"
            case notices.SomebodyTypes(place, by):
                self.typing[place, by.name] = time.monotonic() + TYPES_FOR_S
        return ""

    def types(self, place: str) -> None:
        """The person types a message to this conversation: tell the other side, if the server does that."""
        now = time.monotonic()
        if self._types_nothing or now < self._types_again_at or not self._client.offers_requests:
            return
        self._types_again_at = now + TYPES_AGAIN_S
        self._telling = asyncio.get_running_loop().create_task(self._tell_typing(place))

    async def _tell_typing(self, place: str) -> None:
        try:
            await self._client.conversations.typing(place)
        except NotOffered:
            self._types_nothing = True
        except ChatError:
            pass  # the other side does not want to know, or it is too late to tell

    def sent(self, place: str, name: str) -> None:
        """A user whose message has arrived is not typing it any more."""
        self.typing.pop((place, name), None)

    def typists(self) -> list[str]:
        """The user who is typing, with the group in which they do."""
        now = time.monotonic()
        self.typing = {key: until for key, until in self.typing.items() if until > now}
        return [name if not place.startswith("#") else f"{name} in {self._place(int(place[1:]))}"
                for place, name in self.typing]  # fmt: skip


def when(at_ms: int) -> str:
    """Local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ms / 1000))
