"""The records of traced messages in the log files.

Owns: reading every file of a log, rotated and compressed ones too, and finding the records that belong to a message
or a user.
Elsewhere: writing the records (core.tracing), showing them (chatctl.show.trace).
Fails: BootError for a file that cannot be read. Lines that are not records of tracing are passed over.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from chatd.errors import BootError, Exit

MARK = b'"trace":"'
"""Only lines that contain this are looked at."""
LOG = "normal.log"
MOST_RECORDS = 100_000
"""Records kept at once: the youngest."""


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """One record. trace: the step. Fields that a step does not have are empty. file: where it was found."""

    time: str
    trace: str
    pid: int = 0
    worker: int | str | None = None
    message: str = ""
    fp: str = ""
    sender: int = 0
    to: int | str = ""
    group: int = 0
    user: int = 0
    wire: str = ""
    peer: str = ""
    reason: str = ""
    repeated: bool = False
    file: str = ""


_decode = msgspec.json.Decoder(Traced).decode


def files_of(log_dir: str) -> list[Path]:
    """normal.log and its rotated files, the oldest first."""
    found = [path for path in Path(log_dir).glob(f"{LOG}*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def read(files: Iterable[Path | str]) -> list[Traced]:
    """All records of tracing, in the order of their times; at most MOST_RECORDS, the youngest. "-" is standard input.
    Raises: BootError, naming the file that cannot be read."""
    found: list[Traced] = []
    for file in files:
        found += _records(file)
        if len(found) > 2 * MOST_RECORDS:
            found = _youngest(found)
    return _youngest(found)


def _youngest(records: list[Traced]) -> list[Traced]:
    return sorted(records, key=lambda one: one.time)[-MOST_RECORDS:]


def _records(file: Path | str) -> Iterator[Traced]:
    for line in _lines(file):
        if MARK not in line:
            continue
        try:
            record = _decode(line[line.index(b"{") :])  # journalctl may put something before it
        except (ValueError, msgspec.DecodeError):
            continue
        yield msgspec.structs.replace(record, file=str(file))


def _lines(file: Path | str) -> Iterator[bytes]:
    if file == "-":
        yield from sys.stdin.buffer
        return
    path = Path(file)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            yield from lines
    except EOFError:  # a compressed file that is still being written
        return
    except (OSError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise BootError(f"cannot read {file}: {why or error}", Exit.UNAVAILABLE) from None


def of_message(records: list[Traced], what: str) -> list[Traced]:
    """The records of the message with this id (CONVERSATION.SEQ) or fp."""
    return _of_same_messages(records, [one for one in records if what in (one.message, one.fp)])


def of_user(records: list[Traced], user_ids: set[int]) -> list[Traced]:
    """The records of every message that one of these users sent or was given."""
    about = [one for one in records if {one.sender, one.user} & user_ids or one.to in user_ids]
    return _of_same_messages(records, about)


def _of_same_messages(records: list[Traced], some: list[Traced]) -> list[Traced]:
    """Before it is stored, a message is known by its sender and fp alone."""
    messages = {one.message for one in some if one.message}
    known = [*some, *(one for one in records if one.message in messages)]
    keys = {(one.sender, one.fp) for one in known if one.fp}
    messages |= {one.message for one in records if one.message and (one.sender, one.fp) in keys}
    return [one for one in records if one.message in messages or (one.sender, one.fp) in keys]
