"""The checker of the promises: reads what the clients wrote down, names every defect.

Owns: eight defects and how each is recognised. It knows no server, store or wire: only journal lines.
Elsewhere: the defects of messages that change (tests.harness.judge_changes).

* lost       acknowledged, and a member who should have it never saw it
* phantom    seen but never sent, or sent otherwise (text, sender), or refused and seen all the same
* duplicate  seen twice by one person after duplicates were removed, or stored under two numbers
* hole       somebody saw what came before and after, but not the message between
* reorder    seen in another order than sent, acknowledged or numbered
* divergent  two members saw the same messages in different orders, or one number names two messages
* leak       seen by somebody who is no member, or an answer about a message of somebody else
* stale      the recipient was there all the time, and it still took longer than `stale_s`

Who is a member may change while people write. A message belongs to those who were members at its commit, which was
between its first sending and its acknowledgement. A user who was not a member in all that time must not see it (leak);
one who was a member all that time and stayed must see it (lost); and nobody misses one between two seen in one
membership (hole).

A client without duplicate removal (an old one) may see a message again on a *later* connection: the server cannot
know what the dead connection showed. On one connection never.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tests.harness.journal import Line
from tests.harness.judge_changes import Changes

FOREVER = 1 << 62
Kind = Literal[
    "lost", "phantom", "duplicate", "hole", "reorder", "divergent", "leak", "stale",
    "outdated", "ghost", "unauthorised",
]  # fmt: skip


@dataclass(frozen=True)
class Defect:
    kind: Kind
    user: str
    id: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.user} {self.id}: {self.why}"


@dataclass
class Sent:
    """A message as its sender knows it."""

    id: str
    user: str
    conv: str
    hash: str
    first_at: int
    conn: int
    attempts: int = 1
    ok_at: int = 0
    seq: int = 0
    refused: bool = False

    @property
    def until(self) -> int:
        """Stored by then, if at all."""
        return self.ok_at or FOREVER


@dataclass
class Connection:
    user: str
    dedupe: bool
    login_at: int = 0
    close_at: int = 0


@dataclass
class Stay:
    """One membership. A time is 0 for "before everything", or FOREVER: it may be one from `asked_at` to `out_at`, and
    surely is from `in_at` to `leaving_at`."""

    asked_at: int = 0
    in_at: int = 0
    leaving_at: int = FOREVER
    out_at: int = FOREVER

    def may_have(self, sent: Sent) -> bool:
        return self.asked_at <= sent.until and sent.first_at <= self.out_at

    def surely_has(self, sent: Sent) -> bool:
        return self.in_at <= sent.first_at and (sent.until <= self.leaving_at or self.leaving_at == FOREVER)


@dataclass
class Verdict:
    """A zero is worth its N: `counts` says how much was looked at."""

    defects: list[Defect]
    counts: Counter[str]

    @property
    def clean(self) -> bool:
        return not self.defects

    def kinds(self) -> set[str]:
        return {defect.kind for defect in self.defects}

    def __str__(self) -> str:
        per_kind = Counter(defect.kind for defect in self.defects)
        found = ", ".join(f"{kind} {per_kind[kind]}" for kind in sorted(per_kind)) or "no defect"
        looked = ", ".join(f"{name} {self.counts[name]}" for name in sorted(self.counts))
        shown = "".join(f"\n  {defect}" for defect in self.defects[:20])
        return f"{found} in N = ({looked}){shown}"


@dataclass
class Judge:
    """Built once per run; `judge()` below is the door."""

    stale_ns: int | None
    sent: dict[str, Sent] = field(default_factory=dict)
    stays: dict[str, dict[str, list[Stay]]] = field(default_factory=dict)
    """Of each group, of each user who ever was or may have been a member."""
    connections: dict[int, Connection] = field(default_factory=dict)
    shown: dict[tuple[str, str], list[Line]] = field(default_factory=lambda: defaultdict(list))
    defects: list[Defect] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.changes = Changes(self.blame)

    def blame(self, kind: Kind, user: str, message_id: str, why: str) -> None:
        self.defects.append(Defect(kind, user, message_id, why))

    # ------------------------------------------------------------ reading

    def read(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self.counts[line.event] += 1
            getattr(self, f"_{line.event}")(line)

    def _members(self, line: Line) -> None:
        self.stays[line.conv] = {user: [Stay()] for user in line.users}

    def _joining(self, line: Line) -> None:
        stays = self.stays[line.conv].setdefault(line.user, [])
        if not stays or stays[-1].leaving_at != FOREVER:
            stays.append(Stay(line.at, FOREVER))

    def _joined(self, line: Line) -> None:
        stay = self.stays[line.conv][line.user][-1]
        stay.in_at = min(stay.in_at, line.at)

    def _leaving(self, line: Line) -> None:
        stay = self.stays[line.conv][line.user][-1]
        stay.leaving_at = min(stay.leaving_at, line.at)

    def _left(self, line: Line) -> None:
        for stay in self.stays[line.conv][line.user]:
            stay.out_at = min(stay.out_at, line.at)

    def _connect(self, line: Line) -> None:
        self.connections[line.conn] = Connection(line.user, line.dedupe)

    def _login(self, line: Line) -> None:
        self.connections.setdefault(line.conn, Connection(line.user, True)).login_at = line.at

    def _close(self, line: Line) -> None:
        if line.conn in self.connections:
            self.connections[line.conn].close_at = line.at

    def _send(self, line: Line) -> None:
        known = self.sent.get(line.id)
        if known is None:
            self.sent[line.id] = Sent(line.id, line.user, line.conv, line.hash, line.at, line.conn)
        else:
            known.attempts += 1

    def _ok(self, line: Line) -> None:
        known = self._own(line)
        if known is None:
            return
        if known.seq and line.seq and known.seq != line.seq:
            self.blame("duplicate", line.user, line.id, f"acknowledged as {known.seq} and as {line.seq}")
        known.ok_at = known.ok_at or line.at
        known.seq = known.seq or line.seq

    def _refused(self, line: Line) -> None:
        known = self._own(line)
        if known is not None:
            known.refused = True

    def _unknown(self, line: Line) -> None:
        self._own(line)

    def _own(self, line: Line) -> Sent | None:
        known = self.sent.get(line.id)
        if known is None or known.user != line.user:
            self.blame("leak", line.user, line.id, f"was told {line.event} about a message it did not send")
            return None
        return known

    def _receive(self, line: Line) -> None:
        self.shown[line.user, line.conv].append(line)
        self.changes.shown.append(line)

    def _change(self, line: Line) -> None:
        self.changes.asked(line)

    def _changed(self, line: Line) -> None:
        self.changes.answered(line, ok=True)

    def _unchanged(self, line: Line) -> None:
        self.changes.answered(line, ok=False)

    def _show(self, line: Line) -> None:
        self.changes.shown.append(line)

    def _final(self, line: Line) -> None:
        self.changes.finals.append(line)

    # ------------------------------------------------------------ judging

    def judge(self) -> Verdict:
        firsts: dict[tuple[str, str], list[Line]] = {}
        for (user, conv), lines in self.shown.items():
            genuine = [line for line in lines if self._genuine(line)]
            firsts[user, conv] = self._without_repeats(user, genuine)
        numbers = self._numbers(firsts)
        for (user, conv), lines in firsts.items():
            self._order(user, [self.sent[line.id] for line in lines])
            self._numbered_order(user, lines, numbers)
            self._numbered_holes(user, conv, lines, numbers)
        by_conv: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for (user, conv), lines in firsts.items():
            by_conv[conv][user] = [line.id for line in lines]
        for conv, views in by_conv.items():
            self._agree(conv, views)
        self._whole_numbers(numbers)
        first_of = {(user, line.id): line for (user, _), lines in firsts.items() for line in lines}
        self._arrived(first_of)
        self.changes.judge(self.sent, numbers)
        return Verdict(self.defects, self.counts)

    def _stays(self, conv: str) -> dict[str, list[Stay]]:
        known = self.stays.get(conv)
        return {user: [Stay()] for user in conv.split("|")} if known is None else known

    def _is_theirs(self, user: str, sent: Sent) -> bool:
        return any(stay.may_have(sent) for stay in self._stays(sent.conv).get(user, ()))

    def _audience(self, conv: str) -> frozenset[str]:
        """Who was there from the beginning to the end."""
        return frozenset(user for user, stays in self._stays(conv).items() if stays == [Stay()])

    def _genuine(self, line: Line) -> bool:
        """Whether this was really sent to this person; if not, it is blamed and judged no further."""
        sent = self.sent.get(line.id)
        if sent is None:
            self.blame("phantom", line.user, line.id, "nobody sent it")
        elif not self._is_theirs(line.user, sent) or line.user == sent.user:
            self.blame("leak", line.user, line.id, f"belongs to {sent.conv}, sent by {sent.user}")
        elif line.conv != sent.conv:
            self.blame("leak", line.user, line.id, f"shown in {line.conv}, sent to {sent.conv}")
        elif not self.changes.is_of(sent, line) or (line.sender and line.sender != sent.user):
            self.blame("phantom", line.user, line.id, f"not as sent by {sent.user}")
        elif sent.refused and not sent.ok_at and sent.attempts == 1:
            self.blame("phantom", line.user, line.id, "was refused")
            return True
        else:
            return True
        return False

    def _without_repeats(self, user: str, lines: list[Line]) -> list[Line]:
        seen: dict[str, set[int]] = {}
        firsts = []
        for line in lines:
            earlier = seen.setdefault(line.id, set())
            connection = self.connections.get(line.conn)
            if not earlier:
                firsts.append(line)
            elif line.conn in earlier:
                self.blame("duplicate", user, line.id, "twice on one connection")
            elif connection is None or connection.dedupe:
                self.blame("duplicate", user, line.id, "again on a later connection")
            earlier.add(line.conn)
        return firsts

    def _order(self, user: str, seen: list[Sent]) -> None:
        """Real time (acknowledged before the other was sent) and, per sender and connection, the order of sending."""
        latest_send = 0
        last_of: dict[tuple[str, int], Sent] = {}
        for sent in seen:
            if sent.ok_at and sent.ok_at < latest_send:
                self.blame("reorder", user, sent.id, "seen after a message sent after its acknowledgement")
            elif sent.attempts == 1:
                before = last_of.get((sent.user, sent.conn))
                if before is not None and before.first_at > sent.first_at:
                    self.blame("reorder", user, sent.id, f"seen after {before.id}, sent before it")
                else:
                    last_of[sent.user, sent.conn] = sent
            latest_send = max(latest_send, sent.first_at)

    def _numbers(self, firsts: dict[tuple[str, str], list[Line]]) -> dict[str, dict[str, int]]:
        """Per conversation, the number of each message as far as anybody was told."""
        numbers: dict[str, dict[str, int]] = defaultdict(dict)
        for sent in self.sent.values():
            if sent.seq:
                numbers[sent.conv][sent.id] = sent.seq
        for (user, conv), lines in firsts.items():
            for line in lines:
                if line.seq and numbers[conv].setdefault(line.id, line.seq) != line.seq:
                    self.blame(
                        "divergent", user, line.id, f"number {line.seq} here, {numbers[conv][line.id]} elsewhere"
                    )
        for conv, of_id in numbers.items():
            for number, same in itertools.groupby(sorted(of_id, key=of_id.__getitem__), key=of_id.__getitem__):
                ids = list(same)
                for other in ids[1:]:
                    self.blame("divergent", conv, other, f"number {number} is also that of {ids[0]}")
        return numbers

    def _numbered_order(self, user: str, lines: list[Line], numbers: dict[str, dict[str, int]]) -> None:
        highest, holder = 0, ""
        for line in lines:
            number = numbers[line.conv].get(line.id, 0)
            if number and number < highest:
                self.blame("reorder", user, line.id, f"number {number} seen after {highest} ({holder})")
            if number > highest:
                highest, holder = number, line.id

    def _numbered_holes(self, user: str, conv: str, lines: list[Line], numbers: dict[str, dict[str, int]]) -> None:
        for stay in self._stays(conv).get(user, ()):
            self._holes_of_a_stay(user, lines, numbers[conv], stay)

    def _holes_of_a_stay(self, user: str, lines: list[Line], of_id: dict[str, int], stay: Stay) -> None:
        seen = {line.id for line in lines}
        have = [of_id[one] for one in seen if one in of_id and stay.surely_has(self.sent[one])]
        if not have:
            return
        low, high = min(have), max(have)
        for message_id, number in of_id.items():
            own = self.sent[message_id].user == user
            if low < number < high and message_id not in seen and not own:
                self.blame("hole", user, message_id, f"number {number} missing between {low} and {high}")

    def _whole_numbers(self, numbers: dict[str, dict[str, int]]) -> None:
        """Numbers nobody was told must have a message whose number nobody was told."""
        unnumbered = Counter(sent.conv for sent in self.sent.values() if not sent.seq and not sent.ok_at)
        told_without = {sent.conv for sent in self.sent.values() if sent.ok_at and not sent.seq}
        for conv, of_id in numbers.items():
            if not of_id or conv in told_without:
                continue
            missing = max(of_id.values()) - min(of_id.values()) + 1 - len(set(of_id.values()))
            if missing > unnumbered[conv]:
                self.blame("hole", conv, "", f"{missing} numbers were never given, {unnumbered[conv]} outcomes unknown")

    def _agree(self, conv: str, views: dict[str, list[str]]) -> None:
        for (one, first), (other, second) in itertools.permutations(views.items(), 2):
            in_second = set(second)
            common = [message_id for message_id in first if message_id in in_second]
            if not common:
                continue
            if one < other:
                place = {message_id: index for index, message_id in enumerate(second)}
                for earlier, later in itertools.pairwise(common):
                    if place[earlier] > place[later]:
                        self.blame("divergent", other, later, f"before {earlier}, {one} has it after")
                        break
            self._holes_between(conv, one, first, other, in_second, common)

    def _holes_between(
        self, conv: str, one: str, first: list[str], other: str, in_second: set[str], common: list[str]
    ) -> None:
        start, end = first.index(common[0]), len(first) - 1 - first[::-1].index(common[-1])
        for message_id in first[start:end]:
            if message_id not in in_second and self.sent[message_id].user != other and other in self._audience(conv):
                self.blame("hole", other, message_id, f"{one} saw it between messages {other} saw")

    def _arrived(self, first_of: dict[tuple[str, str], Line]) -> None:
        present = defaultdict(list)
        for number, connection in self.connections.items():
            present[connection.user].append((number, connection))
        for sent in self.sent.values():
            if not sent.ok_at:
                continue
            for user in self._owed(sent) - {sent.user}:
                line = first_of.get((user, sent.id))
                self.counts["expected"] += 1
                if line is None:
                    self.blame("lost", user, sent.id, f"acknowledged to {sent.user}, never seen")
                elif self.stale_ns is not None and self._late(sent, line, present[user]):
                    self.blame(
                        "stale", user, sent.id, f"seen {(line.at - sent.ok_at) / 1e9:.2f} s after its acknowledgement"
                    )

    def _owed(self, sent: Sent) -> set[str]:
        """Those who have left since need not have been given it in time."""
        return {
            user
            for user, stays in self._stays(sent.conv).items()
            if any(stay.surely_has(sent) and stay.leaving_at == FOREVER for stay in stays)
        }

    def _late(self, sent: Sent, line: Line, present: list[tuple[int, Connection]]) -> bool:
        assert self.stale_ns is not None
        for _, connection in present:
            there_at = connection.login_at and max(sent.ok_at, connection.login_at)
            if not there_at or line.at - there_at <= self.stale_ns:
                continue
            if not connection.close_at or connection.close_at - there_at > self.stale_ns:
                return True
        return False


def judge(lines: Iterable[Line], *, stale_s: float | None = None) -> Verdict:
    """`lines` in order of time. stale_s: how long a message may take to a recipient who is there; None = any time.

    O(n) in the messages, but O(members squared) in a conversation."""
    case = Judge(None if stale_s is None else int(stale_s * 1e9))
    case.read(lines)
    return case.judge()
