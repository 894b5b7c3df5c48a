"""Groups: every operation of the server.

Owns: one method per operation.
Elsewhere: asking (requests), the results (results), writing to a group (client: the group is "#" and its number).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from chatd_client import results
from chatd_client.model import User
from chatd_client.people import Who
from chatd_client.requests import Requests

Join = Literal["open", "approval", "invite"]
Past = Literal["all", "joining"]
Role = Literal["owner", "admin", "member"]


class Groups:
    """A group is named by its number."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._ask = requests.ask

    # ------------------------------------------------------------ one's own groups

    async def list(self) -> tuple[results.GroupAbout, ...]:
        """The user's groups."""
        return (await self._ask("group.list", results.Groups)).groups

    async def create(
        self,
        name: str,
        description: str = "",
        *,
        join: Join | None = None,
        history: Past | None = None,
        announcements: bool | None = None,
    ) -> results.GroupAbout:
        """The user becomes its owner. None = the server's choice."""
        made = await self._ask(
            "group.create",
            results.OneGroup,
            name=name,
            description=description or None,
            join=join,
            history=history,
            announcements=announcements,
        )
        return made.group

    async def join(self, group: int) -> results.OneGroup:
        """Join, accept an invitation, or ask to join; joined False: the owner or an admin decides."""
        return await self._ask("group.join", results.OneGroup, group=group)

    async def leave(self, group: int) -> results.Left:
        return await self._ask("group.leave", results.Left, group=group)

    async def invitations(self) -> Sequence[results.Invitation]:
        """The user's open invitations."""
        return await self._requests.rows(
            "group.invitations", results.Invitations, lambda page: page.invitations, lambda one: one.group.id
        )

    async def decline(self, group: int) -> None:
        """Decline an invitation, or take back a request to join."""
        await self._ask("group.decline", results.Nothing, group=group)

    # ------------------------------------------------------------ about a group

    async def get(self, group: int) -> results.GroupDetails:
        """Its rules, and the user's own place in it."""
        return await self._ask("group.get", results.GroupDetails, group=group)

    async def members(self, group: int) -> Sequence[results.Seen]:
        return await self._requests.rows(
            "group.members", results.Members, lambda page: page.members, lambda one: one.id, group=group, limit=200
        )

    async def rename(self, group: int, name: str, description: str | None = None) -> results.GroupAbout:
        renamed = await self._ask("group.rename", results.OneGroup, group=group, name=name, description=description)
        return renamed.group

    async def set(
        self,
        group: int,
        *,
        join: Join | None = None,
        history: Past | None = None,
        announcements: bool | None = None,
    ) -> results.GroupRules:
        """Change how it is joined, who reads its past, and who writes. None = as it is."""
        return await self._ask(
            "group.set", results.GroupRules, group=group, join=join, history=history, announcements=announcements
        )

    async def dissolve(self, group: int) -> None:
        """End it for all its members."""
        await self._ask("group.dissolve", results.Nothing, group=group)

    # ------------------------------------------------------------ its members

    async def invite(self, group: int, user: Who) -> results.OneUser:
        """joined: the user had asked, and is a member now."""
        return await self._ask("group.invite", results.OneUser, group=group, user=user)

    async def add(self, group: int, user: Who) -> results.OneUser:
        """joined False: the user does not accept that, and is invited."""
        return await self._ask("group.add", results.OneUser, group=group, user=user)

    async def requests(self, group: int) -> Sequence[results.Entry]:
        """Who asks to join."""
        return await self._requests.rows(
            "group.requests", results.JoinRequests, lambda page: page.requests, lambda one: one.user.id, group=group
        )

    async def approve(self, group: int, user: Who) -> results.OneUser:
        return await self._ask("group.approve", results.OneUser, group=group, user=user)

    async def reject(self, group: int, user: Who) -> User:
        return await self._of_user("group.reject", group, user)

    async def kick(self, group: int, user: Who) -> User:
        """Remove a member, who is banned with it."""
        return await self._of_user("group.kick", group, user)

    async def ban(self, group: int, user: Who) -> User:
        return await self._of_user("group.ban", group, user)

    async def unban(self, group: int, user: Who) -> User:
        return await self._of_user("group.unban", group, user)

    async def bans(self, group: int) -> Sequence[results.Entry]:
        return await self._requests.rows(
            "group.bans", results.Bans, lambda page: page.bans, lambda one: one.user.id, group=group
        )

    async def mute(self, group: int, user: Who, seconds: int | None = None) -> User:
        """None = until somebody ends it."""
        return (await self._ask("group.mute", results.OneUser, group=group, user=user, seconds=seconds)).user

    async def unmute(self, group: int, user: Who) -> User:
        return await self._of_user("group.unmute", group, user)

    async def role(self, group: int, user: Who, role: Role) -> User:
        """Whoever makes another member the owner is an admin then."""
        return (await self._ask("group.role", results.OneUser, group=group, user=user, role=role)).user

    async def _of_user(self, op: str, group: int, user: Who) -> User:
        return (await self._ask(op, results.OneUser, group=group, user=user)).user
