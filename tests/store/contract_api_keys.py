"""What every store must do for the keys of the HTTP API, and for what they are used for: messages of the system."""

from __future__ import annotations

from collections.abc import Callable

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, Audience
from chatd.store.contract import Draft, NewApiKey, SendingRules, Stored, Tables
from tests.store.steps import ANY, done, make, refused, send, sent, team, to, to_group, to_name

SHOP = NewApiKey(name="shop ☔", secret_hash="aa", scopes=("messages:write", "users:read"), by="root")


def add(tables: Tables, key: NewApiKey, now_ms: int = 10) -> int:
    return done(tables, lambda inside: inside.api_keys.add(key, now_ms))


class ApiKeysContract:
    def test_keys_are_kept_and_every_change_has_another_version(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        versions = [elsewhere.api_keys.version()]
        assert elsewhere.api_keys.all() == []
        number = add(tables, SHOP)
        versions.append(elsewhere.api_keys.version())
        (key,) = elsewhere.api_keys.all()
        assert (key.id, key.name, key.secret_hash, key.scopes, key.by) == (number, SHOP.name, "aa", SHOP.scopes, "root")
        assert (key.created_at_ms, key.expires_at_ms, key.revoked_at_ms, key.used_at_ms) == (10, 0, 0, 0)
        rotated = done(tables, lambda inside: inside.api_keys.rotate(SHOP.name, "bb", 500, 20))
        versions.append(elsewhere.api_keys.version())
        old, new = elsewhere.api_keys.all()
        assert (old.expires_at_ms, new.id, new.secret_hash, new.scopes) == (500, rotated, "bb", SHOP.scopes)
        assert (old.valid(499), old.valid(500), new.valid(1 << 60)) == (True, False, True)
        assert done(tables, lambda inside: inside.api_keys.revoke(SHOP.name, 30)) == 2
        versions.append(elsewhere.api_keys.version())
        assert not any(one.valid(31) for one in elsewhere.api_keys.all())
        assert done(tables, lambda inside: inside.api_keys.revoke(SHOP.name, 40)) == 0
        assert len(set(versions)) == 4
        assert elsewhere.api_keys.version() == versions[-1]

    def test_a_name_is_used_again_only_when_no_key_with_it_is_valid(self, tables: Tables) -> None:
        add(tables, NewApiKey(name="shop", secret_hash="a", scopes=("admin",), expires_at_ms=100))
        other = NewApiKey(name="shop", secret_hash="b", scopes=("admin",))
        refused(ErrorCode.NAME_TAKEN, tables, lambda inside: inside.api_keys.add(other, 99))
        refused(ErrorCode.UNKNOWN_KEY, tables, lambda inside: inside.api_keys.rotate("shop", "c", 1, 100))
        refused(ErrorCode.UNKNOWN_KEY, tables, lambda inside: inside.api_keys.rotate("other", "c", 1, 1))
        add(tables, other, 100)
        assert [one.valid(100) for one in tables.api_keys.all()] == [False, True]

    def test_a_rotation_never_makes_a_key_valid_for_longer(self, tables: Tables) -> None:
        add(tables, NewApiKey(name="shop", secret_hash="a", scopes=("admin",), expires_at_ms=100))
        done(tables, lambda inside: inside.api_keys.rotate("shop", "b", 1000, 50))
        assert [one.expires_at_ms for one in tables.api_keys.all()] == [100, 100]

    def test_the_last_use_is_never_moved_back_and_is_no_change(self, tables: Tables) -> None:
        number, version = add(tables, SHOP), tables.api_keys.version()
        for at_ms in (77, 66):
            done(tables, lambda inside, at_ms=at_ms: inside.api_keys.mark_used([(number, at_ms), (99, at_ms)]))  # type: ignore[misc]
        assert [one.used_at_ms for one in tables.api_keys.all()] == [77]
        assert tables.api_keys.version() == version


class SystemMessagesContract:
    def test_everybody_accepts_messages_of_the_system(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for rules in (SendingRules(may_write=Audience.NOBODY), SendingRules()):
            for _ in range(2):  # the second time, it is remembered
                tables.begin()
                (result,) = tables.append([Draft(SYSTEM, to(bob, "news"))], 5, rules)
                tables.commit()
                assert isinstance(result, Stored)
        waiting = tables.history.waiting(bob.id, ANY).messages
        assert [(one.sender_id, one.sender_name, one.to_id, one.seq) for one in waiting] == [
            (SYSTEM.id, SYSTEM.name, bob.id, seq) for seq in (1, 2, 3, 4)
        ]
        (head,) = tables.history.heads(bob.id, -ANY, ANY)
        assert (head.other, head.last) == (SYSTEM, 4)
        assert sent(tables, alice, to(bob)).message.conversation != head.conversation

    def test_the_system_writes_to_every_group_and_to_no_other(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        for _ in range(2):
            (result,) = send(tables, (SYSTEM, to_group(group, "news")))
            assert isinstance(result, Stored)
            assert (result.members, result.message.sender_name) == (2, "0")
        mixed = send(tables, (alice, to_group(group)), (SYSTEM, to_group(group)), (SYSTEM, to_group(group + 1)))
        assert [one if isinstance(one, ErrorCode) else one.message.seq for one in mixed] == [
            3, 4, ErrorCode.UNKNOWN_GROUP,
        ]  # fmt: skip
        assert [one.seq for one in tables.history.waiting(bob.id, ANY).messages] == [1, 2, 3, 4]

    def test_what_the_system_repeats_is_stored_once(self, tables: Tables) -> None:
        (bob,) = make(tables, "bob")
        first = sent(tables, SYSTEM, to(bob, "news", "fp"))
        again = sent(tables, SYSTEM, to(bob, "news", "fp"))
        assert (again.fresh, again.message) == (False, first.message)
        assert send(tables, (SYSTEM, to(bob, "other", "fp"))) == [ErrorCode.FP_REUSED]

    def test_nobody_can_write_to_the_system(self, tables: Tables) -> None:
        (bob,) = make(tables, "bob")
        sent(tables, SYSTEM, to(bob))
        assert send(tables, (bob, to(SYSTEM)), (bob, to_name("0"))) == [ErrorCode.UNKNOWN_RECIPIENT] * 2
