"""The table of penalties beside a dictionary, while records are added, changed, replaced and removed at random."""

from __future__ import annotations

import random

from chatd.penalty_table import NEVER, SUBJECT_BYTES, WAYS, Key, Kind, PenaltyTable, Record

SUBJECTS = [
    "127.0.0.1",
    "2001:db8::/64",
    "2001:db8::/48",
    "7",
    "alice",
    "",
    "é😀",
    "\ud800",
    "x" * 80,
    "日" * 30,
    "a b",
    "\0",
]
FADED_MS = 600_000


def harm(record: Record, at_ms: int) -> tuple[int, float]:
    """The lowest is replaced first, when there is no room."""
    idle_ms = at_ms - max(record.offended_ms, record.until_ms)
    return max(0, record.until_ms - at_ms), record.offences - idle_ms / FADED_MS


class Comparison:
    """A table of one set, and what must be in it."""

    def __init__(self, table: PenaltyTable, rng: random.Random) -> None:
        self.table, self.rng = table, rng
        self.model: dict[Key, Record] = {}
        self.at_ms = 1_000_000
        self.replaced = 0

    def key(self) -> Key:
        if self.model and self.rng.random() < 0.5:
            return self.rng.choice([*self.model])
        return Key(self.rng.choice([*Kind]), f"{self.rng.choice(SUBJECTS)}{self.rng.randrange(40)}")

    def record(self) -> Record:
        ago_ms = self.rng.choice([0, 1, 5_000, FADED_MS, 5 * FADED_MS])
        penalty_ms = self.rng.choice([0, 0, 1, 900_000])
        return Record(
            offences=self.rng.choice([0.001, 1.0, 2.5, 21.0, 4_000_000.0]),
            offended_ms=self.at_ms - ago_ms,
            since_ms=self.at_ms - ago_ms,
            until_ms=self.at_ms + penalty_ms if penalty_ms else 0,
        )

    def update(self) -> None:
        key, after = self.key(), self.record()
        known = self.model.get(key, NEVER)
        assert self.table.update(key, lambda before: after, self.at_ms) == (known, after)
        if key not in self.model and len(self.model) == WAYS:
            (gone,) = [one for one in self.model if self.table.read(one) == NEVER]
            assert harm(self.model[gone], self.at_ms) == min(harm(one, self.at_ms) for one in self.model.values())
            del self.model[gone]
            self.replaced += 1
        self.model[key] = after

    def leave_alone(self) -> None:
        """A change that changes nothing adds no record."""
        key = self.key()
        known = self.model.get(key, NEVER)
        assert self.table.update(key, lambda before: before, self.at_ms) == (known, known)

    def remove(self) -> None:
        key = self.key()
        assert self.table.remove(key) == (self.model.pop(key, None) is not None)

    def clear(self) -> None:
        assert self.table.clear() == len(self.model)
        self.model.clear()

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self.at_ms += self.rng.choice([0, 1, 60_000])
            choices = [self.update, self.leave_alone, self.remove, self.clear]
            self.rng.choices(choices, [80, 10, 10, 0.3])[0]()
        self.check()

    def check(self) -> None:
        assert {key: self.table.read(key) for key in self.model} == self.model
        listed = list(self.table.all())
        assert sorted(one.record for one in listed) == sorted(self.model.values())
        assert sorted(one.kind for one in listed) == sorted(key.kind for key in self.model)
        for one in listed:
            assert len(one.subject.encode()) <= SUBJECT_BYTES
