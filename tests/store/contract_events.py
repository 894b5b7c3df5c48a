"""What every store must do for events and webhooks: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from chatd.model import SYSTEM, MessageState, Role, User
from chatd.store.contract import EventKind, Tables
from chatd.store.event_contract import ALL_KINDS, Position, Progress, ReadLimits, StoredEvent, WebhookState
from tests.store.steps import ANY, ANYBODY, done, join, make, send, sent, team, to, to_group

LEASE_MS = 60_000
ALL = ReadLimits(events=ANY)
START = Position()


def register(tables: Tables, name: str = "crm", kinds: Collection[str] = ALL_KINDS) -> None:
    done(tables, lambda inside: inside.webhooks.register(name, kinds))


def take(tables: Tables, holder: str = "one", name: str = "crm", lease_ms: int = LEASE_MS) -> WebhookState | None:
    return done(tables, lambda inside: inside.webhooks.take(name, holder, lease_ms))


def taken(tables: Tables, holder: str = "one", lease_ms: int = LEASE_MS) -> WebhookState:
    state = take(tables, holder, lease_ms=lease_ms)
    assert state is not None
    return state


def move(tables: Tables, fence: int, position: Position, claimed: Position | None = None, delivered: int = 0) -> bool:
    progress = Progress(position, claimed or position, delivered)
    return done(tables, lambda inside: inside.webhooks.move("crm", fence, progress, LEASE_MS))


def found(tables: Tables, name: str = "crm") -> WebhookState:
    state = tables.webhooks.find(name)
    assert state is not None
    return state


def events(
    tables: Tables, after: Position = START, kinds: Collection[EventKind] = ALL_KINDS, limits: ReadLimits = ALL
) -> list[StoredEvent]:
    return tables.events.read(after, tables.events.marks(), kinds, limits).events


def told(one: StoredEvent) -> str:
    """In short: the kind, and the text of its message or the names of its users."""
    what = one.message.body if one.message else ",".join(user.name for user in one.users.values())
    return f"{one.kind} {what}".strip()


class EventsContract:
    def test_nothing_is_recorded_unless_a_webhook_wants_it(self, tables: Tables) -> None:
        make(tables, "ann")
        register(tables, kinds=[EventKind.USER_ERASED])
        make(tables, "bob")
        assert events(tables) == []
        register(tables, kinds=[EventKind.USER_REGISTERED])
        make(tables, "cyd")
        assert [told(one) for one in events(tables)] == ["user.registered cyd"]
        assert done(tables, lambda inside: inside.webhooks.forget("crm"))
        make(tables, "dan")
        assert len(events(tables)) == 1

    def test_an_event_is_undone_with_the_change_it_tells_of(self, tables: Tables) -> None:
        register(tables)
        tables.begin()
        tables.accounts.create("ann", "", 1)
        tables.rollback()
        assert events(tables) == []

    def test_every_kind_of_change_is_told_with_what_is_needed(self, tables: Tables) -> None:
        register(tables)
        ann, bob, cyd = make(tables, "ann", "bob", "cyd")
        group = team(tables, ann, bob)
        done(tables, lambda inside: inside.groups.set_role(ann.id, group, bob.id, Role.ADMIN))
        done(tables, lambda inside: inside.groups.rename(ann.id, group, "crew", None, 5))
        done(tables, lambda inside: inside.admission.join(cyd.id, group, ANYBODY, 6))
        done(tables, lambda inside: inside.groups.kick(ann.id, group, cyd.id, 7))
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
        done(tables, lambda inside: inside.groups.dissolve(ann.id, group))
        done(tables, lambda inside: inside.accounts.erase(cyd.id, 8))
        assert [(str(one.kind), dict(one.details)) for one in events(tables)] == [
            *(("user.registered", {"user": user.id}) for user in (ann, bob, cyd)),
            ("group.created", {"group": group, "user": ann.id}),
            ("group.joined", {"group": group, "user": bob.id}),
            ("group.role", {"group": group, "user": bob.id, "role": "admin"}),
            ("group.renamed", {"group": group, "by": ann.id, "name": "crew"}),
            ("group.joined", {"group": group, "user": cyd.id}),
            ("group.kicked", {"group": group, "user": cyd.id, "by": ann.id}),
            ("group.left", {"group": group, "user": bob.id}),
            ("group.dissolved", {"group": group}),
            ("user.deleted", {"user": cyd.id}),
            ("user.erased", {"user": cyd.id}),
        ]

    def test_what_the_system_does_is_told_as_done_by_it(self, tables: Tables) -> None:
        """For the API, or an operator: it has a name, and no account."""
        register(tables, kinds=[EventKind.GROUP_RENAMED, EventKind.GROUP_KICKED])
        ann, bob = make(tables, "ann", "bob")
        group = team(tables, ann, bob)
        done(tables, lambda inside: inside.groups.rename(SYSTEM.id, group, "crew", None, 5))
        done(tables, lambda inside: inside.groups.kick(SYSTEM.id, group, bob.id, 6))
        renamed, kicked = events(tables)
        assert renamed.users == {SYSTEM.id: SYSTEM}
        assert kicked.users == {SYSTEM.id: SYSTEM, bob.id: bob}

    def test_messages_and_events_come_in_the_order_in_which_they_happened(self, tables: Tables) -> None:
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        first = sent(tables, ann, to(bob, "one"), now_ms=10).message
        done(tables, lambda inside: inside.revisions.edit(ann.id, first.conversation, first.seq, ("1", 1000), 11))
        sent(tables, bob, to(ann, "two"), now_ms=12)
        group = team(tables, ann)
        sent(tables, ann, to_group(group, "three"), now_ms=13)
        join(tables, bob, group)
        sent(tables, bob, to_group(group, "four"), now_ms=14)
        done(tables, lambda inside: inside.revisions.recall(ann.id, first.conversation, first.seq, 1000, 15))
        assert [told(one) for one in events(tables)] == [
            "user.registered ann",
            "user.registered bob",
            "message.stored",  # it was recalled since
            "message.edited",
            "message.stored two",
            "group.created ann",
            "message.stored three",
            "group.joined bob",
            "message.stored four",
            "message.recalled",
        ]
        recalled = events(tables)[-1]
        assert recalled.message is not None
        assert (recalled.message.state, recalled.details["by"]) == (MessageState.RECALLED, ann.id)

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_reading_in_parts_gives_the_same_as_reading_at_once(self, tables: Tables, size: int) -> None:
        """And every part can be read again from its two ends."""
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        for number in range(6):
            message = sent(tables, ann, to(bob, f"m{number}"), now_ms=10).message
            if number % 2:
                at = (ann.id, message.conversation, message.seq)
                done(tables, lambda inside, at=at: inside.revisions.edit(*at, ("changed", 1000), 11))  # type: ignore[misc]
        for kinds in (ALL_KINDS, [EventKind.MESSAGE_STORED], [EventKind.MESSAGE_EDITED], [EventKind.USER_LOGIN]):
            whole, upto = events(tables, kinds=kinds), tables.events.marks()
            parts: list[StoredEvent] = []
            position, more = START, True
            while more:
                part = tables.events.read(position, upto, kinds, ReadLimits(events=size))
                assert len(part.events) <= size
                assert tables.events.read(position, part.upto, kinds, ALL).events == part.events
                parts += part.events
                position, more = part.upto, part.more
            assert (parts, position) == (whole, upto)

    def test_a_read_ends_before_it_has_too_many_characters(self, tables: Tables) -> None:
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        send(tables, *[(ann, to(bob, "x" * 400)) for _ in range(5)])
        after = tables.events.read(START, tables.events.marks(), [EventKind.USER_REGISTERED], ALL).upto
        after = after._replace(message=0)
        part = tables.events.read(after, tables.events.marks(), ALL_KINDS, ReadLimits(events=ANY, chars=1000))
        assert (len(part.events), part.more) == (2, True)
        part = tables.events.read(after, tables.events.marks(), ALL_KINDS, ReadLimits(events=ANY, chars=1))
        assert (len(part.events), part.more) == (1, True)

    def test_what_waits_is_counted(self, tables: Tables) -> None:
        register(tables)
        before = tables.events.marks()
        ann, bob = make(tables, "ann", "bob")
        sent(tables, ann, to(bob))
        upto = tables.events.marks()
        assert tables.events.count(before, upto, ALL_KINDS) == 3
        assert tables.events.count(before, upto, [EventKind.USER_REGISTERED]) == 2
        assert tables.events.count(before, upto, [EventKind.MESSAGE_STORED]) == 1
        assert tables.events.count(upto, upto, ALL_KINDS) == 0

    # ---------------------------------------------------------------- deleting

    def test_events_are_kept_until_every_webhook_has_read_them(self, tables: Tables) -> None:
        register(tables)
        register(tables, "audit")
        make(tables, "ann", "bob", "cyd")
        assert done(tables, lambda inside: inside.events.trim(0, ANY, ANY)) == 0
        state = taken(tables)
        assert move(tables, state.fence, Position(0, tables.events.marks().event - 1))
        assert done(tables, lambda inside: inside.events.trim(0, ANY, ANY)) == 0
        assert done(tables, lambda inside: inside.webhooks.forget("audit"))
        assert done(tables, lambda inside: inside.events.trim(0, ANY, 1)) == 1
        assert done(tables, lambda inside: inside.events.trim(0, ANY, ANY)) == 1
        assert [told(one) for one in events(tables)] == ["user.registered cyd"]
        assert found(tables).dropped == 0

    def test_a_webhook_that_does_not_read_cannot_make_the_store_grow(self, tables: Tables) -> None:
        register(tables)
        register(tables, "logins", [EventKind.USER_LOGIN])
        make(tables, "ann", "bob", "cyd", "dan", "eve")
        assert done(tables, lambda inside: inside.events.trim(0, 3, ANY)) == 2
        assert [told(one) for one in events(tables)] == [f"user.registered {name}" for name in ("cyd", "dan", "eve")]
        assert (found(tables).dropped, found(tables, "logins").dropped) == (2, 0)
        assert done(tables, lambda inside: inside.events.trim(1 << 60, ANY, ANY)) == 3
        assert (events(tables), found(tables).dropped) == ([], 5)
        make(tables, "flo")
        assert [told(one) for one in events(tables, found(tables).position)] == ["user.registered flo"]

    # ---------------------------------------------------------------- leases

    def test_a_new_webhook_begins_at_the_present_end(self, tables: Tables) -> None:
        register(tables, "first")
        ann, bob = make(tables, "ann", "bob")
        sent(tables, ann, to(bob))
        register(tables)
        state = found(tables)
        assert state.position == state.claimed == tables.events.marks()
        register(tables, kinds=[EventKind.USER_LOGIN])
        assert found(tables).position == state.position
        assert found(tables).kinds == ("user.login",)

    def test_only_one_holds_the_lease(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        assert take(tables) is None
        register(tables)
        state = taken(tables)
        assert (state.holder, take(elsewhere, "two")) == ("one", None)
        again = taken(tables)
        assert again.fence > state.fence
        assert not move(tables, state.fence, Position(1, 1))
        assert done(tables, lambda inside: inside.webhooks.release("crm", again.fence))
        assert taken(elsewhere, "two").fence > again.fence

    def test_a_holder_who_was_paused_changes_nothing(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        send(tables, *[(ann, to(bob)) for _ in range(9)])
        paused = taken(tables, lease_ms=-1)  # it is over at once
        other = taken(elsewhere, "two")
        assert move(elsewhere, other.fence, Position(5, 1), Position(6, 2), delivered=5)
        for late in (Position(1, 0), Position(9, 2)):
            assert not move(tables, paused.fence, late)
        for work in (
            lambda inside: inside.webhooks.renew("crm", paused.fence, LEASE_MS),
            lambda inside: inside.webhooks.release("crm", paused.fence),
            lambda inside: inside.webhooks.failed("crm", paused.fence, "why", LEASE_MS),
            lambda inside: inside.webhooks.disable("crm", paused.fence, "why"),
        ):
            assert not done(tables, work)
        state = found(tables)
        assert (state.position, state.claimed, state.delivered) == (Position(5, 1), Position(6, 2), 5)
        assert (state.holder, state.failures, state.disabled_at_ms) == ("two", 0, 0)

    def test_a_position_never_moves_back(self, tables: Tables) -> None:
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        send(tables, *[(ann, to(bob)) for _ in range(9)])
        fence = taken(tables).fence
        assert move(tables, fence, Position(5, 2))
        assert move(tables, fence, Position(3, 1))
        assert found(tables).position == Position(5, 2)

    def test_failures_are_counted_until_the_next_success(self, tables: Tables) -> None:
        register(tables)
        make(tables, "ann")
        fence = taken(tables).fence
        for _ in range(2):
            assert done(tables, lambda inside: inside.webhooks.failed("crm", fence, "status 500", LEASE_MS))
        assert (found(tables).failures, found(tables).error) == (2, "status 500")
        assert move(tables, fence, Position(0, 1), delivered=1)
        state = found(tables)
        assert (state.failures, state.error, state.delivered) == (0, "", 1)
        assert state.delivered_at_ms >= state.failed_at_ms > 0

    def test_a_disabled_webhook_stays_so_until_it_is_enabled(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        register(tables)
        fence = taken(tables).fence
        assert done(tables, lambda inside: inside.webhooks.disable("crm", fence, "410 Gone"))
        assert not move(tables, fence, Position(1, 1))
        register(elsewhere)
        assert (take(tables), take(elsewhere, "two")) == (None, None)
        assert (found(tables).disabled_at_ms > 0, found(tables).error) == (True, "410 Gone")
        assert done(tables, lambda inside: inside.webhooks.enable("crm"))
        assert taken(elsewhere, "two").failures == 0
        assert not done(tables, lambda inside: inside.webhooks.enable("nobody"))

    def test_a_replay_is_not_undone_by_whoever_was_sending(self, tables: Tables) -> None:
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        send(tables, *[(ann, to(bob)) for _ in range(9)])
        fence = taken(tables).fence
        assert move(tables, fence, Position(5, 1), Position(7, 1))
        assert done(tables, lambda inside: inside.webhooks.replay("crm", Position(2, 0)))
        assert not move(tables, fence, Position(7, 1))
        state = taken(tables)
        assert (state.position, state.claimed, state.replays) == (Position(2, 0), Position(2, 0), 1)
        assert not done(tables, lambda inside: inside.webhooks.replay("nobody", Position()))

    def test_a_webhook_that_nobody_has_configured_for_long_is_forgotten(self, tables: Tables) -> None:
        register(tables)
        now_ms = found(tables).seen_at_ms
        assert done(tables, lambda inside: inside.webhooks.forget_unseen(now_ms)) == []
        assert done(tables, lambda inside: inside.webhooks.forget_unseen(now_ms + 1)) == ["crm"]
        assert tables.webhooks.all() == []

    def test_a_position_beyond_the_end_of_a_store_is_its_end(self, tables: Tables) -> None:
        """A store that was copied or restored gives these numbers again."""
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        sent(tables, ann, to(bob))
        end = tables.events.marks()
        done(tables, lambda inside: inside.webhooks.replay("crm", Position(end.message + 50, end.event)))
        assert taken(tables).position == end

    @pytest.mark.parametrize("at_ms", [0, 10, 11, 25, 30, 31])
    def test_a_time_is_found_among_the_messages(self, tables: Tables, at_ms: int) -> None:
        ann, bob = make(tables, "ann", "bob")
        for now_ms in (10, 10, 20, 20, 20, 30):
            sent(tables, ann, to(bob, str(now_ms)), now_ms=now_ms)
        after = tables.webhooks.position_at(at_ms)
        times = [int(one.message.body) for one in events(tables, after) if one.message]
        assert times == [time for time in (10, 10, 20, 20, 20, 30) if time >= at_ms]

    def test_names_are_those_of_today(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        register(tables)
        ann, bob = make(tables, "ann", "bob")
        sent(tables, ann, to(bob, "hello"))
        assert [told(one) for one in events(tables)][-1] == "message.stored hello"
        done(elsewhere, lambda inside: inside.accounts.erase(ann.id, 5))
        tables.begin()
        tables.rollback()
        first = events(tables)[0]
        assert first.users[ann.id] != User(ann.id, "ann")
