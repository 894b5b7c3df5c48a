"""The end of the log, on the operator's page.

Owns: reading the last records, and those after a position, with a filter.
Elsewhere: the log (log), its rotation (master.rotation).
Fails: Refused NOT_ALLOWED if the log is not in files; BUSY if the records are not in memory now.

Only the page cache is read, at most PART_BYTES at a time: a disk that stalls holds nobody up.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chatd import safe_files
from chatd.errors import ErrorCode, Refused
from chatd.http.admin.requests import READ, AdminCall, route
from chatd.http.problems import HttpRefused
from chatd.log import FILES, LEVELS

PART_BYTES = 128 * 1024
MOST_LINES = 500
_POSITION = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)
_IN_STANDARD_ERROR = "the log goes to standard error (server.log_dir): look there, or with journalctl"


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """after: a position, as an answer gave it; "" = the last records. file: of log.FILES. level: at least this one.
    text: in the record, ignoring case. user: the name or the id of an account."""

    after: Annotated[str, Meta(max_length=64)] = ""
    file: Annotated[str, Meta(max_length=32)] = FILES[0]
    level: Annotated[str, Meta(max_length=16)] = ""
    text: Annotated[str, Meta(max_length=200)] = ""
    user: Annotated[str, Meta(max_length=64)] = ""
    lines: Annotated[int, Meta(ge=1, le=MOST_LINES)] = 200


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """lines: records as they are in the file. after: the position behind them. skipped: there was more than is read at
    once, so some were passed over."""

    lines: list[dict[str, Any]]
    after: str
    skipped: bool


async def tail(call: AdminCall, _: object, wanted: Wanted) -> Tail:
    """Raises HttpRefused, Refused."""
    if wanted.file not in FILES:
        raise HttpRefused(ErrorCode.BAD_FIELD, f"there are {' and '.join(FILES)}", field="file")
    if wanted.level and wanted.level not in LEVELS:
        raise HttpRefused(ErrorCode.BAD_FIELD, f"the levels are {', '.join(LEVELS)}", field="level")
    log_dir = call.connection.connections.config().server.log_dir
    if log_dir == "-":
        raise Refused(ErrorCode.NOT_ALLOWED, _IN_STANDARD_ERROR)
    try:
        descriptor = safe_files.open_file(Path(log_dir, wanted.file), os.O_RDONLY)
    except FileNotFoundError:
        return Tail(lines=[], after="", skipped=False)
    try:
        return _read(descriptor, wanted)
    finally:
        os.close(descriptor)


def _read(descriptor: int, wanted: Wanted) -> Tail:
    """Raises Refused."""
    status = os.fstat(descriptor)
    size, begin = status.st_size, 0
    given = _POSITION.fullmatch(wanted.after)
    if given is not None and int(given[1]) == status.st_ino and int(given[2]) <= size:
        begin = int(given[2])
    is_first = not wanted.after
    start = max(begin, size - PART_BYTES)
    data = _cached(descriptor, start, size - start)
    end = data.rfind(b"\n") + 1
    first = data.find(b"\n", 0, end) + 1 if start > begin else 0
    lines = data[first:end].splitlines()
    found = [record for record in map(_record, lines) if _matches(record, wanted)]
    skipped = not is_first and start > begin
    kept = found[-wanted.lines :]
    return Tail(lines=kept, after=f"{status.st_ino}-{start + end}", skipped=skipped or len(kept) < len(found))


def _cached(descriptor: int, start: int, count: int) -> bytes:
    """Raises Refused BUSY."""
    if not count:
        return b""
    buffer = bytearray(count)
    try:
        read = os.preadv(descriptor, [buffer], start, os.RWF_NOWAIT)
    except BlockingIOError:
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, start, count, os.POSIX_FADV_WILLNEED)
        raise Refused(ErrorCode.BUSY) from None
    except OSError:  # a file system that does not know the flag
        return os.pread(descriptor, count, start)
    return bytes(buffer[:read])


def _record(line: bytes) -> dict[str, Any]:
    """A line that is no JSON becomes a record whose event is the line."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        record = msgspec.json.decode(line)
        if isinstance(record, dict):
            return record
    return {"event": line.decode("utf-8", "replace")}


def _matches(record: dict[str, Any], wanted: Wanted) -> bool:
    if wanted.level and LEVELS.get(str(record.get("level")), 0) < LEVELS[wanted.level]:
        return False
    if wanted.user:
        named = {str(record.get(field, "")).casefold() for field in ("user", "name", "administrator")}
        if wanted.user.casefold() not in named:
            return False
    return not wanted.text or wanted.text.casefold() in str(record).casefold()


ROUTES = (route("GET", "log", READ, tail, Wanted, Tail, "The end of the log."),)
