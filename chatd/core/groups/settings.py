"""Making and ending groups, their names and rules.

Owns: CreateGroup and the requests that mean the same, renaming, rules and dissolving, as Changes, about which plug-ins
are asked first.
Elsewhere: the rules of who may do it, which the store checks inside the transaction; notifying (core.groups.notify);
the arguments of requests (core.requests.groups).
Fails: Refused, Unavailable; then nothing was changed and nobody was told.
"""

from __future__ import annotations

import msgspec

from chatd import wall_clock
from chatd.core.change import Change
from chatd.core.groups.finding import existing
from chatd.core.groups.notify import GroupNotify
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.notices import of_rules, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import Group, GroupId, GroupRules, JoinPolicy, UserId
from chatd.protocol import CreateGroup, GroupReady
from chatd.store.contract import FIRST_VERSION, RulesChange, Tables
from chatd.texts import fields

_DESCRIPTION_CHARS = 200
"""Longest description of a group."""


class GroupDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A group to be created. The texts are as the client sent them."""

    name: str
    description: str
    rules: GroupRules


class GroupSettings:
    def __init__(self, services: Services, notify: GroupNotify, plugins: PluginPipeline) -> None:
        self._services = services
        self._notify = notify
        self._plugins = plugins

    # ---------------------------------------------------------------- the command of the chatserver wire

    async def create(self, session: Session, command: CreateGroup) -> None:
        draft = GroupDraft(name=command.name, description=command.description, rules=self._rules_of_commands())
        group = await (await self.creating(session, draft)).apply(self._services.store)
        session.peer.push(GroupReady(group, True))

    def _rules_of_commands(self) -> GroupRules:
        options = self._services.config().groups
        return GroupRules(
            join=JoinPolicy[options.chatserver_join.upper()], whole_history=options.chatserver_whole_history
        )

    def rules_of_requests(self, given: RulesChange) -> GroupRules:
        """Of a group created by a request that says this much about them."""
        options = self._services.config().groups
        join, whole = JoinPolicy[options.mobileimsdk_join.upper()], options.mobileimsdk_whole_history
        return GroupRules(
            join=join if given.join is None else given.join,
            whole_history=whole if given.whole_history is None else given.whole_history,
            announcements=bool(given.announcements),
        )

    # ---------------------------------------------------------------- changes, which plug-ins may refuse

    async def creating(self, session: Session, draft: GroupDraft) -> Change[Group]:
        """Raises Refused, also BAD_FIELD; Unavailable."""
        (name, text), rules = self.checked(draft.name, draft.description), draft.rules
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_CREATE,
            lambda tables, who: actions.CreateGroup(**who, name=name, description=text or "", rules=rules),
        )
        user = session.user

        def write(tables: Tables) -> Group:
            return self.create_in(tables, user.id, GroupDraft(name=name, description=text or "", rules=rules))

        return Change(write, lambda group: self._notify.entered(user, group.id, FIRST_VERSION))

    def create_in(self, tables: Tables, owner: UserId, draft: GroupDraft) -> Group:
        """In a transaction; the texts are checked. Raises Refused LIMIT_REACHED."""
        limit, now_ms = self._services.config().limits.groups_per_user, wall_clock.now_ms()
        made = tables.groups.create(owner, draft.name, draft.description, limit, now_ms)
        if draft.rules != GroupRules():
            tables.groups.set_rules(owner, made, RulesChange(**msgspec.structs.asdict(draft.rules)))
        return Group(made, draft.name, draft.description)

    async def renaming(self, session: Session, group_id: GroupId, name: str, description: str | None) -> Change[Group]:
        """description None: as it is. Costs as many recipients as a message, as do the rules. Raises also Refused
        BAD_FIELD."""
        self._services.allowances.spend_recipients(session, group_id)
        name, text = self.checked(name, description)

        def renamed(tables: Tables, who: actions.Who) -> actions.RenameGroup:
            return actions.RenameGroup(**who, group=existing(tables, group_id), name=name, description=text)

        await self._plugins.before_action(session, Point.BEFORE_GROUP_RENAME, renamed)
        by = session.user
        return Change(
            lambda tables: tables.groups.rename(by.id, group_id, name, text, wall_clock.now_ms()),
            lambda group: self._notify.rename(group, by),
        )

    async def setting_rules(self, session: Session, group_id: GroupId, change: RulesChange) -> Change[GroupRules]:
        self._services.allowances.spend_recipients(session, group_id)
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_RULES,
            lambda tables, who: actions.SetGroupRules(
                **who, group=existing(tables, group_id), **msgspec.structs.asdict(change)
            ),
        )
        by = session.user
        return Change(
            lambda tables: tables.groups.set_rules(by.id, group_id, change),
            lambda rules: self._notify.tell(group_id, "group.changed", None, **of_rules(rules), by=of_user(by)),
        )

    async def dissolving(self, session: Session, group_id: GroupId) -> Change[int]:
        """The result: the members_version with which all memberships ended."""
        await self._plugins.before_action(
            session,
            Point.BEFORE_GROUP_DISSOLVE,
            lambda tables, who: actions.DissolveGroup(**who, group=existing(tables, group_id)),
        )
        by = session.user
        return Change(
            lambda tables: tables.groups.dissolve(by.id, group_id),
            lambda version: self._notify.dissolve(group_id, by, version),
        )

    def checked(self, name: str, description: str | None) -> tuple[str, str | None]:
        """As they are stored. Raises Refused BAD_FIELD."""
        name = fields.name("the group's name", name, self._services.config().limits.name_chars)
        if description is not None:
            description = fields.paragraphs("the group's description", description, _DESCRIPTION_CHARS)
        return name, description
