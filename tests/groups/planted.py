"""`python -m tests.groups.planted switches -c FILE …` is chatd in whose workers guards of groups can be switched off
(tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from chatd.errors import ErrorCode, Refused
from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def everybody_joins() -> Planted:
    """Whatever the group's policy."""
    from chatd.model import JoinPolicy
    from chatd.store.sql.groups import SqlGroups

    return (
        SqlGroups,
        "rules",
        lambda guard, self, group: msgspec.structs.replace(guard(self, group), join=JoinPolicy.OPEN),
    )


def every_request_is_told() -> Planted:
    """Also one that was told before, or refused."""
    from chatd.store.sql.group_admission import SqlGroupAdmission

    def told(guard: Any, self: Any, group: Any, *asked: Any) -> Any:
        return guard(self, group, *asked)._replace(fresh=True, staff=self._groups.staff(group.id))

    return SqlGroupAdmission, "_ask", told


def kicks_are_forgotten() -> Planted:
    from chatd.store.sql.group_admission import SqlGroupAdmission

    return SqlGroupAdmission, "_banned_by", lambda guard, *asked: None


def any_number_of_invitations() -> Planted:
    from chatd.store.sql.group_admission import SqlGroupAdmission

    return SqlGroupAdmission, "_count", lambda guard, *asked: 0


def every_member_decides() -> Planted:
    from chatd.model import Role
    from chatd.store.sql.group_admission import SqlGroupAdmission

    def as_owner(guard: Any, self: Any, by: int, group: int) -> Role:
        self._groups.role(group, by)
        return Role.OWNER

    return SqlGroupAdmission, "_check_staff", as_owner


def requests_belong_to_no_group() -> Planted:
    from chatd.store.sql.group_admission import SqlGroupAdmission

    return SqlGroupAdmission, "_check_asked", lambda guard, *asked: None


def strangers_look_in() -> Planted:
    from chatd.model import Role
    from chatd.store.sql.groups import SqlGroups

    def found(guard: Any, self: Any, *asked: Any) -> Role:
        try:
            return guard(self, *asked)  # type: ignore[no-any-return]
        except Refused as refused:
            if refused.code != ErrorCode.NOT_A_MEMBER:
                raise
            return Role.MEMBER

    return SqlGroups, "role", found


def the_past_is_open() -> Planted:
    from chatd.store.sql.groups import SqlGroups

    return SqlGroups, "first_readable", lambda guard, *asked: 1


def mutes_are_not_looked_at() -> Planted:
    from chatd.store.sql import groups

    return groups, "standing_of", lambda guard, role, muted_until_ms, announcements: guard(role, 0, announcements)


def a_mute_ends_with_the_membership() -> Planted:
    from chatd.store.sql.groups import SqlGroups

    def forgotten(guard: Any, self: Any, group: int, user: int, *rest: Any) -> None:
        self._db.execute("DELETE FROM admission WHERE team_id = ? AND user_id = ?", (group, user))
        guard(self, group, user, *rest)

    return SqlGroups, "add_member", forgotten


def everybody_announces() -> Planted:
    from chatd.store.sql import groups

    return groups, "standing_of", lambda guard, role, muted_until_ms, announcements: guard(role, muted_until_ms, 0)


def nobody_hears_of_the_end() -> Planted:
    from chatd.core.groups.notify import GroupNotify

    return GroupNotify, "dissolved", lambda guard, *asked: None


BUGS = {
    bug.__name__: bug
    for bug in (
        everybody_joins,
        every_request_is_told,
        kicks_are_forgotten,
        any_number_of_invitations,
        every_member_decides,
        requests_belong_to_no_group,
        strangers_look_in,
        the_past_is_open,
        mutes_are_not_looked_at,
        a_mute_ends_with_the_membership,
        everybody_announces,
        nobody_hears_of_the_end,
    )
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
