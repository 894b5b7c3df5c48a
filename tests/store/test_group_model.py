"""Everything that members and strangers can do to a group, in any order, on a store that is open twice, against a
model: who is in it, who is kept out, who writes and who reads from where on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, JoinPolicy, Role, User
from chatd.store.consent_contract import Purpose
from chatd.store.contract import AdmissionLimits, AdmissionState, Draft, Joined, RulesChange, Stored, Tables
from chatd.store.group_contract import FOREVER
from tests.store.group_model import Given, GroupModel
from tests.store.steps import ANY, done, make, to_group
from tests.store.test_consent_model import EXAMPLES
from tests.store.test_consent_model import connections as connections

AGAIN_MS = 40
PEOPLE = 4
LIMITS = AdmissionLimits(members=ANY, groups=ANY, again_ms=AGAIN_MS, may_add=Audience.FRIENDS)
"""Nobody has friends here."""
_names = itertools.count(1)


class Groups(RuleBasedStateMachine):
    """Each example has people and a group of its own."""

    connections: list[Tables]
    people = st.integers(0, PEOPLE - 1)
    workers = st.integers(0, 1)

    @initialize(standing=st.permutations([Role.OWNER, Role.ADMIN, Role.MEMBER, None]), adders=st.sets(people))
    def begin(self, standing: list[Role | None], adders: set[int]) -> None:
        """An owner, an admin, a member and a stranger."""
        tables, owner = self.connections[0], standing.index(Role.OWNER)
        self.users: list[User] = make(tables, *(f"member number {next(_names)}" for _ in range(PEOPLE)))
        choice = {Purpose.ADD: Audience.EVERYBODY}
        for adder in adders:
            done(tables, lambda inside, adder=adder: inside.consent.choose(self.users[adder].id, choice))
        first = self.users[owner].id
        self.group = done(tables, lambda inside: inside.groups.create(first, "team", "", ANY, 0))
        self.model = GroupModel(first, AGAIN_MS, {self.users[adder].id for adder in adders})
        self.now_ms = 1
        for role in (Role.ADMIN, Role.MEMBER):
            self.joins(standing.index(role), 0)
            self.gives_role(owner, standing.index(role), role, 0)

    def did(self, worker: int, work: Callable[[Tables], Any]) -> Given:
        """As the model gives it."""
        self.now_ms += 1
        self.worker = worker
        try:
            found = done(self.connections[worker], work)
        except Refused as refused:
            return refused.code
        return found.pending if isinstance(found, Joined) else None

    @invariant()
    def nobody_writes_who_may_not(self) -> None:
        """By the connection that did not make the last change, and remembers how everybody stood to the group."""
        if hasattr(self, "worker"):
            self.everybody_writes(1 - self.worker)

    # ------------------------------------------------------------ coming and going

    @rule(who=people, worker=workers)
    def joins(self, who: int, worker: int) -> None:
        user = self.users[who].id
        found = self.did(worker, lambda tables: tables.admission.join(user, self.group, LIMITS, self.now_ms))
        assert found == self.model.join(user, self.now_ms)

    @rule(who=people, worker=workers)
    def leaves(self, who: int, worker: int) -> None:
        user = self.users[who].id
        assert self.did(worker, lambda tables: tables.groups.leave(user, self.group)) == self.model.leave(user)

    @rule(who=people, worker=workers)
    def declines(self, who: int, worker: int) -> None:
        user = self.users[who].id
        found = self.did(worker, lambda tables: tables.admission.decline(user, self.group, self.now_ms))
        assert found == self.model.decline(user, self.now_ms)

    @rule(how=st.sampled_from(["invite", "add"]), one=people, other=people, worker=workers)
    def lets_in(self, how: str, one: int, other: int, worker: int) -> None:
        by, user = self.users[one].id, self.users[other].id
        found = self.did(
            worker, lambda tables: getattr(tables.admission, how)(by, self.group, user, LIMITS, self.now_ms)
        )
        assert found == getattr(self.model, how)(by, user, self.now_ms)

    @rule(approve=st.booleans(), one=people, other=people, worker=workers)
    def answers(self, approve: bool, one: int, other: int, worker: int) -> None:
        by, user = self.users[one].id, self.users[other].id

        def work(tables: Tables) -> object:
            if approve:
                return tables.admission.approve(by, self.group, user, LIMITS, self.now_ms)
            return tables.admission.reject(by, self.group, user, self.now_ms)

        assert self.did(worker, work) == self.model.answer(by, user, approve, self.now_ms)

    @rule(how=st.sampled_from(["kick", "ban", "unban"]), one=people, other=people, worker=workers)
    def keeps_out(self, how: str, one: int, other: int, worker: int) -> None:
        by, user = self.users[one].id, self.users[other].id

        def work(tables: Tables) -> None:
            if how == "kick":
                tables.groups.kick(by, self.group, user, self.now_ms)
            elif how == "ban":
                tables.admission.ban(by, self.group, user, self.now_ms)
            else:
                tables.admission.unban(by, self.group, user)

        assert self.did(worker, work) == getattr(self.model, how)(by, user)

    @rule(how=st.sampled_from(["invite", "add", "unban"]), one=people, other=people, third=people, worker=workers)
    def quarrel(self, how: str, one: int, other: int, third: int, worker: int) -> None:
        """One keeps the third out, the other lets them in."""
        self.keeps_out("ban", one, third, worker)
        if how == "unban":
            self.keeps_out(how, other, third, worker)
        else:
            self.lets_in(how, other, third, worker)
        self.joins(third, worker)

    @rule(one=people, other=people, worker=workers)
    def is_muted_and_comes_back(self, one: int, other: int, worker: int) -> None:
        self.mutes(one, other, FOREVER, worker)
        self.leaves(other, 1 - worker)
        self.joins(other, worker)

    @rule(who=people, worker=workers, sure=st.integers(0, 9))
    def dissolves(self, who: int, worker: int, sure: int) -> None:
        """Seldom: nothing comes after it."""
        user = self.users[who].id
        if not sure:
            found = self.did(worker, lambda tables: tables.groups.dissolve(user, self.group))
            assert found == self.model.dissolve(user)

    # ------------------------------------------------------------ ruling

    @rule(one=people, other=people, role=st.sampled_from((Role.OWNER, Role.ADMIN, Role.MEMBER)), worker=workers)
    def gives_role(self, one: int, other: int, role: Role, worker: int) -> None:
        by, user = self.users[one].id, self.users[other].id
        found = self.did(worker, lambda tables: tables.groups.set_role(by, self.group, user, role))
        assert found == self.model.set_role(by, user, role)

    @rule(one=people, other=people, after_ms=st.sampled_from([0, 10, FOREVER]), worker=workers)
    def mutes(self, one: int, other: int, after_ms: int, worker: int) -> None:
        by, user = self.users[one].id, self.users[other].id
        until_ms = min(FOREVER, self.now_ms + 1 + after_ms) if after_ms else 0
        found = self.did(worker, lambda tables: tables.groups.mute(by, self.group, user, until_ms))
        assert found == self.model.mute(by, user, until_ms)

    @rule(
        who=people, join=st.sampled_from(JoinPolicy), past=st.booleans(), announcements=st.booleans(), worker=workers
    )  # fmt: skip
    def sets_rules(self, who: int, join: JoinPolicy, past: bool, announcements: bool, worker: int) -> None:
        by = self.users[who].id
        change = RulesChange(join=join, whole_history=past, announcements=announcements)
        found = self.did(worker, lambda tables: tables.groups.set_rules(by, self.group, change))
        assert found == self.model.change(by, join, past, announcements)

    def everybody_writes(self, worker: int) -> None:
        """In one batch: the connection has to know how each of them stands to the group."""
        self.now_ms += 1
        drafts = [Draft(user, to_group(self.group)) for user in self.users]
        found = done(self.connections[worker], lambda tables: tables.append(drafts, self.now_ms))
        expected = [self.model.writing(user.id, self.now_ms) for user in self.users]
        assert [None if isinstance(one, Stored) else one for one in found] == expected
        for user, code, result in zip(self.users, expected, found, strict=True):
            if code is None:
                self.model.log.append(user.id)
                assert result.message.seq == len(self.model.log)  # type: ignore[union-attr]

    # ------------------------------------------------------------ what is so afterwards

    @invariant()
    def every_connection_agrees_with_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        for tables in self.connections:
            self._agrees(tables)

    def _agrees(self, tables: Tables) -> None:
        model, group = self.model, self.group
        assert {user.id: role for user, role in tables.groups.members(group, 0, ANY)} == model.roles
        numbers = [user.id for user in self.users]
        counted = {one.user_id: one.member_count for one in tables.groups.memberships(numbers)}
        assert counted == dict.fromkeys(model.roles, len(model.roles))
        states = {user: state for user, (state, _) in model.states.items()} if model.exists else {}
        invited = {user for user in numbers if tables.admission.invitations(user, 0, ANY)}
        assert invited == {user for user, state in states.items() if state is AdmissionState.INVITED}
        for user in numbers:
            if user in model.roles:
                found = tables.history.messages(user, -group, 0, 0, ANY)
                assert [message.seq for message in found] == model.readable(user)
                waiting = tables.history.waiting(user, ANY).messages
                assert [message.seq for message in waiting] == list(range(model.first[user], len(model.log) + 1))
            else:
                assert tables.history.messages(user, -group, 0, 0, ANY) == []
                assert tables.history.waiting(user, ANY).messages == []
            self._staff_sees(tables, user, states)

    def _staff_sees(self, tables: Tables, user: int, states: dict[int, AdmissionState]) -> None:
        if self.model.roles.get(user, Role.MEMBER) is Role.MEMBER:
            for look in (tables.admission.bans, tables.admission.requests):
                with pytest.raises(Refused) as caught:
                    look(user, self.group, 0, ANY)
                assert caught.value.code == (self.model.standing(user) or ErrorCode.NOT_ALLOWED)
            return
        bans = {ban.user.id: ban.by.id for ban in tables.admission.bans(user, self.group, 0, ANY)}
        assert bans == self.model.bans
        asked = {one.user.id for one in tables.admission.requests(user, self.group, 0, ANY)}
        assert asked == {one for one, state in states.items() if state is AdmissionState.ASKED}
        assert tables.groups.details(self.group, user).rules == self.model.rules


def test_a_group_is_what_the_model_says(request: pytest.FixtureRequest, connections: list[Tables]) -> None:
    machine = type("Twin", (Groups,), {"connections": connections})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES[request.node.callspec.params["connections"]],
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # examples share the connections, so a shorter one may not fail
            suppress_health_check=list(HealthCheck),
        ),
    )
