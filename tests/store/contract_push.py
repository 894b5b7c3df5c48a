"""What every store must do for notifications of users who are away: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, User
from chatd.store.contract import NewSubscription, Tables
from chatd.store.push_contract import DuePush, Missed
from tests.store.steps import ANYBODY, advance, done, make, refused, send, sent, team, to, to_group

NOW = 1_000_000


def subscribe(tables: Tables, user: User, endpoint: str, most: int = 10, auth: str = "auth") -> None:
    new = NewSubscription(user.id, "", endpoint, "point", auth)
    done(tables, lambda inside: inside.push.subscribe(new, most, NOW))


def missed(tables: Tables, after: int = 0) -> list[Missed]:
    return sorted(tables.push.missed(after, tables.events.marks().message).found)


def put_off(tables: Tables, *users: User, due_ms: int = NOW, pause_ms: int = 0) -> None:
    """What these users missed is due."""
    found = [one for one in missed(tables) if one.user_id in {user.id for user in users}]
    done(tables, lambda inside: inside.push.put_off(found, due_ms, pause_ms))


def due(tables: Tables, now_ms: int = NOW) -> dict[str, DuePush]:
    """By endpoint."""
    return {one.endpoint: one for one in tables.push.due(now_ms, 100)}


class PushContract:
    def test_messages_to_users_with_subscriptions_are_found(self, opened: Callable[[], Tables]) -> None:
        tables = opened()
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob, carol)
        assert missed(tables) == []
        for user, endpoint in ((alice, "a"), (bob, "b1"), (bob, "b2")):
            subscribe(tables, user, endpoint)
        pair = sent(tables, alice, to(bob)).message
        send(tables, (alice, to(bob)), (alice, to(carol)), (bob, to(bob)), (SYSTEM, to(alice)))
        other = opened()
        told = other.history.conversation_of(alice.id, SYSTEM.id, 0)
        assert missed(other) == [Missed(alice.id, told, 1, 1), Missed(bob.id, pair.conversation, 2, 2)]
        last = tables.events.marks().message
        send(tables, (carol, to_group(group)), (bob, to_group(group)))
        found = [Missed(alice.id, -group, 2, 2), Missed(bob.id, -group, 1, 1)]
        assert missed(other, last) == found
        assert tables.push.missed(0, last).upto == last

    def test_nobody_misses_what_is_by_a_blocked_user_or_was_recalled_or_came_before_them(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, carol)
        subscribe(tables, bob, "b")
        sent(tables, alice, to_group(group))
        done(tables, lambda inside: inside.admission.join(bob.id, group, ANYBODY, 1))
        assert missed(tables) == []
        message = sent(tables, alice, to(bob)).message
        assert len(missed(tables)) == 1
        done(tables, lambda inside: inside.revisions.recall(alice.id, message.conversation, message.seq, 1000, 2))
        assert missed(tables) == []
        sent(tables, carol, to_group(group))
        assert len(missed(tables)) == 1
        done(tables, lambda inside: inside.consent.block(bob.id, carol.id, 10, 1))
        assert missed(tables) == []

    def test_what_is_due_is_told_once(self, opened: Callable[[], Tables]) -> None:
        tables = opened()
        alice, bob = make(tables, "alice", "bob")
        for endpoint in ("b1", "b2"):
            subscribe(tables, bob, endpoint)
        message = sent(tables, alice, to(bob, "hello")).message
        put_off(tables, bob, due_ms=NOW + 5)
        assert (due(tables, NOW + 4), tables.push.next_due_ms(0)) == ({}, NOW + 5)
        found = due(opened(), NOW + 5)
        assert found.keys() == {"b1", "b2"}
        one = found["b1"]
        assert (one.user, one.message, one.valid, one.waits, one.waiting) == (bob, message, True, True, 1)
        assert (one.p256dh, one.auth, one.failures, one.worked_at_ms) == ("point", "auth", 0, 0)
        done(tables, lambda inside: inside.push.told(one, NOW + 6, 100))
        assert due(tables, NOW + 5).keys() == {"b2"}
        done(tables, lambda inside: inside.push.failed(found["b2"], NOW + 50))
        assert due(tables, NOW + 49) == {}
        (later,) = due(tables, NOW + 50).values()
        assert (later.failures, later.waiting) == (1, 1)
        done(tables, lambda inside: inside.push.remove(later))
        assert (due(tables, NOW + 99), tables.push.count(), tables.push.next_due_ms(0)) == ({}, 1, 0)

    def test_services_can_be_left_out(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        endpoints = ("https://a.example/1", "https://A.example/2", "https://a.example.org/3", "http://a.example/4")
        for endpoint in endpoints:
            subscribe(tables, bob, endpoint)
        token = NewSubscription(bob.id, "apns", "https://a.example/token")
        done(tables, lambda inside: inside.push.subscribe(token, 10, NOW))
        sent(tables, alice, to(bob))
        put_off(tables, bob)
        found = due(tables)
        assert found.keys() == {*endpoints, token.endpoint}
        assert [found[one].service for one in (*endpoints[:2], token.endpoint)] == [*["https://a.example/"] * 2, "apns"]

        def left(*services: str) -> set[str]:
            return {one.endpoint for one in tables.push.due(NOW, 100, services)}

        assert left("https://a.example/") == {*endpoints[2:], token.endpoint}
        assert left("apns", "https://a.example/", "https://a.example.org/") == {endpoints[3]}

    def test_what_comes_while_one_is_on_its_way_is_told_after_the_pause(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        subscribe(tables, bob, "b")
        sent(tables, alice, to(bob, "one"))
        put_off(tables, bob)
        one = due(tables)["b"]
        sent(tables, alice, to(bob, "two"))
        put_off(tables, bob)  # both again: counted, as whoever reads them anew after a crash does
        done(tables, lambda inside: inside.push.told(one, NOW, 100))
        assert due(tables, NOW + 99) == {}
        two = due(tables, NOW + 100)["b"]
        assert (two.waiting, two.message and two.message.body, two.worked_at_ms) == (2, "two", NOW)
        done(tables, lambda inside: inside.push.told(two, NOW + 100, 100))
        put_off(tables, bob, due_ms=NOW + 101, pause_ms=100)
        assert (due(tables, NOW + 199), due(tables, NOW + 200).keys()) == ({}, {"b"})
        done(tables, lambda inside: inside.push.drop(due(inside, NOW + 200)["b"]))
        assert tables.push.next_due_ms(0) == 0
        (told,) = tables.person.everything(bob.id).push_subscriptions
        assert (told.gateway, told.endpoint, told.created_at_ms, told.used_at_ms) == ("", "b", NOW, NOW + 100)

    def test_what_was_delivered_or_read_or_is_gone_waits_no_more(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = team(tables, alice, dave)
        for user in (bob, carol, dave):
            subscribe(tables, user, user.name)
        to_bob = sent(tables, alice, to(bob)).message
        to_carol = sent(tables, alice, to(carol)).message
        sent(tables, alice, to_group(group))
        put_off(tables, bob, carol, dave)
        assert all(one.waits and one.message for one in due(tables).values())
        advance(tables, bob, to_bob.conversation, to_bob.seq)
        done(tables, lambda inside: inside.history.mark_seen(carol.id, to_carol.conversation, to_carol.seq))
        done(tables, lambda inside: inside.groups.leave(dave.id, group))
        assert [(one.waits, one.message) for one in due(tables).values()] == [(False, None)] * 3

    def test_other_credentials_end_it(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        for user in (bob, carol, dave):
            subscribe(tables, user, user.name)
            sent(tables, alice, to(user))
        put_off(tables, bob, carol, dave)
        done(tables, lambda inside: inside.accounts.set_password(bob.id, "new", None, ""))
        done(tables, lambda inside: inside.accounts.lock(carol.id, "why", NOW))
        done(tables, lambda inside: inside.accounts.delete(dave.id))
        assert {name: one.valid for name, one in due(tables).items()} == {"bob": False, "carol": False}
        assert all(one.message is None for one in due(tables).values())
        subscribe(tables, bob, "bob")
        sent(tables, alice, to(bob))
        put_off(tables, bob)
        assert due(tables)["bob"].valid

    def test_the_oldest_subscriptions_of_a_user_go(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        subscribe(tables, alice, "a", most=2)
        for endpoint in ("1", "2", "1", "3"):
            subscribe(tables, bob, endpoint, most=2)
        sent(tables, alice, to(bob))
        put_off(tables, bob)
        assert due(tables).keys() == {"1", "3"}
        assert tables.push.count() == 3

    def test_only_whoever_has_the_keys_takes_a_subscription_over(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        subscribe(tables, alice, "x")
        other = NewSubscription(bob.id, "", "x", "point", "other")
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.push.subscribe(other, 10, NOW))
        assert not done(tables, lambda inside: inside.push.unsubscribe(bob.id, "", "x"))
        subscribe(tables, bob, "x")
        assert tables.push.count() == 1
        assert not done(tables, lambda inside: inside.push.unsubscribe(alice.id, "", "x"))
        assert not done(tables, lambda inside: inside.push.unsubscribe(bob.id, "apns", "x"))
        assert done(tables, lambda inside: inside.push.unsubscribe(bob.id, "", "x"))
        subscribe(tables, bob, "y", auth="other")
        subscribe(tables, bob, "y")
        assert done(tables, lambda inside: inside.push.unsubscribe_all(bob.id))
        assert not done(tables, lambda inside: inside.push.unsubscribe_all(bob.id))
        assert tables.push.count() == 0
