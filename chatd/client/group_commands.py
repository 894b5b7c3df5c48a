"""Commands about groups: joining and leaving, and running them.

Owns: these commands. Elsewhere: the lists (contacts), which notices keep true (live). Fails: Usage, ChatError.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

from chatd.client.app import App
from chatd.client.grammar import GROUP_FIELDS, Usage
from chatd.client.live import shown_as, when
from chatd.client.screen import Screen
from chatd.client.target import Target
from chatd_client import results
from chatd_client.errors import ChatError, NotOffered
from chatd_client.model import is_number

if TYPE_CHECKING:
    from chatd_client.groups import Join, Past, Role

SWITCH = {"on": True, "off": False}
MAX_MINUTES = 10 * 365 * 24 * 60


class GroupCommands:
    def __init__(self, app: App, screen: Screen, target: Target) -> None:
        self._app = app
        self._client = app.client
        self._screen = screen
        self._target = target
        self._groups = app.client.groups

    def verbs(self) -> dict[str, Callable[[Sequence[str]], Awaitable[None]]]:
        return {
            "groups": self._list,
            "creategroup": self._create,
            "joingroup": self._join,
            "leave": self._leave,
            "groupinfo": self._info,
            "groupset": self._set,
            "invite": self._invite,
            "invitations": self._invitations,
            "decline": self._decline,
            "add": self._add,
            "requests": self._requests,
            "approve": self._approve,
            "reject": self._reject,
            "kick": self._kick,
            "ban": self._ban,
            "unban": self._unban,
            "bans": self._bans,
            "mute": self._mute,
            "unmute": self._unmute,
            "role": self._role,
            "dissolve": self._dissolve,
        }

    def _name(self, group_id: int) -> str:
        return f"{self._app.contacts.group_name(group_id)}#{group_id}"

    # ------------------------------------------------------------ one's own groups

    async def _list(self, words: Sequence[str]) -> None:
        contacts = self._app.contacts
        for group_id in tuple(contacts.groups):
            if self._client.user is not None and self._client.offers_requests:
                with contextlib.suppress(ChatError):  # then as far as they are known
                    await self._app.live.load_members(group_id)
            self._tell_group(group_id)
        if not contacts.groups:
            self._screen.notice("no groups yet: /creategroup NAME or /joingroup ID")

    def _tell_group(self, group_id: int) -> None:
        group = self._app.contacts.groups.get(group_id)
        if group is None:
            return
        about = f": {group.description}" if group.description else ""
        self._screen.notice(f"{group.name}#{group.id}{about}")
        for member in group.members:
            state = "online" if member.online else "offline"
            role = f", {member.role}" if member.role != "member" else ""
            self._screen.notice(f"    {member.name}({member.id}) {state}{role}")

    async def _create(self, words: Sequence[str]) -> None:
        description = words[1] if len(words) > 1 else ""
        group = await self._client.stock.create_group(words[0], description)
        self._app.contacts.rename(group.group_id, group.name, description)
        self._screen.notice(f"made the group {words[0]}, its number is {group.group_id}")

    async def _join(self, words: Sequence[str]) -> None:
        self._client.require_login()
        word = words[0].removeprefix("#")
        if not is_number(word):
            raise Usage("/joingroup ID: a group is joined by its number")
        if not self._client.offers_requests:
            group = await self._client.stock.join_group(int(word))
            self._screen.notice(f"joined the group {group.name}#{group.group_id}")
            return
        found = await self._groups.join(int(word))
        if found.joined:
            self._app.contacts.enter(found.group.id, found.group.name, found.group.description)
            self._screen.notice(f"joined the group {found.group.name}#{found.group.id}")
        else:
            self._screen.notice(f"asked to join {found.group.name}#{found.group.id}: its owner or an admin decides")

    async def _leave(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group_id = self._target.group(words[0])
        name = self._name(group_id)
        left = await self._groups.leave(group_id)
        self._app.contacts.leave(group_id)
        self._screen.notice(f"left {name}" + (", which has ended" if left.ended else ""))

    async def _info(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group_id = self._target.group(words[0] if words else "")
        try:
            found = await self._groups.get(group_id)
        except NotOffered:
            found = None
        if found is not None:
            self._app.contacts.rename(group_id, found.group.name, found.group.description)
        await self._app.live.load_members(group_id)
        self._tell_group(group_id)
        if found is not None:
            self._tell_rules(found)

    def _tell_rules(self, found: results.GroupDetails) -> None:
        writes = "only the owner and admins write" if found.announcements else "all members write"
        past = (
            "members read everything" if found.history == "all" else "members read what was written since they joined"
        )
        self._screen.notice(f"joined by: {found.join}; {past}; {writes}; you are {found.role or 'member'}")
        counts = (("requests to join", found.requests), ("invitations", found.invitations), ("bans", found.bans))
        open_ = [f"{count} {name}" for name, count in counts if count]
        if open_:
            self._screen.notice(", ".join(open_))
        if found.muted:
            until = f" until {when(found.until_ms)}" if found.until_ms else ""
            self._screen.notice(f"you cannot write here{until}")

    # ------------------------------------------------------------ running a group

    async def _set(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group_id, name, value = self._target.group(words[0]), words[1], words[2].strip()
        match name:
            case "name":
                await self._rename(group_id, value, None)
            case "about":
                await self._rename(group_id, self._app.contacts.group_name(group_id), value)
            case "join":
                await self._groups.set(group_id, join=cast("Join", value))  # the server knows what it has
            case "history":
                await self._groups.set(group_id, history=cast("Past", value))
            case "announcements":
                if value not in SWITCH:
                    raise Usage("/groupset announcements on|off")
                await self._groups.set(group_id, announcements=SWITCH[value])
            case _:
                raise Usage(f"/groupset {'|'.join(GROUP_FIELDS)} VALUE")
        self._screen.notice(f"{name} of {self._name(group_id)} is now: {value}")

    async def _rename(self, group_id: int, name: str, description: str | None) -> None:
        group = await self._groups.rename(group_id, name, description)
        self._app.contacts.rename(group_id, group.name, group.description)

    def _group(self, word: str) -> int:
        """The group that a word names. Raises Usage, NotLoggedIn."""
        self._client.require_login()
        return self._target.group(word)

    async def _invite(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        found = await self._groups.invite(group_id, words[1])
        if found.joined:  # they had asked to join
            self._screen.notice(f"{shown_as(found.user)} is now a member of {self._name(group_id)}")
        else:
            self._screen.notice(f"invited {shown_as(found.user)} to {self._name(group_id)}")

    async def _add(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        found = await self._groups.add(group_id, words[1])
        if found.joined:
            self._screen.notice(f"{shown_as(found.user)} is now a member of {self._name(group_id)}")
        else:
            self._screen.notice(f"{shown_as(found.user)} cannot be added by you, and is invited instead")

    async def _invitations(self, words: Sequence[str]) -> None:
        self._client.require_login()
        found = await self._groups.invitations()
        for one in found:
            number = one.group.id
            self._screen.notice(
                f"{shown_as(one.by)} invites you to {one.group.name}#{number}: /joingroup {number} or /decline {number}"
            )
        if not found:
            self._screen.notice("no invitations")

    async def _decline(self, words: Sequence[str]) -> None:
        self._client.require_login()
        word = words[0].removeprefix("#")
        if not is_number(word):
            raise Usage("/decline #GROUP: give the number of the group; /invitations lists them")
        await self._groups.decline(int(word))
        self._screen.notice(f"group {word}: invitation declined, or request taken back")

    async def _requests(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group_id = self._target.group(words[0] if words else "")
        found = await self._groups.requests(group_id)
        for one in found:
            number = one.user.id
            self._screen.notice(
                f"{shown_as(one.user)} asks to join: /approve #{group_id} {number} or /reject #{group_id} {number}"
            )
        if not found:
            self._screen.notice("nobody asks to join")

    async def _approve(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        found = await self._groups.approve(group_id, words[1])
        self._screen.notice(f"{shown_as(found.user)} is now a member of {self._name(group_id)}")

    async def _reject(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        user = await self._groups.reject(group_id, words[1])
        self._screen.notice(f"refused {shown_as(user)}, who asked to join {self._name(group_id)}")

    async def _kick(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        user = await self._groups.kick(group_id, words[1])
        self._app.contacts.remove_member(group_id, user.id)
        self._screen.notice(f"removed {shown_as(user)} from {self._name(group_id)}")

    async def _ban(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        user = await self._groups.ban(group_id, words[1])
        self._app.contacts.remove_member(group_id, user.id)
        self._screen.notice(f"banned {shown_as(user)} from {self._name(group_id)}")

    async def _unban(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        user = await self._groups.unban(group_id, words[1])
        self._screen.notice(f"{shown_as(user)} can join {self._name(group_id)} again")

    async def _bans(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group_id = self._target.group(words[0] if words else "")
        found = await self._groups.bans(group_id)
        for one in found:
            by = f", by {shown_as(one.by)}" if one.by else ""
            self._screen.notice(f"{shown_as(one.user)}{by}")
        if not found:
            self._screen.notice("nobody is banned")

    async def _mute(self, words: Sequence[str]) -> None:
        minutes = words[2] if len(words) > 2 else ""
        if minutes and not (is_number(minutes) and int(minutes) <= MAX_MINUTES):
            raise Usage(f"{minutes} is not a number of minutes")
        group_id = self._group(words[0])
        user = await self._groups.mute(group_id, words[1], int(minutes) * 60 if minutes else None)
        until = f" for {minutes} minutes" if minutes else ""
        self._screen.notice(f"{shown_as(user)} cannot write in {self._name(group_id)}{until}")

    async def _unmute(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        user = await self._groups.unmute(group_id, words[1])
        self._screen.notice(f"{shown_as(user)} can write in {self._name(group_id)} again")

    async def _role(self, words: Sequence[str]) -> None:
        group_id = self._group(words[0])
        user = await self._groups.role(group_id, words[1], cast("Role", words[2]))
        self._app.contacts.set_role(group_id, user.id, words[2])
        self._screen.notice(f"{shown_as(user)} is now {words[2]} of {self._name(group_id)}")

    async def _dissolve(self, words: Sequence[str]) -> None:
        self._client.require_login()
        group_id = self._target.group(words[0])
        name = self._name(group_id)
        await self._groups.dissolve(group_id)
        self._app.contacts.leave(group_id)
        self._screen.notice(f"dissolved {name}")
