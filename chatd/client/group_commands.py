"""Commands about groups: joining and leaving, and running them.

Owns: these commands. Elsewhere: the lists (contacts), which notices keep true (live). Fails: Usage, ChatError.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence

from chatd.client.frame_commands import FrameCommands
from chatd.client.grammar import GROUP_FIELDS, Usage
from chatd.client.live import shown_as, when
from chatd.client.screen import Screen
from chatd.client.session import ClientSession
from chatd.client.target import Target
from chatd_client import results
from chatd_client.errors import ChatError, NotOffered
from chatd_client.model import is_number

SWITCH = {"on": True, "off": False}
MAX_MINUTES = 10 * 365 * 24 * 60


class GroupCommands:
    def __init__(self, session: ClientSession, screen: Screen, target: Target) -> None:
        self._session = session
        self._screen = screen
        self._target = target
        self._frames = FrameCommands(session)
        self._ask = session.requests.ask
        self._rows = session.requests.rows

    def verbs(self) -> dict[str, Callable[[Sequence[str]], Awaitable[None]]]:
        return {
            "groups": self._groups,
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
        return f"{self._session.contacts.group_name(group_id)}#{group_id}"

    # ------------------------------------------------------------ one's own groups

    async def _groups(self, words: Sequence[str]) -> None:
        contacts = self._session.contacts
        for group_id in tuple(contacts.groups):
            if self._session.user is not None and self._session.requests.offered:
                with contextlib.suppress(ChatError):  # then as far as they are known
                    await self._session.live.load_members(group_id)
            self._tell_group(group_id)
        if not contacts.groups:
            self._screen.notice("no groups yet: /creategroup NAME or /joingroup ID")

    def _tell_group(self, group_id: int) -> None:
        group = self._session.contacts.groups.get(group_id)
        if group is None:
            return
        about = f": {group.description}" if group.description else ""
        self._screen.notice(f"{group.name}#{group.id}{about}")
        for member in group.members:
            state = "online" if member.online else "offline"
            role = f", {member.role}" if member.role != "member" else ""
            self._screen.notice(f"    {member.name}({member.id}) {state}{role}")

    async def _create(self, words: Sequence[str]) -> None:
        group = await self._frames.create_group(words[0], words[1] if len(words) > 1 else "")
        self._screen.notice(f"made the group {words[0]}, its number is {group.group_id}")

    async def _join(self, words: Sequence[str]) -> None:
        self._session.require_login()
        word = words[0].removeprefix("#")
        if not is_number(word):
            raise Usage("/joingroup ID: a group is joined by its number")
        if not self._session.requests.offered:
            group = await self._frames.join_group(int(word))
            self._screen.notice(f"joined the group {group.name}#{group.group_id}")
            return
        found = await self._ask("group.join", results.OneGroup, group=int(word))
        if found.joined:
            self._session.contacts.enter(found.group.id, found.group.name, found.group.description)
            self._screen.notice(f"joined the group {found.group.name}#{found.group.id}")
        else:
            self._screen.notice(f"asked to join {found.group.name}#{found.group.id}: its owner or an admin decides")

    async def _leave(self, words: Sequence[str]) -> None:
        self._session.require_login()
        group_id = self._target.group(words[0])
        name = self._name(group_id)
        left = await self._ask("group.leave", results.Left, group=group_id)
        self._session.contacts.leave(group_id)
        self._screen.notice(f"left {name}" + (", which has ended" if left.ended else ""))

    async def _info(self, words: Sequence[str]) -> None:
        self._session.require_login()
        group_id = self._target.group(words[0] if words else "")
        try:
            found = await self._ask("group.get", results.GroupDetails, group=group_id)
        except NotOffered:
            found = None
        if found is not None:
            self._session.contacts.rename(group_id, found.group.name, found.group.description)
        await self._session.live.load_members(group_id)
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
        self._session.require_login()
        group_id, name, value = self._target.group(words[0]), words[1], words[2].strip()
        match name:
            case "name":
                await self._rename(group_id, value, None)
            case "about":
                await self._rename(group_id, self._session.contacts.group_name(group_id), value)
            case "join" | "history":
                await self._ask("group.set", results.GroupRules, group=group_id, **{name: value})
            case "announcements":
                if value not in SWITCH:
                    raise Usage("/groupset announcements on|off")
                await self._ask("group.set", results.GroupRules, group=group_id, announcements=SWITCH[value])
            case _:
                raise Usage(f"/groupset {'|'.join(GROUP_FIELDS)} VALUE")
        self._screen.notice(f"{name} of {self._name(group_id)} is now: {value}")

    async def _rename(self, group_id: int, name: str, description: str | None) -> None:
        more = {} if description is None else {"description": description}
        found = await self._ask("group.rename", results.OneGroup, group=group_id, name=name, **more)
        self._session.contacts.rename(group_id, found.group.name, found.group.description)

    async def _member(self, op: str, words: Sequence[str], **more: object) -> tuple[int, results.OneUser]:
        """Do something with a user in a group. Raises Usage, ChatError."""
        self._session.require_login()
        group_id = self._target.group(words[0])
        return group_id, await self._ask(op, results.OneUser, group=group_id, user=words[1], **more)

    async def _invite(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.invite", words)
        if found.joined:  # they had asked to join
            self._screen.notice(f"{shown_as(found.user)} is now a member of {self._name(group_id)}")
        else:
            self._screen.notice(f"invited {shown_as(found.user)} to {self._name(group_id)}")

    async def _add(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.add", words)
        if found.joined:
            self._screen.notice(f"{shown_as(found.user)} is now a member of {self._name(group_id)}")
        else:
            self._screen.notice(f"{shown_as(found.user)} cannot be added by you, and is invited instead")

    async def _invitations(self, words: Sequence[str]) -> None:
        self._session.require_login()
        found = await self._rows(
            "group.invitations", results.Invitations, lambda page: page.invitations, lambda one: one.group.id
        )
        for one in found:
            number = one.group.id
            self._screen.notice(
                f"{shown_as(one.by)} invites you to {one.group.name}#{number}: /joingroup {number} or /decline {number}"
            )
        if not found:
            self._screen.notice("no invitations")

    async def _decline(self, words: Sequence[str]) -> None:
        self._session.require_login()
        word = words[0].removeprefix("#")
        if not is_number(word):
            raise Usage("/decline #GROUP: give the number of the group; /invitations lists them")
        await self._ask("group.decline", results.Nothing, group=int(word))
        self._screen.notice(f"group {word}: invitation declined, or request taken back")

    async def _requests(self, words: Sequence[str]) -> None:
        self._session.require_login()
        group_id = self._target.group(words[0] if words else "")
        found = await self._rows(
            "group.requests",
            results.JoinRequests,
            lambda page: page.requests,
            lambda one: one.user.id,
            group=group_id,
        )
        for one in found:
            number = one.user.id
            self._screen.notice(
                f"{shown_as(one.user)} asks to join: /approve #{group_id} {number} or /reject #{group_id} {number}"
            )
        if not found:
            self._screen.notice("nobody asks to join")

    async def _approve(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.approve", words)
        self._screen.notice(f"{shown_as(found.user)} is now a member of {self._name(group_id)}")

    async def _reject(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.reject", words)
        self._screen.notice(f"refused {shown_as(found.user)}, who asked to join {self._name(group_id)}")

    async def _kick(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.kick", words)
        self._session.contacts.remove_member(group_id, found.user.id)
        self._screen.notice(f"removed {shown_as(found.user)} from {self._name(group_id)}")

    async def _ban(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.ban", words)
        self._session.contacts.remove_member(group_id, found.user.id)
        self._screen.notice(f"banned {shown_as(found.user)} from {self._name(group_id)}")

    async def _unban(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.unban", words)
        self._screen.notice(f"{shown_as(found.user)} can join {self._name(group_id)} again")

    async def _bans(self, words: Sequence[str]) -> None:
        self._session.require_login()
        group_id = self._target.group(words[0] if words else "")
        found = await self._rows(
            "group.bans", results.Bans, lambda page: page.bans, lambda one: one.user.id, group=group_id
        )
        for one in found:
            by = f", by {shown_as(one.by)}" if one.by else ""
            self._screen.notice(f"{shown_as(one.user)}{by}")
        if not found:
            self._screen.notice("nobody is banned")

    async def _mute(self, words: Sequence[str]) -> None:
        minutes = words[2] if len(words) > 2 else ""
        if minutes and not (is_number(minutes) and int(minutes) <= MAX_MINUTES):
            raise Usage(f"{minutes} is not a number of minutes")
        more = {"seconds": int(minutes) * 60} if minutes else {}
        group_id, found = await self._member("group.mute", words, **more)
        until = f" for {minutes} minutes" if minutes else ""
        self._screen.notice(f"{shown_as(found.user)} cannot write in {self._name(group_id)}{until}")

    async def _unmute(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.unmute", words)
        self._screen.notice(f"{shown_as(found.user)} can write in {self._name(group_id)} again")

    async def _role(self, words: Sequence[str]) -> None:
        group_id, found = await self._member("group.role", words, role=words[2])
        self._session.contacts.set_role(group_id, found.user.id, words[2])
        self._screen.notice(f"{shown_as(found.user)} is now {words[2]} of {self._name(group_id)}")

    async def _dissolve(self, words: Sequence[str]) -> None:
        self._session.require_login()
        group_id = self._target.group(words[0])
        name = self._name(group_id)
        await self._ask("group.dissolve", results.Nothing, group=group_id)
        self._session.contacts.leave(group_id)
        self._screen.notice(f"dissolved {name}")
