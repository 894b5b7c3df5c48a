"""What every store must do for files that people upload and send: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, Attachment, Message, User
from chatd.protocol import Extras, SendMessage
from chatd.store.contract import Content, FileRow, FileState, NewFile, SendingRules, Stored, Tables
from chatd.store.file_contract import AGAIN_MS, CHARGED_BYTES, blob_name
from chatd.store.retention_contract import SETTLE_MS, Kind
from tests.store.contract_retention import BEFORE, NEW, NOW, OLD, erase_all, expire
from tests.store.steps import ANY, Draft, done, make, refused, send, sent, team, to, to_group

HASH, OTHER_HASH = "a" * 64, "b" * 64
SIZE = 5000
PLENTY = 1 << 30


def new(owner: User, name: str = "one", size: int = SIZE, sha256: str = "") -> NewFile:
    """Its id is its name, filled up."""
    file_id = name.ljust(22, "-")
    return NewFile(id=file_id, owner=owner.id, name=f"{name}.png", size=size, media_type="image/png", sha256=sha256)


def begin(tables: Tables, file: NewFile, quota_bytes: int = 0, now_ms: int = 1) -> FileRow:
    return done(tables, lambda inside: inside.files.begin(file, quota_bytes, now_ms))


def complete(tables: Tables, file: NewFile, sha256: str = HASH) -> FileRow:
    content = Content(blob_name(file.id, sha256), sha256, 640, 480)
    return done(tables, lambda inside: inside.files.complete(file.id, content))


def uploaded(tables: Tables, owner: User, name: str = "one", sha256: str = HASH, now_ms: int = 1) -> FileRow:
    file = new(owner, name)
    begin(tables, file, now_ms=now_ms)
    return complete(tables, file, sha256)


def with_files(command: SendMessage, *files: FileRow | str) -> SendMessage:
    ids = tuple(one if isinstance(one, str) else one.id for one in files)
    return msgspec.structs.replace(command, extras=Extras(files=ids))


def doomed(tables: Tables, now_ms: int = 1) -> list[str]:
    return done(tables, lambda inside: inside.files.doomed(now_ms, ANY))


def swept(tables: Tables, now_ms: int = 1) -> list[str]:
    """What upkeep deletes now."""

    def sweep(inside: Tables) -> list[str]:
        names = inside.files.doomed(now_ms, ANY)
        inside.files.deleted(names, now_ms)
        return names

    return done(tables, sweep)


def message_at(tables: Tables, message: Message) -> Message:
    (found,) = tables.history.at(message.conversation, (message.seq,))
    return found


def told(file: FileRow) -> Attachment:
    return Attachment(id=file.id, name=file.name, size=SIZE, media_type="image/png", width=640, height=480)


class FilesContract:
    # ---------------------------------------------------------------- uploading

    def test_a_file_is_announced_then_complete_then_sent(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        alice, bob = make(tables, "alice", "bob")
        file = new(alice, sha256=HASH)
        row = begin(tables, file, now_ms=7)
        assert (row.owner, row.name, row.size, row.media_type) == (alice.id, "one.png", SIZE, "image/png")
        assert (row.state, row.sha256, row.blob, row.created_at_ms) == (FileState.UPLOADING, HASH, "", 7)
        assert elsewhere.files.find(file.id) == row
        row = complete(elsewhere, file)
        assert (row.state, row.blob) == (FileState.COMPLETE, blob_name(file.id, HASH))
        assert (row.width, row.height, row.seq) == (640, 480, 0)
        message = sent(tables, alice, with_files(to(bob, ""), row)).message
        assert message.attachments == (told(row),)
        assert message_at(elsewhere, message) == message
        row = elsewhere.files.find(file.id) or row
        assert (row.state, row.conversation, row.seq) == (FileState.SENT, message.conversation, message.seq)
        assert elsewhere.files.find("nothing") is None

    def test_the_same_announcement_twice_is_one(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        first = begin(tables, new(alice), 2 * CHARGED_BYTES)
        assert begin(tables, new(alice), 2 * CHARGED_BYTES, now_ms=9) == first
        assert tables.files.used(alice.id) == SIZE

    def test_the_quota_counts_what_is_announced_and_small_files_as_larger(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        quota = 3 * CHARGED_BYTES
        for name in "one", "two":
            begin(tables, new(alice, name, 1), quota)
        assert tables.files.used(alice.id) == 2 * CHARGED_BYTES
        too_much = new(alice, "three", CHARGED_BYTES + 1)
        refused(ErrorCode.QUOTA_REACHED, tables, lambda inside: inside.files.begin(too_much, quota, 1))
        assert tables.files.find(too_much.id) is None
        begin(tables, new(alice, "three", CHARGED_BYTES), quota)
        refused(ErrorCode.QUOTA_REACHED, tables, lambda inside: inside.files.begin(new(alice, "4", 1), quota, 1))
        begin(tables, new(bob, "his", CHARGED_BYTES), quota)
        assert done(tables, lambda inside: inside.files.cancel(new(alice, "one").id, alice.id))
        begin(tables, new(alice, "4", 1), quota)
        begin(tables, new(alice, "5", PLENTY), 0)

    def test_only_the_owner_cancels_and_only_what_was_not_sent(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        file = uploaded(tables, alice)
        assert not done(tables, lambda inside: inside.files.cancel(file.id, bob.id))
        sent(tables, alice, with_files(to(bob), file))
        assert not done(tables, lambda inside: inside.files.cancel(file.id, alice.id))
        assert not done(tables, lambda inside: inside.files.cancel("nothing"))
        other = uploaded(tables, alice, "two", OTHER_HASH)
        assert done(tables, lambda inside: inside.files.cancel(other.id))
        assert tables.files.find(other.id) is None
        assert doomed(tables) == [other.blob]

    def test_a_file_that_was_cancelled_is_not_completed(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        begin(tables, new(alice))
        done(tables, lambda inside: inside.files.cancel(new(alice).id))
        content = Content(blob_name(new(alice).id, HASH), HASH)
        refused(ErrorCode.UNKNOWN_FILE, tables, lambda inside: inside.files.complete(new(alice).id, content))
        assert doomed(tables) == [new(alice).id]

    def test_a_file_completed_twice_stays_as_it_is(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        first = uploaded(tables, alice)
        assert complete(tables, new(alice), OTHER_HASH) == first
        assert doomed(tables) == []

    # ---------------------------------------------------------------- the same content

    def test_the_same_content_is_kept_once(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        first = uploaded(one, alice)
        second = uploaded(other, bob, "two")
        third = uploaded(one, alice, "three")
        assert second.blob == third.blob == first.blob
        totals = other.files.totals()
        assert (totals.files, totals.file_bytes, totals.blobs, totals.blob_bytes) == (3, 3 * SIZE, 1, SIZE)
        assert swept(one) == sorted(blob_name(file.id, HASH) for file in (second, third))
        assert one.files.totals().doomed == 0

    def test_content_goes_with_its_last_file(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        first, second = uploaded(one, alice), uploaded(other, bob, "two")
        swept(one)
        assert done(one, lambda inside: inside.files.cancel(first.id))
        assert swept(other) == []
        third = uploaded(other, bob, "three")
        assert third.blob == first.blob
        for file in second, third:
            assert done(other, lambda inside, file=file: inside.files.cancel(file.id))  # type: ignore[misc]
        assert sorted(swept(one)) == sorted([first.blob, blob_name(third.id, HASH)])
        assert doomed(other) == []
        fourth = uploaded(one, alice, "four")
        assert fourth.blob == blob_name(fourth.id, HASH)

    def test_content_without_a_file_is_not_used_again(self, tables: Tables) -> None:
        """Upkeep may be deleting it at any moment."""
        (alice,) = make(tables, "alice")
        first = uploaded(tables, alice)
        done(tables, lambda inside: inside.files.cancel(first.id))
        second = uploaded(tables, alice, "two")
        assert second.blob != first.blob
        assert swept(tables) == [first.blob]

    def test_what_an_announced_hash_says_is_not_believed(self, tables: Tables) -> None:
        """Whoever knows only the hash of somebody's file does not get the file."""
        alice, bob = make(tables, "alice", "bob")
        uploaded(tables, alice)
        claimed = begin(tables, new(bob, "two", sha256=HASH))
        assert (claimed.state, claimed.blob) == (FileState.UPLOADING, "")
        third = uploaded(tables, alice, "three", OTHER_HASH)
        assert third.blob == blob_name(third.id, OTHER_HASH)

    def test_an_upload_that_was_given_up_is_deleted_twice(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        begin(tables, new(alice))
        done(tables, lambda inside: inside.files.cancel(new(alice).id))
        assert swept(tables, 10) == [new(alice).id]
        assert swept(tables, 9 + AGAIN_MS) == []
        assert swept(tables, 10 + AGAIN_MS) == [new(alice).id]
        assert swept(tables, 20 + 3 * AGAIN_MS) == []
        assert tables.files.totals().doomed == 0

    def test_what_was_not_deleted_comes_again(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        file = uploaded(tables, alice)
        done(tables, lambda inside: inside.files.cancel(file.id))
        assert doomed(tables) == doomed(tables) == [file.blob]

    # ---------------------------------------------------------------- sending

    @pytest.mark.parametrize("what", ["of another", "uploading", "sent", "twice", "unknown", "cancelled"])
    def test_a_message_with_a_file_that_cannot_be_sent_is_refused(self, tables: Tables, what: str) -> None:
        alice, bob = make(tables, "alice", "bob")
        file = uploaded(tables, alice)
        sender, files = alice, [file.id]
        match what:
            case "of another":
                sender = bob
            case "uploading":
                files = [file.id, begin(tables, new(alice, "two")).id]
            case "sent":
                sent(tables, alice, with_files(to(bob), file))
            case "twice":
                files = [file.id, file.id]
            case "unknown":
                files = [file.id, "nothing"]
            case "cancelled":
                done(tables, lambda inside: inside.files.cancel(file.id))
        command = with_files(to(bob if sender is alice else alice, "text", "fp"), *files)
        assert send(tables, (sender, command)) == [ErrorCode.UNKNOWN_FILE]
        refused_again, without = send(tables, (sender, command), (sender, to(bob, "another", "fp2")))
        assert refused_again is ErrorCode.UNKNOWN_FILE
        assert isinstance(without, Stored)
        assert without.message.seq == (2 if what == "sent" else 1)

    def test_of_two_messages_of_one_batch_one_has_the_file(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        file = uploaded(tables, alice)
        first, second = send(tables, (alice, with_files(to(bob), file)), (alice, with_files(to(carol), file)))
        assert isinstance(first, Stored)
        assert second is ErrorCode.UNKNOWN_FILE

    def test_a_file_of_a_message_that_is_refused_can_be_sent(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        file, rules = uploaded(tables, alice), SendingRules(waiting_from_one=1)
        sent(tables, alice, to(bob))
        batch = [Draft(alice, with_files(to(bob), file))]
        assert done(tables, lambda inside: inside.append(batch, 1, rules)) == [ErrorCode.MAILBOX_FULL]
        assert sent(tables, alice, with_files(to(bob), file)).message.attachments == (told(file),)

    def test_a_repetition_is_the_first_message_with_its_files(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        one, two = uploaded(tables, alice), uploaded(tables, alice, "two", OTHER_HASH)
        command = with_files(to(bob, "", "fp"), two, one)
        first = sent(tables, alice, command)
        assert first.message.attachments == (told(two), told(one))
        again = sent(tables, alice, command)
        assert (again.fresh, again.message) == (False, first.message)

    def test_the_files_of_groups_and_of_the_server(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        message = sent(tables, alice, with_files(to_group(group), uploaded(tables, alice))).message
        row = tables.files.find(message.attachments[0].id)
        assert row is not None
        assert (row.conversation, row.seq) == (-group, message.seq)
        from_server = sent(tables, SYSTEM, with_files(to(bob), uploaded(tables, SYSTEM, "two")))
        assert from_server.message.attachments[0].name == "two.png"

    # ---------------------------------------------------------------- going with the message

    def test_a_file_goes_when_its_message_is_recalled_or_removed_and_not_when_it_is_edited(
        self, tables: Tables
    ) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        recalled, removed = uploaded(tables, bob), uploaded(tables, bob, "two", OTHER_HASH)
        one = sent(tables, bob, with_files(to_group(group), recalled)).message
        two = sent(tables, bob, with_files(to_group(group), removed)).message
        place = one.conversation
        edited = done(tables, lambda inside: inside.revisions.edit(bob.id, place, one.seq, ("more", PLENTY), 2)).message
        assert edited.attachments == (told(recalled),)
        assert doomed(tables) == []
        change = done(tables, lambda inside: inside.revisions.recall(bob.id, place, one.seq, PLENTY, 3))
        assert change.message.attachments == ()
        assert swept(tables) == [recalled.blob]
        change = done(tables, lambda inside: inside.revisions.remove(alice.id, place, two.seq, 4))
        assert change.message.attachments == ()
        assert swept(tables) == [removed.blob]
        for message, file in (one, recalled), (two, removed):
            assert message_at(tables, message).attachments == ()
            assert tables.files.find(file.id) is None
        assert tables.files.used(bob.id) == 0

    def test_a_message_that_loses_its_files_keeps_what_it_answers(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        sent(tables, alice, to(bob))
        extras = Extras(reply_to=1, files=(uploaded(tables, bob).id,))
        message = sent(tables, bob, msgspec.structs.replace(to(alice), extras=extras)).message
        done(tables, lambda inside: inside.revisions.recall(bob.id, message.conversation, message.seq, PLENTY, 3))
        found = message_at(tables, message)
        assert (found.reply_to, found.attachments) == (1, ())

    def test_files_go_with_old_messages(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        old, last = uploaded(tables, alice), uploaded(tables, alice, "two", OTHER_HASH)
        of_group, young = uploaded(tables, bob, "three", "c" * 64), uploaded(tables, bob, "four", "d" * 64)
        sent(tables, alice, with_files(to(bob), old), OLD)
        sent(tables, alice, with_files(to(bob), last), OLD)
        sent(tables, bob, with_files(to_group(group), of_group), OLD)
        sent(tables, bob, with_files(to_group(group), young), NEW)
        expire(tables, Kind.PRIVATE)
        assert sorted(swept(tables)) == sorted([old.blob, last.blob])
        expire(tables, Kind.GROUPS)
        assert swept(tables) == [of_group.blob]
        assert tables.files.find(young.id) is not None
        assert tables.files.used(alice.id) == 0

    def test_files_go_with_a_dissolved_group(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        file = uploaded(tables, alice)
        sent(tables, alice, with_files(to_group(group), file), OLD)
        for user in bob, alice:
            done(tables, lambda inside, user=user: inside.groups.leave(user.id, group))  # type: ignore[misc]
        for _ in range(20):
            done(tables, lambda inside: inside.retention.expire_dissolved(BEFORE, 1, ANY))
            done(tables, lambda inside: inside.retention.expire(Kind.GROUPS, BEFORE, NOW, ANY))
        assert tables.files.find(file.id) is None
        assert swept(tables) == [file.blob]

    def test_an_erased_person_leaves_no_file(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        message = sent(tables, alice, with_files(to(bob), uploaded(tables, alice))).message
        complete_one = uploaded(tables, alice, "two", OTHER_HASH)
        begin(tables, new(alice, "three"))
        of_bob = uploaded(tables, bob, "four", "c" * 64)
        done(tables, lambda inside: inside.accounts.erase(alice.id, NEW))
        assert tables.files.owned(alice.id, "", ANY) == []
        gone = [blob_name(message.attachments[0].id, HASH), complete_one.blob, new(alice, "three").id]
        assert sorted(swept(tables)) == sorted(gone)
        late = uploaded(tables, alice, "late", "d" * 64)
        erase_all(tables, alice, NEW + 1)
        assert message_at(tables, message).attachments == ()
        erase_all(tables, alice, NEW + SETTLE_MS)
        assert swept(tables) == [late.blob]
        assert tables.files.find(of_bob.id) == of_bob

    def test_a_deleted_account_leaves_the_files_of_its_messages(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        file = uploaded(tables, alice)
        sent(tables, alice, with_files(to(bob), file))
        done(tables, lambda inside: inside.accounts.delete(alice.id))
        assert tables.files.find(file.id) is not None

    # ---------------------------------------------------------------- many

    def test_files_that_were_not_sent_expire(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        begin(tables, new(alice, "half"), now_ms=OLD)
        whole = uploaded(tables, alice, "whole", OTHER_HASH, now_ms=OLD)
        used = uploaded(tables, alice, "used", "c" * 64, now_ms=OLD)
        sent(tables, alice, with_files(to(bob), used))
        begin(tables, new(alice, "young"), now_ms=NEW)
        counts = [done(tables, lambda inside: inside.files.expire(BEFORE, 1)) for _ in range(4)]
        assert counts == [1, 1, 0, 0]
        left = [file.id for file in tables.files.owned(alice.id, "", ANY)]
        assert left == sorted([used.id, new(alice, "young").id])
        assert sorted(swept(tables)) == sorted([new(alice, "half").id, whole.blob])

    def test_the_files_of_a_person_come_in_pages(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        names = ["B", "a", "c", "D", "_", "1"]
        for name in names:
            begin(tables, new(alice, name))
        begin(tables, new(bob, "other"))
        found: list[str] = []
        while page := tables.files.owned(alice.id, found[-1] if found else "", 4):
            found += [file.id for file in page]
        assert found == sorted(new(alice, name).id for name in names)

    def test_all_files_come_in_pages(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for name in ("B", "a", "c"):
            begin(tables, new(alice, name))
        whole = uploaded(tables, bob, "other")
        found: list[FileRow] = []
        while page := tables.files.following(found[-1].id if found else "", 3):
            found += page
        assert [file.id for file in found] == sorted([whole.id, *(new(alice, name).id for name in ("B", "a", "c"))])
        assert [file for file in found if file.owner == bob.id] == [whole]

    def test_all_content_that_will_be_deleted_is_known(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        half, whole = begin(tables, new(alice, "half")), uploaded(tables, alice, "whole")
        assert tables.files.all_doomed() == set()
        for file in half, whole:
            assert done(tables, lambda inside, file=file: inside.files.cancel(file.id))
        assert tables.files.all_doomed() == {half.id, whole.blob}
        swept(tables)
        assert tables.files.all_doomed() == {half.id}, "what an upload may bring back is deleted once more"
