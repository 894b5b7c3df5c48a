"""What every store must do. A twin is tested by a subclass of StoreContract with a fixture `twin`.

All of it is seen through store.contract.Tables alone; what belongs to one twin (its file, its locks) is in its own
tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from chatd.errors import ErrorCode
from chatd.model import Message, Role, User
from chatd.protocol import SendMessage
from chatd.store.contract import AdmissionLimits, Draft, Stored, Tables
from tests.store.contract_address_bans import AddressBansContract
from tests.store.contract_administrators import AdministratorsContract
from tests.store.contract_admission import AdmissionContract
from tests.store.contract_api_keys import ApiKeysContract, SystemMessagesContract
from tests.store.contract_bridges import BridgesContract
from tests.store.contract_consent import ConsentContract
from tests.store.contract_credentials import CredentialsContract
from tests.store.contract_events import EventsContract
from tests.store.contract_extras import ExtrasContract
from tests.store.contract_files import FilesContract
from tests.store.contract_files_at_once import FilesAtOnceContract
from tests.store.contract_friends import FriendsContract
from tests.store.contract_group_rules import GroupRulesContract
from tests.store.contract_history import HistoryContract
from tests.store.contract_mailboxes import MailboxContract
from tests.store.contract_memberships import MembershipContract
from tests.store.contract_people import PeopleContract
from tests.store.contract_person import PersonContract
from tests.store.contract_push import PushContract
from tests.store.contract_repetition import RepetitionContract
from tests.store.contract_retention import RetentionContract
from tests.store.contract_revisions import RevisionContract
from tests.store.contract_sources import SourcesContract
from tests.store.contract_system import SystemContract
from tests.store.steps import (
    ANY,
    ANYBODY,
    ASKING,
    Twin,
    advance,
    done,
    join,
    make,
    refused,
    send,
    sent,
    seqs,
    team,
    to,
    to_group,
    to_name,
)


class StoreContract(
    AddressBansContract,
    AdministratorsContract,
    ApiKeysContract,
    SystemMessagesContract,
    PeopleContract,
    FriendsContract,
    HistoryContract,
    RepetitionContract,
    RevisionContract,
    ExtrasContract,
    FilesContract,
    FilesAtOnceContract,
    MembershipContract,
    MailboxContract,
    CredentialsContract,
    SourcesContract,
    RetentionContract,
    PersonContract,
    AdmissionContract,
    GroupRulesContract,
    ConsentContract,
    SystemContract,
    EventsContract,
    BridgesContract,
    PushContract,
):
    @pytest.fixture
    def twin(self) -> Twin:
        raise NotImplementedError

    @pytest.fixture
    def opened(self, twin: Twin) -> Iterator[Callable[[], Tables]]:
        with ExitStack() as stack:
            yield lambda: stack.enter_context(closing(twin.open()))

    @pytest.fixture
    def tables(self, opened: Callable[[], Tables]) -> Tables:
        return opened()

    # ------------------------------------------------------------ numbering

    def test_each_conversation_is_numbered_from_one_without_holes(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        results = send(
            tables,
            (alice, to(bob, "1")), (bob, to(alice, "2")), (alice, to(carol, "1")),
            (alice, to_group(group, "1")), (alice, to(bob, "3")), (bob, to_group(group, "2")),
        )  # fmt: skip
        results += send(tables, (carol, to(alice, "2")), (bob, to(alice, "4")), (alice, to_group(group, "3")))
        messages = [result.message for result in results if isinstance(result, Stored)]
        assert [message.seq for message in messages] == [int(message.body) for message in messages]
        assert len({message.conversation for message in messages}) == 3
        assert {message.conversation for message in messages if message.group_id} == {-group}
        assert all(message.conversation > 0 for message in messages if not message.group_id)

    def test_a_stored_message_says_everything_and_is_read_back_the_same(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "Bob")
        group = team(tables, alice, bob)
        command = SendMessage("bOB", 0, 0, "tail \0 \U0001f600", "fp-1", True, 77)
        one = sent(tables, alice, command, now_ms=123_456).message
        two = sent(tables, alice, to_group(group, ""), now_ms=123_457).message
        assert one == Message(
            conversation=one.conversation, seq=1, sender_id=alice.id, sender_name="alice", to_id=bob.id,
            to_name="Bob", group_id=0, body=command.body, fp="fp-1", qos=True, typeu=77, sent_at_ms=123_456,
        )  # fmt: skip
        assert two == Message(
            conversation=-group, seq=1, sender_id=alice.id, sender_name="alice", to_id=0, to_name="",
            group_id=group, body="", fp="", qos=False, typeu=-1, sent_at_ms=123_457,
        )  # fmt: skip
        assert tables.history.waiting(bob.id, ANY).messages == [one, two]

    def test_a_refused_draft_uses_no_number_and_hurts_no_other(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice)
        results = send(
            tables,
            (alice, to(bob, "1")), (alice, to_name("nobody")), (alice, to(User(999, ""))), (carol, to_group(group)),
            (alice, to_group(group + 1)), (alice, to(bob, "2")), (alice, to_group(group, "1")),
        )  # fmt: skip
        assert results[1:5] == [
            ErrorCode.UNKNOWN_RECIPIENT,
            ErrorCode.UNKNOWN_RECIPIENT,
            ErrorCode.NOT_A_MEMBER,
            ErrorCode.UNKNOWN_GROUP,
        ]
        kept = [result.message for result in results if isinstance(result, Stored)]
        assert [(message.seq, message.body) for message in kept] == [(1, "1"), (2, "2"), (1, "1")]

    def test_a_rollback_uses_no_number_and_leaves_nothing_in_memory(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        sent(tables, alice, to(bob, "1"))
        tables.begin()
        lost = tables.append([Draft(alice, to(bob, "lost", "fp")), Draft(alice, to(carol, "lost", "fp2"))], 1)
        group = tables.groups.create(alice.id, "lost", "", ANY, 1)
        dave = tables.accounts.create("dave", "", 1)
        tables.rollback()
        assert all(isinstance(result, Stored) for result in lost)
        assert tables.history.waiting(carol.id, ANY).messages == []
        assert tables.accounts.find("dave", 0) is None
        results = send(tables, (alice, to_group(group)), (alice, to(dave)), (alice, to(bob, "2", "fp")))
        assert results[:2] == [ErrorCode.UNKNOWN_GROUP, ErrorCode.UNKNOWN_RECIPIENT]
        again = results[2]
        assert isinstance(again, Stored)
        assert (again.message.seq, again.message.body, again.fresh) == (2, "2", True)
        first = sent(tables, alice, to(carol, "first", "fp2"))
        assert (first.message.seq, first.fresh) == (1, True)
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == ["1", "2"]

    def test_a_message_to_oneself(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        message = sent(tables, alice, to(alice)).message
        assert (message.seq, message.to_id) == (1, alice.id)
        assert tables.history.waiting(alice.id, ANY).messages == [message]

    def test_a_conversation_is_numbered_on_across_opens(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(1, 41):
            tables = (one, other)[number % 3 == 0]
            assert sent(tables, alice, to(bob, fp=str(number))).message.seq == number
        assert [seq for _, seq in seqs(opened().history.waiting(bob.id, ANY).messages)] == list(range(1, 41))

    # ------------------------------------------------------------ idempotent sending (P2)

    def test_a_repeat_in_one_batch_is_the_first_one(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        results = send(
            tables,
            (alice, to(bob, "one", "a")), (alice, to(bob, "one", "a")), (bob, to(alice, "three", "a")),
            (alice, to(bob, "four", "b")), (alice, to(bob, "one", "a")),
        )  # fmt: skip
        stored = [result for result in results if isinstance(result, Stored)]
        assert [result.fresh for result in stored] == [True, False, True, True, False]
        assert [result.message.seq for result in stored] == [1, 1, 2, 3, 1]
        assert [result.message.body for result in stored] == ["one", "one", "three", "four", "one"]

    def test_a_repeat_in_a_later_batch_is_the_first_one(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        first = [sent(tables, alice, to(bob, str(number), str(number), qos=True), number) for number in range(9)]
        results = send(tables, *((alice, to(bob, str(number), str(number))) for number in range(10)), now_ms=99)
        stored = [result for result in results if isinstance(result, Stored)]
        assert [result.message for result in stored[:9]] == [result.message for result in first]
        assert [result.fresh for result in stored] == [False] * 9 + [True]
        assert stored[9].message.seq == 10

    def test_a_repeat_through_another_open_is_the_first_one(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(20):
            here, there = (one, other) if number % 2 else (other, one)
            first = sent(here, alice, to(bob, "first", str(number)))
            again = sent(there, alice, to(bob, "first", str(number)))
            assert (first.fresh, again.fresh) == (True, False)
            assert again.message == first.message
        assert len(one.history.waiting(bob.id, ANY).messages) == 20

    def test_without_an_fp_nothing_is_a_repeat(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        results = send(tables, (alice, to(bob, "x")), (alice, to(bob, "x"))) + send(tables, (alice, to(bob, "x")))
        assert [result.message.seq for result in results if isinstance(result, Stored)] == [1, 2, 3]

    def test_fps_that_share_a_hash_stay_apart(self, twin: Twin, opened: Callable[[], Tables]) -> None:
        twin.collide()
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        results = send(one, *((alice, to(bob, fp, fp)) for fp in ("a", "b", "a")))
        results += send(other, *((alice, to(bob, fp, fp)) for fp in ("c", "b", "d", "a")))
        results += send(one, *((sender, to(bob, fp, fp)) for sender in (alice, bob) for fp in ("d", "e")))
        stored = [result for result in results if isinstance(result, Stored)]
        assert [result.message.body for result in stored] == list("abacbdadede")
        assert [result.fresh for result in stored] == [bool(int(bit)) for bit in "11010100111"]

    # ------------------------------------------------------------ what waits

    def test_waiting_is_in_commit_order_over_all_conversations(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, bob, alice)
        send(tables, (alice, to(bob, "1")), (alice, to_group(group, "2")))
        send(tables, (carol, to(bob, "3")), (alice, to_group(group, "4")), (alice, to(bob, "5")))
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == list("12345")
        assert [message.body for message in tables.history.waiting(carol.id, ANY).messages] == ["3"]

    def test_waiting_has_own_messages_too(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        send(tables, (alice, to(bob, "1")), (bob, to(alice, "2")), (alice, to(bob, "3")))
        assert [message.seq for message in tables.history.waiting(alice.id, ANY).messages] == [1, 2, 3]

    @pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 30])
    def test_waiting_is_cut_at_the_limit_and_says_so(self, tables: Tables, count: int) -> None:
        alice, bob = make(tables, "alice", "bob")
        for number in range(count):
            sent(tables, alice, to(bob, str(number)))
        waiting = tables.history.waiting(bob.id, 7)
        assert [int(message.body) for message in waiting.messages] == list(range(min(7, count)))
        assert waiting.more is (count > 7)

    def test_waiting_begins_after_the_cursors(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        for number in range(1, 6):
            talk = sent(tables, alice, to(bob, f"a{number}")).message.conversation
            other = sent(tables, carol, to(bob, f"c{number}")).message.conversation
        advance(tables, bob, talk, 3)
        advance(tables, bob, other, 5)
        waiting = tables.history.waiting(bob.id, ANY, [talk, other, 10**6])
        assert [message.body for message in waiting.messages] == ["a4", "a5"]
        assert waiting.delivered == {talk: 3, other: 5, 10**6: 0}
        assert tables.history.waiting(bob.id, ANY).delivered == {}

    def test_cursors_never_go_back_and_are_of_one_user(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for _ in range(5):
            talk = sent(tables, alice, to(bob)).message.conversation
        for seq, reached in [(2, 2), (4, 4), (3, 4), (0, 4), (5, 5)]:
            advance(tables, bob, talk, seq)
            assert tables.history.waiting(bob.id, ANY, [talk]).delivered == {talk: reached}
        assert tables.history.waiting(alice.id, ANY, [talk]).delivered == {talk: 0}

    def test_waiting_sees_what_another_open_has_committed(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(1, 12):
            talk = sent(one, alice, to(bob)).message.conversation
            assert [seq for _, seq in seqs(other.history.waiting(bob.id, ANY).messages)] == [number]
            advance(one if number % 2 else other, bob, talk, number)
            assert other.history.waiting(bob.id, ANY).messages == []

    def test_waiting_does_not_see_what_is_not_committed(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        sent(one, alice, to(bob, "1"))
        one.begin()
        one.append([Draft(alice, to(bob, "2"))], 1)
        assert [message.body for message in other.history.waiting(bob.id, ANY).messages] == ["1"]
        one.rollback()
        assert [message.body for message in other.history.waiting(bob.id, ANY).messages] == ["1"]
        assert [message.body for message in one.history.waiting(bob.id, ANY).messages] == ["1"]

    # ------------------------------------------------------------ accounts

    def test_an_account_is_found_by_name_and_by_number(self, tables: Tables) -> None:
        alice = done(tables, lambda inside: inside.accounts.create("Alice", "hash", 5))
        for found in (
            tables.accounts.find("Alice", 0),
            tables.accounts.find("", alice.id),
            tables.accounts.find(str(alice.id), 0),
        ):
            assert found is not None
            assert (found.user, found.password) == (User(alice.id, "Alice"), "hash")
        for name, number in [("Bob", 0), ("", alice.id + 1), ("", 0), ("", -1), ("9" * 40, 0), ("", 1 << 70)]:
            assert tables.accounts.find(name, number) is None
        assert tables.accounts.all() == [(alice.id, "Alice", 5)]

    @pytest.mark.parametrize(
        ("name", "same"),
        [("Alice", "aLICE"), ("Straße", "STRASSE"), ("\ufb01ona", "Fiona"), ("\uff21nna", "anna"), ("é", "e\u0301")],
    )
    def test_names_are_compared_without_case_and_form(self, tables: Tables, name: str, same: str) -> None:
        (user,) = make(tables, name)
        refused(ErrorCode.NAME_TAKEN, tables, lambda inside: inside.accounts.create(same, "", 1))
        found = tables.accounts.find(same, 0)
        assert found is not None
        assert found.user == user
        assert sent(tables, user, to_name(same)).message.to_name == name

    @pytest.mark.parametrize("name", ["10", "\uff11\uff10", "1\u2070", "\u2469"])
    def test_a_name_of_digits_goes_before_a_number(self, opened: Callable[[], Tables], name: str) -> None:
        """Also where another worker knew the number before the name was taken, in whatever form of digits."""
        one, other = opened(), opened()
        users = make(one, *(f"user {number}" for number in range(1, 12)))
        alice, tenth = users[0], users[9]
        assert [sent(tables, alice, to_name("10")).message.to_id for tables in (one, other)] == [10, 10]
        (taker,) = make(one, name)
        assert [sent(tables, alice, to_name("10")).message.to_id for tables in (one, other)] == [taker.id, taker.id]
        assert sent(other, alice, to(tenth)).message.to_id == 10

    def test_where_names_are_not_numbers(self, opened: Callable[[], Tables]) -> None:
        """For logins that another program vouches for: not to be logged in to, nor written to, nor named. An operator
        still finds the account by its number."""
        names_only, other = opened(), opened()
        names_only.accounts.names_only = True
        alice, bob = make(other, "alice", "bob")
        number = str(bob.id)
        assert sent(other, alice, to_name(number)).message.to_id == bob.id
        assert names_only.accounts.find(number, 0) is None
        assert send(names_only, (alice, to_name(number))) == [ErrorCode.UNKNOWN_RECIPIENT]
        assert sent(names_only, alice, to(bob)).message.to_id == bob.id
        assert names_only.accounts.find("", bob.id) == other.accounts.find_any(number)
        assert names_only.accounts.find_any(number) == names_only.accounts.find("bob", 0)
        assert names_only.accounts.find_any("carol") is None
        (taker,) = make(names_only, number)
        found = names_only.accounts.find_any(number)
        assert found is not None
        assert found.user == taker
        assert sent(names_only, alice, to_name(number)).message.to_id == taker.id

    @pytest.mark.parametrize("erase", [False, True])
    def test_when_an_account_was_last_deleted(self, tables: Tables, erase: bool) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert tables.accounts.last_deletion_ms() == 0
        before_ms = time.time_ns() // 1_000_000
        done(tables, lambda inside: inside.accounts.erase(alice.id, 1) if erase else inside.accounts.delete(alice.id))
        first_ms = tables.accounts.last_deletion_ms()
        assert before_ms <= first_ms <= time.time_ns() // 1_000_000
        done(tables, lambda inside: inside.accounts.delete(bob.id))
        assert tables.accounts.last_deletion_ms() >= first_ms

    def test_a_password_is_replaced(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        done(tables, lambda inside: inside.accounts.set_password(alice.id, "new"))
        account = tables.accounts.find("alice", 0)
        assert account is not None
        assert account.password == "new"

    def test_a_deleted_user_is_nobody_but_what_they_wrote_stays(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice, bob, carol)
        done(one, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1))
        done(one, lambda inside: inside.friends.answer(bob.id, alice.id, True, ANY, 1))
        done(one, lambda inside: inside.friends.request(alice, carol.id, ASKING, 1))
        sent(one, alice, to(bob, "before"))
        sent(one, alice, to_group(group, "to all"))
        sent(other, bob, to_name("alice"))
        done(one, lambda inside: inside.accounts.delete(alice.id))
        for tables in (one, other):
            assert tables.accounts.find("alice", alice.id) is None
            assert tables.accounts.find("", alice.id) is None
            assert [name for _, name, _ in tables.accounts.all()] == ["bob", "carol"]
            assert (tables.friends.of(bob.id), tables.friends.requests_to(carol.id)) == ([], [])
            assert tables.history.waiting(alice.id, ANY).messages == []
            (row,) = tables.groups.of(bob.id, ANY)
            assert [user for user, _ in row.members] == [bob, carol]
            results = send(tables, (bob, to_name("alice")), (bob, to(alice)), (alice, to_group(group)))
            assert results == [ErrorCode.UNKNOWN_RECIPIENT, ErrorCode.UNKNOWN_RECIPIENT, ErrorCode.NOT_A_MEMBER]
            waiting = [(message.sender_name, message.body) for message in tables.history.waiting(bob.id, ANY).messages]
            assert ("alice", "before") in waiting
            assert ("alice", "to all") in waiting

    def test_the_name_of_a_deleted_user_is_free_for_another(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        before = sent(other, bob, to_name("alice")).message
        done(one, lambda inside: inside.accounts.delete(alice.id))
        (heir,) = make(one, "alice")
        assert heir.id != alice.id
        after = sent(other, bob, to_name("alice")).message
        assert (after.to_id, after.seq) == (heir.id, 1)
        assert after.conversation != before.conversation
        assert seqs(other.history.waiting(heir.id, ANY).messages) == [(after.conversation, 1)]

    # ------------------------------------------------------------ groups

    def test_a_group_has_its_owner_and_members(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = done(tables, lambda inside: inside.groups.create(bob.id, "team", "what for", ANY, 1))
        for user in (alice, alice, carol):
            joined = done(tables, lambda inside, user=user: inside.admission.join(user.id, group, ANYBODY, 1))
            assert (joined.group.id, joined.group.name, joined.group.description) == (group, "team", "what for")
        (row,) = tables.groups.of(alice.id, ANY)
        assert row.group == joined.group
        assert row.members == [(bob, Role.OWNER), (alice, Role.MEMBER), (carol, Role.MEMBER)]
        assert tables.groups.ids_of(carol.id) == [group]
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.admission.join(alice.id, group + 1, ANYBODY, 1))

    def test_groups_are_listed_by_id_and_members_cut_in_the_sum(self, tables: Tables) -> None:
        users = make(tables, *(f"user {number}" for number in range(4)))
        teams = [team(tables, users[0], *users[1:]) for _ in range(3)]
        rows = tables.groups.of(users[0].id, 6)
        assert [row.group.id for row in rows] == sorted(teams)
        assert [len(row.members) for row in rows] == [4, 2, 0]

    def test_groups_are_limited(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        full = done(tables, lambda inside: inside.groups.create(alice.id, "full", "", 2, 1))
        done(tables, lambda inside: inside.admission.join(bob.id, full, AdmissionLimits(2, ANY), 1))
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.admission.join(carol.id, full, AdmissionLimits(2, ANY), 1),
        )
        done(tables, lambda inside: inside.admission.join(bob.id, full, AdmissionLimits(2, ANY), 1))
        done(tables, lambda inside: inside.groups.create(alice.id, "second", "", 2, 1))
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.groups.create(alice.id, "third", "", 2, 1))
        other = done(tables, lambda inside: inside.groups.create(carol.id, "other", "", 2, 1))
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.admission.join(alice.id, other, AdmissionLimits(ANY, 2), 1),
        )

    def test_who_joins_gets_no_earlier_messages(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        send(tables, (alice, to_group(group, "1")), (alice, to_group(group, "2")))
        join(tables, bob, group)
        assert tables.history.waiting(bob.id, ANY, [-group]).delivered == {-group: 2}
        sent(tables, alice, to_group(group, "3"))
        join(tables, bob, group)
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == ["3"]

    def test_joining_and_writing_in_one_transaction(self, tables: Tables) -> None:
        """Messages come first in a transaction: who joins in it does not wait for them."""
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        tables.begin()
        tables.append([Draft(alice, to_group(group, "1")), Draft(bob, to_group(group, "not yet"))], 1)
        tables.admission.join(bob.id, group, ANYBODY, 1)
        tables.commit()
        sent(tables, bob, to_group(group, "2"))
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == ["2"]

    def test_membership_is_what_it_is_when_the_message_is_stored(self, opened: Callable[[], Tables]) -> None:
        """Another worker's joins and deletions count at once."""
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice)
        assert send(other, (bob, to_group(group))) == [ErrorCode.NOT_A_MEMBER]
        join(one, bob, group)
        assert sent(other, bob, to_group(group)).message.seq == 1
        done(one, lambda inside: inside.accounts.delete(bob.id))
        assert send(other, (bob, to_group(group))) == [ErrorCode.NOT_A_MEMBER]
