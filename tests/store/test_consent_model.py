"""Blocks, audiences, friends and messages in any order, on a store that is open twice, against a model: what users
accept is the same whatever a connection remembers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chatd.config.urls import parse_mysql
from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, User
from chatd.store.consent_contract import AskingRules, Purpose
from chatd.store.contract import Draft, SendingRules, Stored, Tables
from chatd.store.mysql import tables as mysql_tables
from chatd.store.sqlite import tables as sqlite_tables
from tests.harness.mariadb import MariaDB
from tests.store.consent_model import ConsentModel
from tests.store.steps import ANY, ANYBODY, done, make, to

AGAIN_MS = 100
PEOPLE = 3
EXAMPLES = {"sqlite": 15, "mysql": 6}
"""Both have nearly all of their SQL in common, and a step on MySQL waits for its server."""
_names = itertools.count(1)


@pytest.fixture(params=["sqlite", "mysql"])
def connections(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Tables]]:
    """Two to the same store, as two workers have them."""
    if request.param == "mysql":
        server: MariaDB = request.getfixturevalue("mariadb")
        address = parse_mysql(server.url())
        made = [mysql_tables.open_tables(address, 20.0, create=True) for _ in range(2)]
    else:
        made = [sqlite_tables.open_tables(tmp_path / "chatd.db", create=True) for _ in range(2)]
    yield made
    for tables in made:
        tables.close()


class Consent(RuleBasedStateMachine):
    """Each example has people of its own."""

    connections: list[Tables]
    people = st.integers(0, PEOPLE - 1)
    workers = st.integers(0, 1)

    @initialize(default=st.sampled_from([Audience.EVERYBODY, Audience.CONTACTS, Audience.FRIENDS]))
    def begin(self, default: Audience) -> None:
        self.model = ConsentModel(dict.fromkeys(Purpose, default), AGAIN_MS)
        self.users: list[User] = make(self.connections[0], *(f"person number {next(_names)}" for _ in range(PEOPLE)))
        self.rules = SendingRules(may_write=default)
        self.asking = AskingRules(may_ask=default, again_ms=AGAIN_MS)
        self.now_ms = 1000

    def did(self, worker: int, work: Callable[[Tables], Any]) -> Any:
        """What it gave, or the code of its refusal."""
        self.now_ms += 1
        try:
            return done(self.connections[worker], work)
        except Refused as refused:
            return refused.code

    # ------------------------------------------------------------ what people do

    @rule(one=people, other=people, worker=workers)
    def blocks(self, one: int, other: int, worker: int) -> None:
        user, blocked = self.users[one].id, self.users[other].id
        found = self.did(worker, lambda tables: tables.consent.block(user, blocked, ANY, self.now_ms))
        assert found == (ErrorCode.NOT_ALLOWED if one == other else self.model.block(user, blocked))

    @rule(one=people, other=people, worker=workers)
    def unblocks(self, one: int, other: int, worker: int) -> None:
        pair = (self.users[one].id, self.users[other].id)
        found = self.did(worker, lambda tables: tables.consent.unblock(*pair))
        assert found == (None if pair in self.model.blocks else ErrorCode.NOT_ALLOWED)
        self.model.blocks.discard(pair)

    @rule(one=people, purpose=st.sampled_from(Purpose), audience=st.sampled_from(Audience), worker=workers)
    def chooses(self, one: int, purpose: Purpose, audience: Audience, worker: int) -> None:
        user = self.users[one].id
        self.did(worker, lambda tables: tables.consent.choose(user, {purpose: audience}))
        self.model.choose(user, purpose, audience)

    @rule(one=people, other=people, worker=workers)
    def asks(self, one: int, other: int, worker: int) -> None:
        sender, asked = self.users[one], self.users[other].id
        found = self.did(worker, lambda tables: tables.friends.request(sender, asked, self.asking, self.now_ms))
        assert found == self.model.request(sender.id, asked, self.now_ms)

    @rule(one=people, other=people, worker=workers)
    def asks_and_is_blocked(self, one: int, other: int, worker: int) -> None:
        self.asks(one, other, worker)
        self.blocks(other, one, 1 - worker)

    @rule(one=people, other=people, accept=st.booleans(), worker=workers)
    def answers(self, one: int, other: int, accept: bool, worker: int) -> None:
        user, requester = self.users[one].id, self.users[other].id
        found = self.did(
            worker, lambda tables: tables.friends.answer(user, requester, accept, ANY, self.now_ms)
        )  # fmt: skip
        assert found == self.model.answer(user, requester, accept, self.now_ms)

    @rule(one=people, other=people, worker=workers)
    def parts(self, one: int, other: int, worker: int) -> None:
        user, friend = self.users[one].id, self.users[other].id
        found = self.did(worker, lambda tables: tables.friends.remove(user, friend))
        assert found == self.model.remove(user, friend)

    @rule(by=st.integers(AGAIN_MS // 3, AGAIN_MS))
    def time_passes(self, by: int) -> None:
        self.now_ms += by

    @rule(members=st.sets(people, min_size=1), worker=workers)
    def makes_a_group(self, members: set[int], worker: int) -> None:
        first, *others = (self.users[number] for number in sorted(members))
        group = self.did(worker, lambda tables: tables.groups.create(first.id, "team", "", ANY, self.now_ms))
        for member in others:
            self.join(worker, member, group)
        self.model.groups[group] = {first.id, *(member.id for member in others)}

    def join(self, worker: int, user: User, group: int) -> None:
        self.did(worker, lambda tables: tables.admission.join(user.id, group, ANYBODY, self.now_ms))

    @rule(one=people, worker=workers)
    def leaves_a_group(self, one: int, worker: int) -> None:
        user = self.users[one].id
        group = next((number for number, members in self.model.groups.items() if user in members), None)
        if group is not None:
            self.did(worker, lambda tables: tables.groups.leave(user, group))
            self.model.groups[group].discard(user)

    @rule(pairs=st.lists(st.tuples(people, people), min_size=1, max_size=4), worker=workers)
    def write(self, pairs: list[tuple[int, int]], worker: int) -> None:
        self.send([(self.users[one], self.users[other]) for one, other in pairs], worker)

    @rule(worker=workers)
    def everybody_writes(self, worker: int) -> None:
        """So that the connection remembers who may."""
        self.send(list(itertools.product(self.users, self.users)), worker)

    @rule(one=people, other=people, worker=workers)
    def blocks_and_is_written_to(self, one: int, other: int, worker: int) -> None:
        """By way of the other connection."""
        self.everybody_writes(1 - worker)
        self.blocks(one, other, worker)
        self.everybody_writes(1 - worker)

    def send(self, senders: list[tuple[User, User]], worker: int) -> None:
        """A message of the batch may or may not count as an answer to an earlier one of it."""
        drafts = [Draft(sender, to(recipient)) for sender, recipient in senders]
        before = [self.model.refusal(Purpose.WRITE, one.id, other.id) for one, other in senders]
        found = self.did(worker, lambda tables: tables.append(drafts, self.now_ms, self.rules))
        for (sender, recipient), code, result in zip(senders, before, found, strict=True):
            given = None if isinstance(result, Stored) else result
            assert given in (code, self.model.refusal(Purpose.WRITE, sender.id, recipient.id))
            if given is None:
                self.model.wrote(sender.id, recipient.id)

    # ------------------------------------------------------------ what is so afterwards

    @invariant()
    def every_connection_agrees_with_the_model(self) -> None:
        if not hasattr(self, "users"):
            return
        numbers = [user.id for user in self.users]
        pairs = list(itertools.product(numbers, numbers))
        for tables in self.connections:
            for purpose in Purpose:
                found = tables.consent.refusals(purpose, pairs, self.model.defaults[purpose])
                assert found == [self.model.refusal(purpose, *pair) for pair in pairs], purpose
            for user in numbers:
                assert {one.id for one in tables.consent.blocked(user, 0, ANY)} == {
                    other for other in numbers if (user, other) in self.model.blocks
                }
                assert {frozenset((user, one.id)) for one in tables.friends.of(user)} == {
                    pair for pair in self.model.friends if user in pair
                }
                assert {one.sender.id for one in tables.friends.requests_to(user)} == {
                    sender for sender, asked in self.model.asked if asked == user
                }


def test_what_users_accept_is_what_the_model_says(request: pytest.FixtureRequest, connections: list[Tables]) -> None:
    machine = type("Twin", (Consent,), {"connections": connections})
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
