"""The legacy groups and their members.

Owns: the rules for groups: each has one owner and at least one member. Ids are kept.
Elsewhere: reading (importer.legacy), the groups' messages (importer.offline_messages).
Fails: never by itself; a row that cannot be imported is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from chatd.importer.accounts import ImportedAccounts
from chatd.importer.legacy import LegacyDatabase
from chatd.importer.report import ImportReport
from chatd.model import JoinPolicy, Role
from chatd.store.contract import FIRST_VERSION
from chatd.store.copy import Row

_FIRST_SEQ = 1
"""Members can read all messages of an imported group: there are none but those that wait for them."""

Members = dict[int, Role]


class ImportedGroups:
    """The groups that are imported. Filled by decide()."""

    def __init__(self, name_chars: int) -> None:
        """name_chars: the longest name, in characters."""
        self.members: dict[int, Members] = {}
        """By the id of the group."""
        self._names: dict[int, tuple[str, str]] = {}
        self._name_chars = name_chars

    def decide(self, legacy: LegacyDatabase, accounts: ImportedAccounts, report: ImportReport) -> None:
        for number, name, text in legacy.groups():
            if number <= 0 or number in self._names:
                why = "the id occurs twice" if number > 0 else "the id is not a positive number"
                report.reject("allgroup", why, {"id": number, "groupname": name, "groupdesc": text})
            else:
                self._names[number] = (self._fit(number, name, report), text)
        self._decide_members(legacy, accounts, report)
        for number, (name, text) in sorted(self._names.items()):
            if number not in self.members:
                row: dict[str, int | str | None] = {"id": number, "groupname": name, "groupdesc": text}
                report.reject("allgroup", "the group has no members", row)
            else:
                self._one_owner(number, name, report)

    def _fit(self, number: int, raw: str, report: ImportReport) -> str:
        name = raw.strip()[: self._name_chars].strip() or f"group-{number}"
        if name != raw:
            report.change(
                "allgroup: the name is empty, too long or has space around it", f"{number}: {raw!r} is {name!r}"
            )
        return name

    def _decide_members(self, legacy: LegacyDatabase, accounts: ImportedAccounts, report: ImportReport) -> None:
        for group, user, text in legacy.members():
            row: dict[str, int | str | None] = {"groupid": group, "userid": user, "grouprole": text}
            if group is None or group not in self._names:
                report.reject("groupuser", "there is no such group", row)
                continue
            if user is None or user not in accounts.ids:
                report.reject("groupuser", "there is no such account", row)
                continue
            role = Role.OWNER if text.lower() == "creator" else Role.MEMBER
            members = self.members.setdefault(group, {})
            if user in members:
                report.change("groupuser: occurred several times", f"{user} in {group}")
            members[user] = min(role, members.get(user, role))

    def _one_owner(self, number: int, name: str, report: ImportReport) -> None:
        members = self.members[number]
        owners = sorted(user for user, role in members.items() if role is Role.OWNER)
        if not owners:
            owner = min(members)
            members[owner] = Role.OWNER
            report.change(
                "allgroup: had no creator; the member with the lowest id owns it", f"{number} {name!r}: {owner}"
            )
        for more in owners[1:]:
            members[more] = Role.ADMIN
            text = "allgroup: had several creators; the one with the lowest id owns it, the others are admins"
            report.change(text, f"{number} {name!r}: {owners[0]}, and {more}")

    def teams(self, report: ImportReport, now_ms: int) -> Iterator[Row]:
        for number in sorted(self.members):
            report.imported["groups"] += 1
            count = len(self.members[number])
            yield (number, *self._names[number], now_ms, FIRST_VERSION, JoinPolicy.OPEN.value, 0, 0, count)

    def memberships(self, report: ImportReport, now_ms: int) -> Iterator[Row]:
        for number, members in sorted(self.members.items()):
            for user, role in sorted(members.items()):
                report.imported["memberships"] += 1
                yield (number, user, int(role), now_ms, FIRST_VERSION, 0, _FIRST_SEQ)
