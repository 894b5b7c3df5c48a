"""What every store must do for administrators of the operator's page, and for their sessions there."""

from __future__ import annotations

from collections.abc import Callable

from chatd.model import User
from chatd.store.contract import AdminRole, AdminSession, NewAdministrator, Tables
from tests.store.steps import done, make


def put(tables: Tables, user: User, role: AdminRole = AdminRole.ADMIN, secret: str = "AAAA") -> None:
    new = NewAdministrator(user_id=user.id, role=role, totp_secret=secret, by="root")
    done(tables, lambda inside: inside.administrators.put(new, 10))


def begin(tables: Tables, user: User, token_hash: str, began_at_ms: int = 20) -> AdminSession:
    session = AdminSession(
        token_hash=token_hash,
        user_id=user.id,
        credentials=0,
        began_at_ms=began_at_ms,
        seen_at_ms=began_at_ms,
        ends_at_ms=began_at_ms + 100,
        address="192.0.2.1",
    )
    done(tables, lambda inside: inside.administrators.begin(session))
    return session


def take(tables: Tables, user: User, step: int) -> bool:
    return done(tables, lambda inside: inside.administrators.take_step(user.id, step))


class AdministratorsContract:
    def test_administrators_are_kept_until_they_are_removed(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        ann, bob = make(tables, "ann", "bob")
        assert elsewhere.administrators.all() == []
        put(tables, bob, AdminRole.READ)
        put(tables, ann, secret="BBBB")
        one, other = elsewhere.administrators.all()
        assert (one.user, one.role, one.totp_secret, one.by) == (ann, AdminRole.ADMIN, "BBBB", "root")
        assert (one.last_step, one.created_at_ms, one.used_at_ms) == (0, 10, 0)
        assert (other.user, other.role) == (bob, AdminRole.READ)
        assert elsewhere.administrators.find(bob.id) == other
        assert done(tables, lambda inside: inside.administrators.remove(bob.id))
        assert not done(tables, lambda inside: inside.administrators.remove(bob.id))
        assert elsewhere.administrators.find(bob.id) is None

    def test_a_step_is_taken_once_and_no_earlier_one_after_it(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        ann, bob = make(tables, "ann", "bob")
        put(tables, ann)
        assert [take(tables, ann, step) for step in (7, 7, 6, 8)] == [True, False, False, True]
        assert not take(elsewhere, ann, 8)
        assert not take(tables, bob, 9)
        put(tables, ann, secret="BBBB")
        assert take(tables, ann, 1), "another secret has other codes"

    def test_a_session_is_found_with_what_it_depends_on(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        (ann,) = make(tables, "ann")
        put(tables, ann)
        session = begin(tables, ann, "aa")
        found = elsewhere.administrators.session("aa")
        assert found is not None
        assert (found.session, found.administrator.user, found.account.user) == (session, ann, ann)
        assert found.administrator.used_at_ms == 20
        for at_ms in (50, 40):
            done(tables, lambda inside, at_ms=at_ms: inside.administrators.seen("aa", at_ms))  # type: ignore[misc]
        done(tables, lambda inside: inside.accounts.lock(ann.id, "why", 60))
        found = elsewhere.administrators.session("aa")
        assert found is not None
        assert (found.session.seen_at_ms, found.account.locked_at_ms) == (50, 60)
        assert found.account.credentials != session.credentials
        assert elsewhere.administrators.session("bb") is None

    def test_sessions_end_one_by_one_and_with_the_right_and_the_account(self, tables: Tables) -> None:
        ann, bob, eve = make(tables, "ann", "bob", "eve")
        for user in (ann, bob, eve):
            put(tables, user)
        for user, token_hash in ((ann, "a1"), (ann, "a2"), (bob, "b"), (eve, "e")):
            begin(tables, user, token_hash)
        assert done(tables, lambda inside: inside.administrators.end("a1"))
        assert not done(tables, lambda inside: inside.administrators.end("a1"))
        done(tables, lambda inside: inside.administrators.remove(bob.id))
        done(tables, lambda inside: inside.accounts.delete(eve.id))
        there = [one for one in ("a1", "a2", "b", "e") if tables.administrators.session(one) is not None]
        assert there == ["a2"]
        assert [one.user for one in tables.administrators.all()] == [ann]
        put(tables, ann, secret="BBBB")
        assert tables.administrators.session("a2") is None

    def test_sessions_whose_time_is_over_are_forgotten_at_the_next_login(self, tables: Tables) -> None:
        (ann,) = make(tables, "ann")
        put(tables, ann)
        begin(tables, ann, "old", 20)
        begin(tables, ann, "new", 119)
        assert tables.administrators.session("old") is not None
        begin(tables, ann, "newest", 120)
        assert tables.administrators.session("old") is None
        assert tables.administrators.session("new") is not None
