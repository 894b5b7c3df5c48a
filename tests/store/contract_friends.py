"""What every store must do with friends and friend requests. A part of tests.store.contract.StoreContract."""

from __future__ import annotations

from chatd.errors import ErrorCode
from chatd.model import FriendRequest, User
from chatd.store.contract import Asked, Tables
from tests.store.steps import ANY, ASKING, done, make, refused, up_to


class FriendsContract:
    def test_asking_and_accepting_makes_friends(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert done(tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1)) is Asked.NEW
        assert (tables.friends.of(alice.id), tables.friends.of(bob.id)) == ([], [])
        (request,) = tables.friends.requests_to(bob.id)
        assert (request.sender, request.to) == (alice, bob.id)
        assert tables.friends.requests_to(alice.id) == []
        done(tables, lambda inside: inside.friends.answer(bob.id, alice.id, True, ANY, 2))
        assert (tables.friends.of(alice.id), tables.friends.of(bob.id)) == ([bob], [alice])
        assert tables.friends.requests_to(bob.id) == []
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 3))
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.answer(bob.id, alice.id, True, ANY, 3))

    def test_a_refused_request_is_gone_and_may_be_made_again(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for at_ms in (1, 2):
            done(tables, lambda inside, at=at_ms: inside.friends.request(alice, bob.id, ASKING, at))
            done(tables, lambda inside, at=at_ms: inside.friends.answer(bob.id, alice.id, False, ANY, at))
            assert (tables.friends.of(alice.id), tables.friends.requests_to(bob.id)) == ([], [])
            refused(
                ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.answer(bob.id, alice.id, False, ANY, 3)
            )

    def test_asking_twice_is_one_request(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for at_ms, asked in ((1, Asked.NEW), (2, Asked.AGAIN)):
            assert done(tables, lambda inside, at=at_ms: inside.friends.request(alice, bob.id, up_to(1), at)) is asked
        assert len(tables.friends.requests_to(bob.id)) == 1

    def test_requests_that_cross_make_friends(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert done(tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1)) is Asked.NEW
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, ASKING, 2)) is Asked.FRIENDS
        assert (tables.friends.of(alice.id), tables.friends.of(bob.id)) == ([bob], [alice])
        assert (tables.friends.requests_to(alice.id), tables.friends.requests_to(bob.id)) == ([], [])

    def test_only_the_one_asked_may_answer(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        done(tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1))
        for user, requester in [(alice, bob), (carol, alice), (alice, alice), (bob, carol)]:
            refused(
                ErrorCode.NOT_ALLOWED,
                tables,
                lambda inside, user=user, requester=requester: inside.friends.answer(
                    user.id, requester.id, True, ANY, 1
                ),
            )

    def test_nobody_asks_themselves_or_nobody(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.request(alice, alice.id, ASKING, 1))
        refused(ErrorCode.UNKNOWN_RECIPIENT, tables, lambda inside: inside.friends.request(alice, 999, ASKING, 1))

    def test_friends_and_requests_are_limited(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        done(tables, lambda inside: inside.friends.request(alice, bob.id, up_to(2), 1))
        done(tables, lambda inside: inside.friends.answer(bob.id, alice.id, True, ANY, 1))
        done(tables, lambda inside: inside.friends.request(alice, carol.id, up_to(2), 1))
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.friends.request(alice, dave.id, up_to(2), 1),
        )

    def test_accepting_a_request_respects_the_limit_of_who_accepts(self, tables: Tables) -> None:
        alice, *askers = make(tables, "alice", "bob", "carol", "dave")
        for asker in askers:
            done(tables, lambda inside, asker=asker: inside.friends.request(asker, alice.id, up_to(2), 1))
        for asker in askers[:2]:
            done(tables, lambda inside, asker=asker: inside.friends.answer(alice.id, asker.id, True, 2, 2))
        dave = askers[2]
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.friends.answer(alice.id, dave.id, True, 2, 2))
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.friends.request(alice, dave.id, up_to(2), 2),
        )
        assert tables.friends.of(alice.id) == askers[:2]
        assert [one.sender for one in tables.friends.requests_to(alice.id)] == [dave]
        done(tables, lambda inside: inside.friends.remove(alice.id, askers[0].id))
        assert done(tables, lambda inside: inside.friends.request(alice, dave.id, up_to(2), 3)) is Asked.FRIENDS
        assert tables.friends.of(alice.id) == askers[1:]

    def test_accepting_a_request_respects_the_limit_of_who_asked(self, tables: Tables) -> None:
        """It was lowered since."""
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        for other in (bob, carol, dave):
            done(tables, lambda inside, other=other: inside.friends.request(alice, other.id, up_to(3), 1))
        for other in (bob, carol):
            done(tables, lambda inside, other=other: inside.friends.answer(other.id, alice.id, True, 3, 2))
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.friends.answer(dave.id, alice.id, True, 2, 3))
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.friends.request(dave, alice.id, up_to(2), 3),
        )
        done(tables, lambda inside: inside.friends.answer(dave.id, alice.id, False, 2, 3))
        assert tables.friends.of(alice.id) == [bob, carol]
        assert tables.friends.of(dave.id) == []

    def test_requests_wait_oldest_first(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        for at_ms, asker in [(1, carol), (2, alice), (3, bob)]:
            done(tables, lambda inside, at_ms=at_ms, asker=asker: inside.friends.request(asker, dave.id, ASKING, at_ms))
        assert [request.sender for request in tables.friends.requests_to(dave.id)] == [carol, alice, bob]

    # ------------------------------------------------------------ friends that were

    def test_a_friendship_ends_on_both_sides(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        self._befriend(tables, alice, bob)
        done(tables, lambda inside: inside.friends.remove(bob.id, alice.id))
        assert (tables.friends.of(alice.id), tables.friends.of(bob.id)) == ([], [])
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.remove(alice.id, bob.id))
        self._befriend(tables, bob, alice)
        assert tables.friends.of(alice.id) == [bob]

    def test_a_request_is_taken_back_by_who_made_it(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        done(tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1))
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.remove(bob.id, alice.id))
        done(tables, lambda inside: inside.friends.remove(alice.id, bob.id))
        assert tables.friends.requests_to(bob.id) == []
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.answer(bob.id, alice.id, True, ANY, 2))

    def test_requests_are_listed_up_to_a_limit(self, tables: Tables) -> None:
        bob, *others = make(tables, "bob", *(f"user {number}" for number in range(5)))
        for at_ms, asker in enumerate(others):
            done(tables, lambda inside, at=at_ms, asker=asker: inside.friends.request(asker, bob.id, ASKING, at))
        assert tables.friends.requests_to(bob.id, 3) == [FriendRequest(asker, bob.id) for asker in others[:3]]

    def _befriend(self, tables: Tables, one: User, other: User) -> None:
        done(tables, lambda inside: inside.friends.request(one, other.id, ASKING, 1))
        done(tables, lambda inside: inside.friends.answer(other.id, one.id, True, ANY, 1))
