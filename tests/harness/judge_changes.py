"""The rules of messages that change, for the judge (tests.harness.judge).

Owns: the defects of changes, and what each person may have been shown of a message.

* outdated      an earlier text was shown after a later one, or the history has less than was acknowledged
* ghost         a text was shown after its recall was acknowledged
* unauthorised  a change by somebody who did not send the message was acknowledged, or shown
* divergent     two members have different texts of a message in the end, or it has another number than before

A change whose outcome is unknown may have happened or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.harness.journal import Line

GONE = ""
"""The hash of a text that was recalled."""
GHOST_NS = 500_000_000
"""What left the server before the acknowledgement of a recall is shown within this time."""

Blame = Callable[[Literal["outdated", "ghost", "unauthorised", "divergent", "phantom", "stale"], str, str, str], None]
Numbers = Mapping[str, Mapping[str, int]]
"""Per conversation, the number of each message."""


class Original(Protocol):
    """A message as its sender sent it."""

    id: str
    user: str
    conv: str
    hash: str


@dataclass
class Change:
    """As whoever asked for it knows it. hash: of the new text; GONE = recalled."""

    user: str
    hash: str
    at: int
    ok_at: int = 0
    version: int = 0
    refused: bool = False


@dataclass
class Changes:
    blame: Blame
    of: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    """By message."""
    shown: list[Line] = field(default_factory=list)
    """What people were shown, in order of time: messages, and notices of changes."""
    finals: list[Line] = field(default_factory=list)

    # ------------------------------------------------------------ reading

    def asked(self, line: Line) -> None:
        if not any(one.hash == line.hash and one.user == line.user for one in self.of[line.id]):
            self.of[line.id].append(Change(line.user, line.hash, line.at))

    def answered(self, line: Line, *, ok: bool) -> None:
        for one in self.of[line.id]:
            if (one.user, one.hash) == (line.user, line.hash):
                one.refused = not ok
                if ok:
                    one.ok_at, one.version = one.ok_at or line.at, line.version

    # ------------------------------------------------------------ judging

    def is_of(self, sent: Original, line: Line) -> bool:
        """Whether this text is one that the sender gave the message. If it is somebody else's, that is blamed."""
        if line.hash == sent.hash:
            return True
        for one in self.of.get(sent.id, ()):
            if one.hash == line.hash and one.at <= line.at:
                if one.user == sent.user:
                    return True
                self.blame("unauthorised", line.user, sent.id, f"shown as {one.user} wants it")
                return True
        return False

    def judge(self, sent: Mapping[str, Original], numbers: Numbers) -> None:
        by_number = {(conv, number): one for conv, of_id in numbers.items() for one, number in of_id.items()}
        for message_id, changes in self.of.items():
            for one in changes:
                if one.ok_at and message_id in sent and one.user != sent[message_id].user:
                    self.blame("unauthorised", one.user, message_id, "was allowed to change it")
        views: dict[tuple[str, str], list[Line]] = defaultdict(list)
        for line in self.shown:
            message_id = line.id or by_number.get((line.conv, line.seq), "")
            if message_id in sent:
                views[line.user, message_id].append(line)
        for (user, message_id), lines in views.items():
            self._judge_view(user, sent[message_id], lines)
        for line in self.finals:
            message_id = line.id or by_number.get((line.conv, line.seq), "")
            if message_id in sent:
                self._judge_final(sent[message_id], line, numbers[line.conv].get(message_id, 0))
        self._agree(by_number)

    def _judge_view(self, user: str, sent: Original, lines: list[Line]) -> None:
        recalled_at = min((one.ok_at for one in self.of.get(sent.id, ()) if one.hash == GONE and one.ok_at), default=0)
        highest = 0
        for line in lines:
            if line.event == "show" and not self.is_of(sent, line):
                self.blame("phantom", user, sent.id, "a change that nobody asked for")
            if recalled_at and line.hash != GONE and line.at > recalled_at + GHOST_NS:
                late_s = (line.at - recalled_at) / 1e9
                self.blame("ghost", user, sent.id, f"shown {late_s:.2f} s after its recall was acknowledged")
            version = self._version(sent, line)
            if version is not None:
                if version < highest:
                    self.blame("outdated", user, sent.id, f"version {version} shown after {highest}")
                highest = max(highest, version)

    def _version(self, sent: Original, line: Line) -> int | None:
        """None: not known."""
        if line.version:
            return line.version
        if line.hash == sent.hash:
            return 0
        return next((one.version for one in self._acknowledged(sent.id) if one.hash == line.hash), None)

    def _acknowledged(self, message_id: str) -> Iterator[Change]:
        return (one for one in self.of.get(message_id, ()) if one.ok_at)

    def _judge_final(self, sent: Original, line: Line, number: int) -> None:
        if number and number != line.seq:
            self.blame("divergent", line.user, sent.id, f"has number {line.seq} in the end, and had {number}")
        if not self.is_of(sent, line):
            self.blame("phantom", line.user, sent.id, "a text in the history that nobody sent")
        last = max(self._acknowledged(sent.id), key=lambda one: one.version, default=None)
        if last is None:
            return
        if line.version < last.version:
            self.blame("outdated", line.user, sent.id, f"version {line.version}, acknowledged was {last.version}")
        elif line.version == last.version and line.hash != last.hash:
            self.blame("divergent", line.user, sent.id, f"version {line.version} is not what was acknowledged")

    def _agree(self, by_number: Mapping[tuple[str, int], str]) -> None:
        of_place: dict[tuple[str, int], Line] = {}
        for line in self.finals:
            first = of_place.setdefault((line.conv, line.seq), line)
            if (first.hash, first.version) != (line.hash, line.version):
                message_id = line.id or by_number.get((line.conv, line.seq), "")
                self.blame("divergent", line.user, message_id, f"{first.user} has another text in the end")
