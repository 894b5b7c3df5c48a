"""Checking a whole store: whether its file or its tables are sound, and whether the rules about its rows hold.

Owns: the steps, and the result.
Elsewhere: the twins (store.sqlite.check, store.mysql.check), the rules (store.sql.rules), the command
(chatctl.maintenance).
Fails: what the twin raises passes through. Nothing is ever written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from chatd.store.sql.rules import Rule
from chatd.store.versions import FILLING

EXAMPLES = 5
MOST = 1000
"""Rows that break a rule are counted up to here."""
COUNTED = ("user", "team", "message")
"""Tables whose size is shown."""

Watch = Callable[[str, int, int], None]
"""As store.copy.OnProgress."""


class StoreCheck(Protocol):
    """One store, open to be checked, as it was at one moment after begin(). newest: the schema that this program
    knows."""

    name: str
    newest: int

    @property
    def rules(self) -> Sequence[Rule]: ...

    def version(self) -> int:
        """Of the schema; 0 = there are no tables."""
        ...

    def damages(self) -> list[str]:
        """Before begin(). What the database finds wrong with its own file or tables."""
        ...

    def begin(self) -> None: ...

    def broken(self, rule: Rule, most: int) -> list[tuple[object, ...]]: ...

    def note(self, key: str) -> str: ...

    def count(self, table: str) -> int: ...


class Finding(NamedTuple):
    """A rule, and what breaks it. rows: how many, MOST = at least so many; 0 = it holds."""

    meaning: str
    rows: int
    examples: Sequence[tuple[object, ...]]


class CheckResult(NamedTuple):
    """schema: version of the store's. damages: of the file or the tables; then the rules were not looked at. filling: a
    copy or an import that has not ended; "" = none. findings: one per rule. counts: rows of COUNTED."""

    name: str
    schema: int
    newest: int
    damages: Sequence[str]
    filling: str
    findings: Sequence[Finding]
    counts: dict[str, int]

    @property
    def sound(self) -> bool:
        broken = any(finding.rows for finding in self.findings)
        return not (self.damages or broken or self.filling) and 0 < self.schema <= self.newest


def check(store: StoreCheck, watch: Watch) -> CheckResult:
    """Cost: the store is read several times. A store of another schema is only looked at page by page."""
    steps = len(store.rules) + 1
    watch("verify", 0, steps)
    damages = store.damages()
    watch("verify", 1, steps)
    version = 0 if damages else store.version()
    findings: list[Finding] = []
    filling, counts = "", dict[str, int]()
    if version == store.newest:
        store.begin()
        filling = store.note(FILLING)
        for rule in store.rules:
            broken = store.broken(rule, MOST)
            findings.append(Finding(rule.meaning, len(broken), broken[:EXAMPLES]))
            watch("verify", 1, steps)
        counts = {table: store.count(table) for table in COUNTED}
    return CheckResult(store.name, version, store.newest, damages, filling, findings, counts)
