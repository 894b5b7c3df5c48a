"""The judge must find each defect in a run that has it, and none in a run that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.journal import Journal, digest, pair, read
from tests.harness.judge import Verdict, judge

AB = pair("alice", "bob")
SECOND = 1_000_000_000


class Story:
    """A journal written by hand; every line is one second after the one before unless told."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.now = 0

    def note(self, event: str, user: str, conn: int = 0, **fields: object) -> None:
        self.now += SECOND
        self.journal.note(event, user, conn, at=self.now, **fields)  # type: ignore[arg-type]

    def enter(self, user: str, conn: int, dedupe: bool = True) -> None:
        self.note("connect", user, conn, dedupe=dedupe)
        self.note("login", user, conn)

    def send(self, user: str, message_id: str, conv: str = AB, conn: int = 0, text: str = "") -> None:
        self.note("send", user, conn, id=message_id, conv=conv, hash=digest(text or message_id))

    def ok(self, user: str, message_id: str, seq: int = 0) -> None:
        self.note("ok", user, id=message_id, seq=seq)

    def see(
        self, user: str, message_id: str, sender: str = "", conv: str = AB, conn: int = 0, seq: int = 0, text: str = ""
    ) -> None:
        self.note(
            "receive", user, conn, id=message_id, conv=conv, sender=sender, seq=seq, hash=digest(text or message_id)
        )

    def sent_and_ok(self, user: str, *ids: str, conv: str = AB, first_seq: int = 0) -> None:
        for index, message_id in enumerate(ids):
            self.send(user, message_id, conv)
            self.ok(user, message_id, first_seq + index if first_seq else 0)

    def verdict(self, stale_s: float | None = None) -> Verdict:
        return judge(self.journal.lines, stale_s=stale_s)


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_good_run_has_no_defect_and_says_how_much_was_looked_at(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice", "bob", "carol"))
    story.enter("alice", 1)
    story.enter("bob", 2)
    story.sent_and_ok("alice", "a1", "a2", first_seq=1)
    story.sent_and_ok("bob", "b1", first_seq=3)
    story.send("alice", "a4")  # outcome unknown, never arrived: allowed
    story.note("unknown", "alice", id="a4")
    for message_id in ("a1", "a2"):
        story.see("bob", message_id, "alice", conn=2)
    story.see("alice", "b1", "bob", conn=1)
    story.sent_and_ok("carol", "g1", "g2", conv="#1")
    for user in ("alice", "bob"):
        story.see(user, "g1", "carol", "#1")
        story.see(user, "g2", "carol", "#1")
    verdict = story.verdict(stale_s=60)
    assert verdict.clean, verdict
    assert verdict.counts["send"] == 6
    assert verdict.counts["ok"] == 5
    assert verdict.counts["receive"] == 7
    assert verdict.counts["expected"] == 7
    assert "no defect in N = (" in str(verdict)


def test_lost_is_acknowledged_and_never_seen(story: Story) -> None:
    story.sent_and_ok("alice", "a1", "a2")
    story.see("bob", "a1", "alice")
    verdict = story.verdict()
    assert verdict.kinds() == {"lost"}
    assert verdict.defects[0].id == "a2"
    assert verdict.defects[0].user == "bob"


def test_lost_counts_every_member_of_a_group(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice", "bob", "carol"))
    story.sent_and_ok("alice", "a1", conv="#1")
    story.see("bob", "a1", "alice", "#1")
    assert [(d.kind, d.user) for d in story.verdict().defects] == [("lost", "carol")]


def test_a_message_of_unknown_outcome_may_be_absent_or_present(story: Story) -> None:
    story.send("alice", "a1")
    story.note("unknown", "alice", id="a1")
    story.send("alice", "a2")
    story.note("unknown", "alice", id="a2")
    story.see("bob", "a2", "alice")
    assert story.verdict().clean


def test_phantom_was_never_sent(story: Story) -> None:
    story.see("bob", "x1", "alice")
    assert story.verdict().kinds() == {"phantom"}


def test_phantom_has_another_text_or_another_sender(story: Story) -> None:
    story.send("alice", "a1")
    story.send("alice", "a2")
    story.see("bob", "a1", "alice", text="something else")
    story.see("bob", "a2", "mallory")
    assert [d.kind for d in story.verdict().defects] == ["phantom", "phantom"]


def test_phantom_was_refused_and_arrives(story: Story) -> None:
    story.send("alice", "a1")
    story.note("refused", "alice", id="a1", code=1040)
    story.see("bob", "a1", "alice")
    assert story.verdict().kinds() == {"phantom"}


def test_refused_then_sent_again_may_arrive(story: Story) -> None:
    story.send("alice", "a1")
    story.note("refused", "alice", id="a1", code=1040)
    story.send("alice", "a1")
    story.ok("alice", "a1")
    story.see("bob", "a1", "alice")
    assert story.verdict().clean


@pytest.mark.parametrize("second_connection", [2, 3])
def test_duplicate_is_shown_twice(story: Story, second_connection: int) -> None:
    story.enter("bob", 2)
    story.enter("bob", 3)
    story.sent_and_ok("alice", "a1")
    story.see("bob", "a1", "alice", conn=2)
    story.see("bob", "a1", "alice", conn=second_connection)
    assert story.verdict().kinds() == {"duplicate"}


def test_an_old_client_may_see_a_message_again_on_a_later_connection_only(story: Story) -> None:
    story.enter("bob", 2, dedupe=False)
    story.enter("bob", 3, dedupe=False)
    story.sent_and_ok("alice", "a1")
    story.see("bob", "a1", "alice", conn=2)
    story.see("bob", "a1", "alice", conn=3)
    assert story.verdict().clean
    story.see("bob", "a1", "alice", conn=3)
    assert story.verdict().kinds() == {"duplicate"}


def test_duplicate_is_acknowledged_under_two_numbers(story: Story) -> None:
    story.sent_and_ok("alice", "a1", first_seq=1)
    story.send("alice", "a1")
    story.ok("alice", "a1", 2)
    story.see("bob", "a1", "alice")
    assert story.verdict().kinds() == {"duplicate"}


def test_hole_between_numbers_seen(story: Story) -> None:
    story.sent_and_ok("alice", "a1", first_seq=1)
    story.send("alice", "a2")
    story.note("unknown", "alice", id="a2")
    story.sent_and_ok("alice", "a3", first_seq=3)
    story.sent_and_ok("alice", "a4", first_seq=5)
    for message_id in ("a1", "a3", "a4"):
        story.see("bob", message_id, "alice")
    verdict = story.verdict()
    assert verdict.kinds() == {"hole"}
    assert "2 numbers were never given, 1 outcomes unknown" in str(verdict)


def test_hole_of_an_acknowledged_number_is_also_lost(story: Story) -> None:
    story.sent_and_ok("alice", "a1", "a2", "a3", first_seq=1)
    story.see("bob", "a1", "alice")
    story.see("bob", "a3", "alice")
    assert story.verdict().kinds() == {"hole", "lost"}


def test_hole_that_another_member_shows(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice", "bob", "carol"))
    for message_id in ("a1", "a2", "a3"):
        story.send("alice", message_id, "#1")
        story.note("unknown", "alice", id=message_id)
    for message_id in ("a1", "a2", "a3"):
        story.see("bob", message_id, "alice", "#1")
    for message_id in ("a1", "a3"):
        story.see("carol", message_id, "alice", "#1")
    verdict = story.verdict()
    assert [(d.kind, d.user, d.id) for d in verdict.defects] == [("hole", "carol", "a2")]


def test_reorder_against_real_time(story: Story) -> None:
    story.sent_and_ok("alice", "a1", "a2")
    story.see("bob", "a2", "alice")
    story.see("bob", "a1", "alice")
    assert story.verdict().kinds() == {"reorder"}


def test_reorder_of_one_senders_pipeline(story: Story) -> None:
    for message_id in ("a1", "a2"):
        story.send("alice", message_id, conn=1)
    story.see("bob", "a2", "alice")
    story.see("bob", "a1", "alice")
    assert story.verdict().kinds() == {"reorder"}


def test_a_resent_message_may_come_after_a_later_one(story: Story) -> None:
    for message_id in ("a1", "a2", "a1"):
        story.send("alice", message_id, conn=1)
    story.see("bob", "a2", "alice")
    story.see("bob", "a1", "alice")
    assert story.verdict().clean


def test_reorder_against_the_numbers(story: Story) -> None:
    story.send("alice", "a1")
    story.send("alice", "a2", conn=7)
    story.ok("alice", "a2", 2)
    story.ok("alice", "a1", 1)
    story.see("bob", "a2", "alice")
    story.see("bob", "a1", "alice")
    assert story.verdict().kinds() == {"reorder"}


def test_divergent_orders_of_two_members(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice", "bob", "carol", "dave"))
    story.send("alice", "a1", "#1")
    story.send("bob", "b1", "#1")
    for user, order in {"carol": ("a1", "b1"), "dave": ("b1", "a1")}.items():
        for message_id in order:
            story.see(user, message_id, conv="#1")
    assert story.verdict().kinds() == {"divergent"}


def test_divergent_numbers(story: Story) -> None:
    story.sent_and_ok("alice", "a1", first_seq=1)
    story.sent_and_ok("bob", "b1", first_seq=1)
    story.see("bob", "a1", "alice")
    story.see("alice", "b1", "bob")
    assert story.verdict().kinds() == {"divergent"}


def test_leak_to_somebody_else_to_the_sender_and_of_an_answer(story: Story) -> None:
    story.sent_and_ok("alice", "a1")
    story.see("bob", "a1", "alice")
    story.see("eve", "a1", "alice", pair("alice", "eve"))
    story.see("alice", "a1", "alice")
    story.ok("eve", "a1")
    verdict = story.verdict()
    assert [(d.kind, d.user) for d in verdict.defects] == [("leak", "eve"), ("leak", "eve"), ("leak", "alice")]


def test_leak_into_another_conversation(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice", "bob"))
    story.send("alice", "a1", "#1")
    story.see("bob", "a1", "alice", AB)
    assert story.verdict().kinds() == {"leak"}


def moves(story: Story, event: str, user: str, conv: str = "#1") -> None:
    story.note(event, user, conv=conv)


def test_leak_after_being_removed_and_before_coming_back(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice", "bob", "carol"))
    for event in ("leaving", "left"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a1", conv="#1")
    for event in ("joining", "joined"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a2", conv="#1")
    for message_id in ("a1", "a2"):
        story.see("carol", message_id, "alice", "#1")
    story.see("bob", "a2", "alice", "#1")
    assert story.verdict().clean
    story.see("bob", "a1", "alice", "#1")
    assert [(d.kind, d.user, d.id) for d in story.verdict().defects if d.kind == "leak"] == [("leak", "bob", "a1")]


@pytest.mark.parametrize("sees", [False, True])
def test_what_is_sent_beside_a_change_may_be_seen_or_not(story: Story, sees: bool) -> None:
    story.note("members", "", conv="#1", users=("alice",))
    story.send("alice", "a1", "#1")
    moves(story, "joining", "bob")
    story.ok("alice", "a1")
    moves(story, "joined", "bob")
    moves(story, "leaving", "bob")
    story.sent_and_ok("alice", "a2", conv="#1")
    moves(story, "left", "bob")
    if sees:
        story.see("bob", "a1", "alice", "#1")
        story.see("bob", "a2", "alice", "#1")
    assert story.verdict().clean


def test_lost_to_who_has_joined_and_stays(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice",))
    for event in ("joining", "joined", "leaving", "left", "joining", "joined"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a1", conv="#1")
    assert [(d.kind, d.user) for d in story.verdict().defects] == [("lost", "bob")]
    assert story.verdict().counts["expected"] == 1


def test_not_lost_to_who_has_left_since(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice",))
    for event in ("joining", "joined"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a1", conv="#1")
    moves(story, "leaving", "bob")
    assert story.verdict().clean


def test_hole_within_a_membership_and_none_between_two(story: Story) -> None:
    story.note("members", "", conv="#1", users=("alice",))
    for event in ("joining", "joined"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a1", "a2", "a3", conv="#1", first_seq=1)
    for event in ("leaving", "left"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a4", conv="#1", first_seq=4)
    for event in ("joining", "joined"):
        moves(story, event, "bob")
    story.sent_and_ok("alice", "a5", conv="#1", first_seq=5)
    for message_id in ("a1", "a3", "a5"):
        story.see("bob", message_id, "alice", "#1")
    assert [(d.kind, d.user, d.id) for d in story.verdict().defects] == [("hole", "bob", "a2")]


def test_a_change_of_unknown_outcome_is_held_against_nobody(story: Story) -> None:
    """Asked and not answered: perhaps a member, perhaps not."""
    story.note("members", "", conv="#1", users=("alice", "bob"))
    moves(story, "leaving", "bob")
    moves(story, "joining", "carol")
    story.sent_and_ok("alice", "a1", "a2", conv="#1")
    story.see("bob", "a1", "alice", "#1")
    story.see("carol", "a2", "alice", "#1")
    assert story.verdict().clean


def test_stale_took_too_long_to_somebody_who_was_there(story: Story) -> None:
    story.enter("bob", 2)
    story.sent_and_ok("alice", "a1")
    story.now += 6 * SECOND
    story.see("bob", "a1", "alice", conn=2)
    assert story.verdict(stale_s=5).kinds() == {"stale"}
    assert story.verdict(stale_s=10).clean
    assert story.verdict().clean


def test_not_stale_when_the_recipient_was_away(story: Story) -> None:
    story.enter("bob", 2)
    story.note("close", "bob", 2)
    story.sent_and_ok("alice", "a1")
    story.now += 600 * SECOND
    story.enter("bob", 3)
    story.see("bob", "a1", "alice", conn=3)
    assert story.verdict(stale_s=5).clean


def test_a_journal_survives_its_file(story: Story, tmp_path: Path) -> None:
    story.journal.path = tmp_path / "one.jsonl"
    story.sent_and_ok("alice", "a1")
    story.journal.save()
    later = Journal(tmp_path / "two.jsonl")
    later.note("receive", "bob", at=story.now + 1, id="a1", conv=AB, hash=digest("a1"))
    later.save()
    assert judge(read([tmp_path / "two.jsonl", tmp_path / "one.jsonl"])).clean
    assert judge(read([tmp_path / "one.jsonl"])).kinds() == {"lost"}


# ---------------------------------------------------------------- messages that change


def changes(story: Story, user: str, message_id: str, text: str, version: int = 0) -> None:
    """version 0: the outcome is unknown. text "": a recall."""
    about: dict[str, Any] = {"id": message_id, "hash": digest(text) if text else ""}
    story.note("change", user, **about)
    if version:
        story.note("changed", user, version=version, **about)


def shows(story: Story, user: str, message_id: str, text: str, version: int = 0, event: str = "show") -> None:
    about: dict[str, Any] = {"id": message_id, "hash": digest(text) if text else "", "conv": AB, "version": version}
    story.note(event, user, **about)


def final(story: Story, user: str, seq: int, text: str, version: int = 0, message_id: str = "") -> None:
    about: dict[str, Any] = {
        "seq": seq,
        "hash": digest(text) if text else "",
        "conv": AB,
        "version": version,
        "id": message_id,
    }
    story.note("final", user, **about)


def test_a_good_run_with_changes_has_no_defect(story: Story) -> None:
    story.sent_and_ok("alice", "a1", "a2", "a3", first_seq=1)
    story.see("bob", "a1", "alice")
    changes(story, "alice", "a1", "one", 1)
    shows(story, "bob", "a1", "one", 1)
    changes(story, "alice", "a1", "", 2)
    story.note("show", "bob", conv=AB, seq=1, hash="", version=2)
    changes(story, "alice", "a2", "two", 1)
    story.see("bob", "a2", "alice", text="two")  # it waited, and is given as it is
    changes(story, "alice", "a3", "", 1)
    story.note("receive", "bob", id="a3", conv=AB, sender="alice", hash="")
    changes(story, "alice", "a2", "perhaps")
    for user in ("alice", "bob"):
        final(story, user, 1, "", 2)
        final(story, user, 2, "two", 1)
        final(story, user, 3, "", 1)
    assert story.verdict().clean, story.verdict()


@pytest.mark.parametrize("event", ["show", "receive"])
def test_outdated_is_an_earlier_text_after_a_later_one(story: Story, event: str) -> None:
    story.sent_and_ok("alice", "a1")
    for version, text in ((1, "one"), (2, "two")):
        changes(story, "alice", "a1", text, version)
    story.see("bob", "a1", "alice", text="two")
    shows(story, "bob", "a1", "one", 0 if event == "receive" else 1, event)
    assert "outdated" in story.verdict().kinds()


def test_outdated_is_a_history_without_what_was_acknowledged(story: Story) -> None:
    story.sent_and_ok("alice", "a1", first_seq=1)
    story.see("bob", "a1", "alice")
    changes(story, "alice", "a1", "one", 1)
    final(story, "bob", 1, "a1", 0, "a1")
    assert story.verdict().kinds() == {"outdated"}


def test_ghost_is_a_text_after_its_recall(story: Story) -> None:
    story.sent_and_ok("alice", "a1")
    changes(story, "alice", "a1", "", 1)
    story.note("receive", "bob", id="a1", conv=AB, hash=digest("a1"))
    assert story.verdict().kinds() == {"ghost"}


def test_no_ghost_while_the_recall_is_under_way(story: Story) -> None:
    story.sent_and_ok("alice", "a1")
    changes(story, "alice", "a1", "")
    story.see("bob", "a1", "alice")
    story.note("changed", "alice", id="a1", hash="", version=1)
    assert story.verdict().clean


def test_unauthorised_is_a_change_by_somebody_else(story: Story) -> None:
    story.sent_and_ok("alice", "a1")
    story.see("bob", "a1", "alice")
    changes(story, "bob", "a1", "hacked", 1)
    assert story.verdict().kinds() == {"unauthorised"}


def test_unauthorised_is_shown_without_an_acknowledgement(story: Story) -> None:
    story.sent_and_ok("alice", "a1")
    story.see("bob", "a1", "alice")
    changes(story, "mallory", "a1", "hacked")
    shows(story, "bob", "a1", "hacked", 1)
    assert story.verdict().kinds() == {"unauthorised"}


def test_phantom_is_a_text_that_nobody_asked_for(story: Story) -> None:
    story.sent_and_ok("alice", "a1")
    story.see("bob", "a1", "alice")
    shows(story, "bob", "a1", "from nowhere", 1)
    assert story.verdict().kinds() == {"phantom"}


def test_divergent_are_different_texts_in_the_end(story: Story) -> None:
    story.sent_and_ok("alice", "a1", first_seq=1)
    story.see("bob", "a1", "alice")
    changes(story, "alice", "a1", "one")
    final(story, "alice", 1, "one", 1, "a1")
    final(story, "bob", 1, "a1", 0, "a1")
    assert story.verdict().kinds() == {"divergent"}


def test_divergent_is_a_message_that_was_numbered_again(story: Story) -> None:
    story.sent_and_ok("alice", "a1", "a2", first_seq=1)
    for message_id in ("a1", "a2"):
        story.see("bob", message_id, "alice")
    changes(story, "alice", "a1", "one", 1)
    final(story, "alice", 3, "one", 1, "a1")
    assert story.verdict().kinds() == {"divergent"}
