"""The report of an import: how much was imported, what had to be changed, what was left out and why.

Owns: the counts, some examples of each rule, the file of rows that were left out.
Elsewhere: the rules themselves (importer.accounts, importer.groups, importer.offline_messages).
Fails: BootError 73 when the file cannot be created. Passwords are never written to it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from chatd.errors import BootError, Exit

EXAMPLES = 5
"""Examples shown for each rule."""
NAMES = 1000
"""The same for rules about accounts: whoever has another name now must be told."""


class ImportReport:
    """Counts by rule. A run that continues an interrupted one applies the rules to every row again, so its report is
    complete."""

    def __init__(self, file: Path | None) -> None:
        """file: where rows that are left out are kept, one JSON object per line, readable by the owner only. Each run
        overwrites it. None: they are not kept."""
        self.file = file
        self.imported: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._out: TextIOWrapper | None = None

    def change(self, rule: str, example: str, count: int = 1) -> None:
        """Something was imported in a changed form."""
        self.changed[rule] += count
        self._exemplify(rule, example)

    def keep(self, rule: str, example: str) -> None:
        """Something was imported as it is, although it would not be accepted from a client."""
        self.kept[rule] += 1
        self._exemplify(rule, example)

    def _exemplify(self, rule: str, example: str) -> None:
        examples = self._examples.setdefault(rule, [])
        if len(examples) < (NAMES if rule.startswith("user:") else EXAMPLES):
            examples.append(example)

    def reject(self, table: str, rule: str, row: dict[str, int | str | None]) -> None:
        """A row, or a text in it, was not imported."""
        self.rejected[f"{table}: {rule}"] += 1
        if self.file is None:
            return
        if self._out is None:
            self._out = self._open(self.file)
        self._out.write(json.dumps({"table": table, "why": rule, **row}, ensure_ascii=False) + "\n")

    def _open(self, file: Path) -> TextIOWrapper:
        try:
            file.unlink(missing_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BootError(f"cannot create {file}: {error.strerror}", Exit.CANNOT_CREATE) from None
        return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")

    def close(self) -> None:
        """The file is on disk when this returns."""
        if self._out is not None:
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()
            self._out = None

    def lines(self) -> Iterator[str]:
        yield "imported: " + ", ".join(f"{count} {what}" for what, count in self.imported.items())
        yield from self._with_examples("changed", self.changed)
        yield from self._with_examples("kept", self.kept)
        for rule, count in self.rejected.items():
            yield f"left out: {rule}: {count}"
        if self.rejected and self.file is not None:
            yield f"the rows that were left out are in {self.file}"

    def _with_examples(self, verb: str, counts: Counter[str]) -> Iterator[str]:
        for rule, count in counts.items():
            yield f"{verb}: {rule}: {count}"
            yield from (f"    {example}" for example in self._examples[rule])
            if count > len(self._examples[rule]):
                yield "    …"
