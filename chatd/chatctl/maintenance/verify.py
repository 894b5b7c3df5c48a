"""`chatctl verify`: whether a store, or a backup of one, is sound.

Owns: which store is meant, and what is printed.
Elsewhere: the checks (store.check).
Fails: exit code 1 when something is wrong; BootError when the store cannot be read. Nothing is written.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from chatd.chatctl.progress import Progress
from chatd.config.schema import Config
from chatd.errors import BootError, Exit
from chatd.store.check import MOST, CheckResult, check
from chatd.store.open import StoreLocation, configured, open_check

NOT_SOUND = 1


def run(config: Config, file: Path | None, *, as_json: bool) -> int:
    """file: a backup; None = the configured store. Raises: BootError."""
    result = examine(configured(config) if file is None else StoreLocation(path=file))
    if as_json:
        findings = [finding._asdict() for finding in result.findings]
        shown = {"v": 1, "sound": result.sound, **result._asdict(), "findings": findings}
        print(msgspec.json.encode(shown, enc_hook=str).decode())
    else:
        print("\n".join(lines(result)))
    return Exit.OK if result.sound else NOT_SOUND


def examine(location: StoreLocation) -> CheckResult:
    """Raises: BootError."""
    try:
        with open_check(location) as store, Progress("verify") as progress:
            return check(store, progress.watch)
    except sqlite3.Error as error:
        raise BootError(f"store {location}: {error}", Exit.UNAVAILABLE) from None
    except KeyboardInterrupt:
        raise BootError("interrupted", Exit.TRY_AGAIN) from None


def lines(result: CheckResult) -> list[str]:
    """The result, as a terminal shows it."""
    found = [f"store: {result.name}, schema {result.schema}"]
    if result.damages:
        found[0] = f"store: {result.name}"
        found += [f"DAMAGED: {one}" for one in result.damages]
        return [*found, "restore a backup (chatctl restore FILE); what is in this file may be lost"]
    if result.schema > result.newest:
        return [*found, f"NOT KNOWN: this chatctl knows schema {result.newest}; use a newer one"]
    if result.schema < result.newest:
        return [*found, f"the pages are sound; chatctl migrate brings it to schema {result.newest}"]
    if result.filling:
        found.append(f"NOT COMPLETE: {result.filling} has not ended")
    for finding in result.findings:
        if finding.rows:
            how_many = f"{finding.rows} or more" if finding.rows >= MOST else str(finding.rows)
            found.append(f"WRONG: {finding.meaning}: not true of {how_many}")
            found += [f"    {one}" for one in finding.examples]
    counts = ", ".join(f"{count} {table}s" for table, count in result.counts.items())
    if result.sound:
        found.append(f"sound: {counts}; {len(result.findings)} rules hold")
    return found
