"""`chatctl import-chatserver`: taking over from the legacy chat server, and undoing it.

Owns: whether the legacy server still runs, which character set is right, what is done when the store was imported
before, undoing, and what is printed.
Elsewhere: the legacy tables and the rules (importer), work on a whole store (chatctl.stores), the command line
(chatctl.__main__).
Fails: BootError with the exit code, one line; the store is then as it was, or the same command continues.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chatd import wall_clock
from chatd.chatctl.asking import answer
from chatd.chatctl.control_client import note
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import at, duration, table
from chatd.chatctl.stores import failures_in_one_line, no_server
from chatd.config.schema import Config
from chatd.core.passwords import Hasher
from chatd.errors import BootError, Exit
from chatd.importer import charset as charsets
from chatd.importer import traces
from chatd.importer.report import ImportReport
from chatd.store.copy import StoreDump
from chatd.store.open import StoreLocation, configured, mysql_address, needing_mysqlclient, open_dump

if TYPE_CHECKING:
    from chatd.importer.legacy import LegacyDatabase

AUTO = "auto"
REJECTED = "import-chatserver.rejected.jsonl"
PROBE_S = 2.0
"""How long the port of the legacy server is waited for."""
LINGER_S = 2.0
"""How long a connection that was just closed may still be listed by the database server."""


class LegacyImport(NamedTuple):
    """What the operator has asked for. url: the legacy database. charset: AUTO = guess it. rejected: where rows that
    are left out are kept; "" = in the state directory. old_servers: HOST:PORT of legacy servers that must not answer.
    even_if_running: do not look whether the legacy server runs."""

    url: str
    charset: str = AUTO
    dry_run: bool = False
    rejected: str = ""
    old_servers: Sequence[str] = ()
    even_if_running: bool = False


def import_chatserver(config: Config, asked: LegacyImport) -> int:
    """Raises: BootError."""
    with needing_mysqlclient():
        from chatd.importer.legacy import LegacyDatabase
    location = configured(config)
    file = None if asked.dry_run and not asked.rejected else Path(asked.rejected or _in_state(config)).absolute()
    report = ImportReport(file)
    legacy = LegacyDatabase(
        mysql_address(asked.url),
        charsets.PLAIN,
        lambda where: report.change(f"{where}: a text is not UTF-8; read as {legacy.charset}", where),
    )
    _check_stopped(legacy, asked)
    legacy.charset = _charset(legacy, asked.charset)
    begun = time.monotonic()
    with contextlib.ExitStack() as opened:
        target = None
        if not asked.dry_run:
            opened.enter_context(no_server(config, location.path))
            target = opened.enter_context(contextlib.closing(open_dump(location, create=True)))
            if (before := _imported_before(target, legacy)) is not None:
                return before
            note(f"importing {legacy.name} into {target.name}")
            if blind_spot := target.blind_spot():
                note(blind_spot)
        opened.enter_context(contextlib.closing(report))
        _run(config, legacy, target, report)
    for line in report.lines():
        print(line)
    print(_counted(legacy, report))
    print("passwords: stored as argon2id; the legacy server kept them as plain text, so erase its tables in the end")
    print("nothing was written" if asked.dry_run else f"done in {duration(time.monotonic() - begun)}", flush=True)
    return Exit.OK


def _in_state(config: Config) -> str:
    return str(Path(config.server.state_dir, REJECTED))


def _run(config: Config, legacy: LegacyDatabase, target: StoreDump | None, report: ImportReport) -> None:
    from chatd.importer.run import ImportSettings, run_import

    hasher = Hasher(config.accounts)
    settings = ImportSettings(
        name_chars=config.limits.name_chars,
        hash=hasher.hash_now,
        now_ms=wall_clock.now_ms(),
        reserved_names=config.accounts.reserved_names,
    )
    with failures_in_one_line(), Progress("import-chatserver") as progress:
        run_import(legacy, target, settings, report, progress.watch)


def _counted(legacy: LegacyDatabase, report: ImportReport) -> str:
    """The legacy tables, and what became of their rows."""
    became = {
        "user": ("accounts", report.imported["accounts"]),
        "friend": ("friendships", report.imported["friendships"]),
        "allgroup": ("groups", report.imported["groups"]),
        "groupuser": ("memberships", report.imported["memberships"]),
        "offlinemessage": ("messages", report.imported["messages"]),
    }
    rows = []
    for name, (what, count) in became.items():
        left_out = sum(number for rule, number in report.rejected.items() if rule.startswith(f"{name}:"))
        rows.append([name, str(legacy.count(name)), f"{count} {what}", str(left_out)])
    return table(["LEGACY TABLE", "ROWS", "IMPORTED AS", "LEFT OUT"], rows)


# -------------------------------------------------------------------- the legacy server


def _check_stopped(legacy: LegacyDatabase, asked: LegacyImport) -> None:
    """What it writes after it was read would be missing. Raises: BootError 75."""
    signs = [f"{place} answers" for place in asked.old_servers if _answers(place)]
    until = time.monotonic() + LINGER_S
    while (users := legacy.other_users()) and time.monotonic() < until:
        time.sleep(0.1)
    if users:
        signs.append(f"its database is used by {users}")
    if not signs:
        return
    text = f"the legacy server seems to run: {'; '.join(signs)}"
    if asked.even_if_running or asked.dry_run:
        note(f"{text}. Stop it before the import: what it stores later would be missing")
        return
    raise BootError(f"{text}. Stop the old server first, or add --even-if-running", Exit.TRY_AGAIN)


def _answers(place: str) -> bool:
    """Raises: BootError 64."""
    host, _, port = place.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise BootError(f"{place}: write the address of the old server as HOST:PORT", Exit.USAGE)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_S):
            return True
    except OSError:
        return False


# -------------------------------------------------------------------- the character set


def _charset(legacy: LegacyDatabase, wanted: str) -> str:
    """Raises: BootError 64: it cannot be known."""
    guess = charsets.guess(legacy.sample)
    if wanted == AUTO and guess.charset:
        note(f"character set: {guess.charset}, because {guess.why}")
        _show(guess, [guess.charset])
        return guess.charset
    if wanted != AUTO:
        if guess.charset and guess.charset != wanted:
            note(f"character set: {wanted}, as you say, although {guess.why}; names would look like this:")
            _show(guess, [name for name in (wanted, guess.charset) if name in guess.samples])
        return wanted
    note(f"character set: not certain: {guess.why}. This is how texts look:")
    _show(guess, list(guess.samples))
    chosen = answer(f"Which one is right? [{'/'.join(guess.samples)}]")
    if chosen in guess.samples:
        return chosen
    text = f"say which character set is right: --charset {', or --charset '.join(guess.samples)}"
    raise BootError(f"{text}; nothing was imported", Exit.USAGE)


def _show(guess: charsets.Guess, names: list[str]) -> None:
    for name in names:
        if guess.samples.get(name):
            note(f"  as {name}: {', '.join(guess.samples[name])}")


# -------------------------------------------------------------------- imported before


def _imported_before(target: StoreDump, legacy: LegacyDatabase) -> int | None:
    """The exit code, if there is nothing to do: the same database was imported before. Raises: BootError 73."""
    made = traces.read_note(target)
    if made is None or target.read_note(traces.FILLING):
        return None
    when = at(made.at_ms)
    if made.source != legacy.name:
        text = f"{target.name} was imported from {made.source} at {when}"
        raise BootError(f"{text}: import into an empty store, or undo that first (--undo)", Exit.CANNOT_CREATE)
    print(f"{target.name} was imported from {legacy.name} at {when}; nothing was done")
    for line in _changed_since(target, made):
        print(line)
    return Exit.OK


def _changed_since(target: StoreDump, made: traces.ImportNote) -> list[str]:
    with Progress("import-chatserver") as progress:
        found = traces.changes(target, made, progress.watch)
    return [f"since then: {one.table}: {one.then} rows then, {one.now} now" for one in found] or [
        "since then nothing was changed: it can be undone (--undo) and repeated"
    ]


def undo(config: Config, *, force: bool) -> int:
    """Raises: BootError: 73 if this store was not imported, or is in use by people since."""
    location = configured(config)
    with no_server(config, location.path), failures_in_one_line():
        with contextlib.closing(open_dump(location, create=False)) as target:
            made = traces.read_note(target)
            if made is None:
                raise BootError(f"store {target.name} was not made by import-chatserver", Exit.CANNOT_CREATE)
            with Progress("undo") as progress:
                found = traces.changes(target, made, progress.watch)
            for one in found:
                note(f"{one.table}: {one.then} rows when it was imported, {one.now} now")
            if found and not force:
                text = f"store {target.name} was used since the import of {at(made.at_ms)}; that would be lost"
                raise BootError(f"{text}. Nothing was undone; --force undoes it nevertheless", Exit.CANNOT_CREATE)
            if location.path is None:
                target.clear()
        kept = _put_aside(location)
    print(f"undone: the import from {made.source} of {at(made.at_ms)}" + (f"; it is kept as {kept}" if kept else ""))
    return Exit.OK


def _put_aside(location: StoreLocation) -> str:
    """The file of the store gets another name; the next start, or the next import, makes an empty one."""
    if location.path is None:
        return ""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = location.path.with_name(f"{location.path.name}.imported-{stamp}")
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            location.path.with_name(location.path.name + end).rename(kept.with_name(kept.name + end))
    return str(kept)
