"""What an operator orders about groups: making one for somebody, and who is in it.

Owns: these orders, as Changes. No plug-in is asked, and no user.
Elsewhere: everything else that an operator does to a group is what its owner can do (core.groups.settings,
core.groups.members), done by model.SYSTEM; the rules, which the store checks inside the transaction.
Fails: Refused; then nothing was changed and nobody was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chatd import wall_clock
from chatd.core.change import Change
from chatd.core.friends import Find
from chatd.core.groups.admission import GroupAdmission
from chatd.core.groups.notify import GroupNotify
from chatd.core.groups.settings import GroupDraft, GroupSettings
from chatd.core.requests.notices import of_user
from chatd.errors import ErrorCode, Refused
from chatd.model import SYSTEM, GroupId, Role, User, UserId
from chatd.store.contract import FIRST_VERSION, AdmissionLimits, Again, GroupOverview, Joined, Tables


class Created(NamedTuple):
    """members: the owner first, with the members_version of the group with which each joined."""

    group: GroupOverview
    members: tuple[tuple[User, int], ...]


class Placed(NamedTuple):
    """A user is a member now. joined.fresh: they were not one before. has_new_role: of one who was."""

    user: User
    joined: Joined
    role: Role
    has_new_role: bool


def _check_room(tables: Tables, user_ids: Sequence[UserId], limits: AdmissionLimits) -> None:
    """Before anything is written. Raises Refused LIMIT_REACHED."""
    if len(user_ids) >= limits.members:
        raise Refused(ErrorCode.LIMIT_REACHED, f"a group has at most {limits.members} members")
    for user_id in user_ids:
        if len(tables.groups.ids_of(user_id)) >= limits.groups:
            text = f"user {user_id} is in {limits.groups} groups already, which is the limit"
            raise Refused(ErrorCode.LIMIT_REACHED, text)


class GroupOrders:
    def __init__(self, settings: GroupSettings, admission: GroupAdmission, notify: GroupNotify) -> None:
        self._settings = settings
        self._admission = admission
        self._notify = notify

    def creating(self, draft: GroupDraft, owner: Find, members: Sequence[Find]) -> Change[Created]:
        """Each member is told, the owner too. Raises Refused BAD_FIELD; the transaction also UNKNOWN_RECIPIENT,
        LIMIT_REACHED."""
        name, text = self._settings.checked(draft.name, draft.description)
        limits, now_ms = self._admission.limits(), wall_clock.now_ms()

        def write(tables: Tables) -> Created:
            first, users = owner(tables), {user.id: user for user in (find(tables) for find in members)}
            users.pop(first.id, None)
            _check_room(tables, list(users), limits)
            checked = GroupDraft(name=name, description=text or "", rules=draft.rules)
            number = self._settings.create_in(tables, first.id, checked).id
            found = [(first, FIRST_VERSION)]
            for user in users.values():
                try:
                    joined = tables.admission.add(SYSTEM.id, number, user.id, limits, now_ms)
                except Refused as refused:  # there was room a moment ago; the group must not stay
                    raise Again(refused.text) from None
                found.append((user, joined.since_version))
            group = tables.groups.overview(number)
            assert group is not None
            return Created(group, tuple(found))

        return Change(write, self._tell_created)

    async def _tell_created(self, created: Created) -> None:
        for user, since_version in created.members:
            await self._notify.let_in(user, created.group.group, since_version, SYSTEM)

    def placing(self, group_id: GroupId, find: Find, role: Role | None) -> Change[Placed]:
        """Make a user a member, whether or not they were one, invited, or banned; with this role, or with the one they
        have. The transaction raises Refused UNKNOWN_GROUP, UNKNOWN_RECIPIENT, LIMIT_REACHED, and NOT_ALLOWED where the
        group would have no owner."""
        limits, now_ms = self._admission.limits(), wall_clock.now_ms()

        def write(tables: Tables) -> Placed:
            user = find(tables)
            joined = tables.admission.add(SYSTEM.id, group_id, user.id, limits, now_ms)
            before = tables.groups.role(group_id, user.id)
            if role is None or role is before:
                return Placed(user, joined, before, has_new_role=False)
            tables.groups.set_role(SYSTEM.id, group_id, user.id, role)
            return Placed(user, joined, role, has_new_role=True)

        return Change(write, self._tell_placed)

    async def _tell_placed(self, placed: Placed) -> None:
        user, joined = placed.user, placed.joined
        if joined.fresh:
            await self._notify.let_in(user, joined.group, joined.since_version, SYSTEM)
        if placed.has_new_role:
            self._notify.tell(joined.group.id, "group.role", user=of_user(user), role=placed.role.name.lower())
