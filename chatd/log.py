"""The log: records of what happened, for people and programs that operate the server.

Owns: levels, the form of a record, the two files (or standard error), dropping records that cannot be written, and
which records are held back when they repeat. One record is one write(2) of at most RECORD_BYTES to an O_APPEND
descriptor of this process, so records of different processes never mix. A text of a stranger cannot break a record,
begin another one, or reach a terminal as anything but printable characters.
Elsewhere: counting repetitions (repeats); rotation, which only the master does (master.rotation). It counts up
`log_generation`, and every process opens the files again before its next record.
Fails: never. A record that cannot be written is dropped and counted in Row.log_dropped.

A process has one log: the sink below is the only module state in chatd. Message bodies, passwords and tokens are never
passed to it. Any thread may log.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chatd import safe_files
from chatd.config.schema import LogOptions
from chatd.plain_structlog import structlog
from chatd.repeats import WINDOW_S, Limits, Repeats
from chatd.scoreboard import Row
from chatd.sources import address_of

LEVELS = {"DEBUG": 10, "NORMAL": 20, "WARNING": 30, "ERROR": 40, "FATAL": 50}
RECORD_BYTES = 16 * 1024
FILES = ("normal.log", "error.log")
FILE_MODE = 0o640

ERROR_LIMITS = Limits(per_source=5, per_key=5)
"""Of errors with the same text."""
CLIENT_LIMITS = Limits(per_source=5, per_key=100)
"""Of records of level NORMAL or WARNING that a client causes: those with a field `source` or `peer`. One client is one
address, and one user if the record has a field `user`."""


PRIORITIES = {10: 7, 20: 6, 30: 4, 40: 3, 50: 2}
"""The syslog priority of each level, as syslog(3) and systemd number them."""


class Hold(NamedTuple):
    """How a record is held back, in place of the rule for its level. source: who causes it."""

    limits: Limits
    source: str


class _Sink:
    """The destination of records, as of the last setup()."""

    def __init__(self) -> None:
        self.threshold = LEVELS["NORMAL"]
        self.worker: int | str | None = None
        """Slot of the worker, or "master"."""
        self.text = True
        """Records are written as text, not as JSON."""
        self.folder: Path | None = None
        """None = standard error."""
        self.descriptors = [2, 2]
        """Of normal.log and error.log, as in FILES."""
        self.torn = [False, False]
        """The last record of the file was cut off by a full disk."""
        self.generation = 0
        """Rotations when the files were opened."""
        self.row: Row | None = None
        """This process's row, in which errors and dropped records are counted."""
        self.master_row: Row | None = None
        """Whose log_generation counts the rotations."""
        self.lock = threading.Lock()
        """A thread lock: plug-ins and the store thread log as well."""
        self.repeats = Repeats()
        self.to_journal = False
        """Each line begins with its syslog priority."""

    def write(self, level: int, record: bytes) -> None:
        """One record, newline included. A record cut off by a full disk is ended before the next one."""
        which = 1 if level >= LEVELS["ERROR"] else 0
        if self.to_journal:
            record = with_priority(level, record)
        with self.lock:
            if self.master_row is not None and self.master_row.log_generation != self.generation:
                self.open()
            if self.torn[which]:
                record = b"\n" + record
            try:
                written = os.write(self.descriptors[which], record)
            except OSError:
                self.drop()
                return
            if written and (self.torn[which] or written < len(record)):
                self.torn[which] = written < len(record)
                if self.torn[which]:
                    self.drop()

    def drop(self) -> None:
        """Count a record that is lost."""
        if self.row is not None:
            self.row.log_dropped += 1

    def open(self) -> None:
        """Open the files by name. Where that fails, the open ones stay in use."""
        if self.master_row is not None:
            self.generation = self.master_row.log_generation
        if self.folder is None:
            return
        for index, name in enumerate(FILES):
            try:
                opened = safe_files.open_file(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
            except OSError:
                self.drop()
                continue
            if self.descriptors[index] > 2:
                os.close(self.descriptors[index])
            self.descriptors[index] = opened

    def close(self) -> None:
        for index, descriptor in enumerate(self.descriptors):
            if descriptor > 2:
                os.close(descriptor)
            self.descriptors[index] = 2


_sink = _Sink()


class Logger(structlog.BoundLoggerBase):
    """Made by get(). Each method takes the event as a fixed text, which can be grepped in the source, and what varies
    as fields. exc_info: an exception whose traceback is logged. hold: a Hold, which is not logged; `hold=None` for a
    record that is never held back."""

    def debug(self, event: str, **fields: Any) -> None:
        if _sink.threshold <= 10:
            self._proxy_to_logger("DEBUG", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Level NORMAL."""
        if _sink.threshold <= 20:
            self._proxy_to_logger("NORMAL", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        if _sink.threshold <= 30:
            self._proxy_to_logger("WARNING", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        if _sink.threshold <= 40:
            self._proxy_to_logger("ERROR", event, **fields)

    def trace(self, event: str, **fields: Any) -> None:
        """Level NORMAL, written whatever the level is, and never held back: somebody has asked for these records."""
        self._proxy_to_logger("NORMAL", event, hold=None, **fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Level FATAL: the process ends."""
        self._proxy_to_logger("FATAL", event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the exception being handled."""
        fields.setdefault("exception", traceback.format_exc())
        self.error(event, **fields)


class _Output:
    """Called by structlog with the finished record: one method per level."""

    def DEBUG(self, record: bytes) -> None:
        _sink.write(10, record)

    def NORMAL(self, record: bytes) -> None:
        _sink.write(20, record)

    def WARNING(self, record: bytes) -> None:
        _sink.write(30, record)

    def ERROR(self, record: bytes) -> None:
        _sink.write(40, record)

    def FATAL(self, record: bytes) -> None:
        _sink.write(50, record)


Fields = MutableMapping[str, Any]
_NEEDS_QUOTES = re.compile(r"""^$|^["']|[ =]""")
"""A value like this could be taken for something else in the text form."""


def _count_and_hold_back(_logger: Any, level: str, fields: Fields) -> Fields:
    row = _sink.row
    if row is not None and LEVELS[level] >= LEVELS["ERROR"]:
        row.errors += 1
    hold = fields.pop("hold") if "hold" in fields else _hold_of(level, fields)
    if hold is None or _sink.repeats.admit(str(fields.get("event")), hold.source, hold.limits, time.monotonic()):
        return fields
    if row is not None:
        row.log_held_back += 1
    raise structlog.DropEvent


def _hold_of(level: str, fields: Fields) -> Hold | None:
    """The rule for a record that names none."""
    if level == "ERROR":
        return Hold(ERROR_LIMITS, "")
    if level in ("NORMAL", "WARNING") and ("peer" in fields or "source" in fields):
        address = fields.get("source") or address_of(str(fields.get("peer", "")))
        return Hold(CLIENT_LIMITS, client_key(address, fields.get("user", 0)))
    return None


def client_key(address: str, user: object) -> str:
    """A client as a source of repeated records."""
    return f"{address} user {user}" if user else address


def _render(_logger: Any, level: str, fields: Fields) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = str(fields.pop("event"))
    error = fields.pop("exc_info", None)
    if isinstance(error, BaseException):
        fields.setdefault("exception", "".join(traceback.format_exception(error)))
    if _sink.text:
        return _text(level, now, event, fields)
    record: dict[str, Any] = {"time": now, "level": level, "pid": os.getpid(), "worker": _sink.worker, "event": event}
    record.update((key if key not in record else f"{key}_", value) for key, value in fields.items())
    return _encode(record)


def _encode(record: dict[str, Any]) -> bytes:
    try:
        line = _json_line(record)
    except (TypeError, ValueError, OverflowError, RecursionError):  # a lone surrogate, a huge number, a cycle
        record = {key: _plain(value) for key, value in record.items()}
        line = _json_line(record)
    longest = RECORD_BYTES // 2
    while len(line) > RECORD_BYTES and longest > 8:
        record = {key: _cut(value, longest) for key, value in record.items()}
        line = _json_line(record)
        longest //= 2
    if len(line) > RECORD_BYTES:  # thousands of fields
        keep = ("time", "level", "pid", "worker", "event")
        line = _json_line({key: record[key] for key in keep} | {"cut": "fields left out"})
    return line


def _json_line(record: dict[str, Any]) -> bytes:
    return _escaped(msgspec.json.encode(record, enc_hook=repr)) + b"\n"


def _escaped(json: bytes) -> bytes:
    """JSON in which characters that are not printable are escaped as well: C1 controls, which some terminals obey,
    marks that change the direction of text, and separators of lines."""
    if json.isascii() and b"\x7f" not in json:
        return json
    text = json.decode()
    return text.encode() if text.isprintable() else "".join(map(_json_escape, text)).encode()


def _json_escape(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()


def _cut(value: Any, longest: int) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=repr).decode()
    return text if len(text) <= longest else f"{text[:longest]}…[{len(text) - longest} characters cut]"


def _text(level: str, now: str, event: str, fields: Fields) -> bytes:
    """[LEVEL][time][pid] event key=value. A traceback follows on indented lines, so that only a record begins with
    "[" in the first column."""
    trace = str(fields.pop("exception", "")).rstrip("\n")
    line = f"[{level}][{now}][{os.getpid()}] " + " ".join(
        [_printable(event), *(f"{key}={_shown(value)}" for key, value in fields.items())]
    )
    lines = [line, *(f"    {_printable(one)}" for one in trace.split("\n") if trace)]
    data = "\n".join(lines).encode()
    if len(data) >= RECORD_BYTES:
        data = data[: RECORD_BYTES - 16].decode("utf-8", "ignore").encode() + "…[cut]".encode()
    return data + b"\n"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _shown(value: Any) -> str:
    """As it is, if it can be taken for nothing else; or else quoted as Python quotes a string."""
    text = str(value)
    return text if text.isprintable() and not _NEEDS_QUOTES.search(text) else repr(text)


class _FromLibraries(logging.Handler):
    """Turns records that libraries (mostly asyncio) send to `logging` into records of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"library": record.name, "text": record.getMessage()}
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        event = f"{record.name}: {record.msg}"
        (get().error if record.levelno >= logging.ERROR else get().warning)(event, **fields)


def setup(
    config: LogOptions,
    log_dir: str,
    row: Row | None = None,
    master_row: Row | None = None,
    worker: int | str | None = None,
) -> None:
    """Send this process's records to the destination in `config`. Called again after a fork, with the worker's row.

    log_dir: "-" = standard error. Raises: OSError when the files cannot be opened; then nothing has changed.
    """
    if log_dir != "-":
        for name in FILES:
            os.close(safe_files.open_file(Path(log_dir, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE))
    _sink.close()
    _sink.lock = threading.Lock()
    _sink.repeats = Repeats()
    _sink.torn = [False, False]
    _sink.row, _sink.master_row, _sink.worker = row, master_row, worker
    _sink.folder = None if log_dir == "-" else Path(log_dir)
    _sink.to_journal = _sink.folder is None and is_journal(os.environ)
    on_terminal = _sink.folder is None and sys.stderr.isatty()
    _sink.text = _sink.folder is None and (config.format == "text" or (config.format == "auto" and on_terminal))
    set_level(config.level)
    _sink.open()
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)


def is_journal(environment: Mapping[str, str]) -> bool:
    """Whether standard error is the journal of systemd: JOURNAL_STREAM in the environment names its device and inode
    (systemd.exec(5)). Not a terminal or a file that it was redirected to since."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def with_priority(level: int, record: bytes) -> bytes:
    """One or more whole lines, each with its priority as sd-daemon(3) has it. level: a value of LEVELS."""
    mark = b"<%d>" % PRIORITIES[level]
    return mark + record[:-1].replace(b"\n", b"\n" + mark) + b"\n"


def set_level(level: str) -> None:
    """level: one of LEVELS. Records below it cost well under a microsecond."""
    _sink.threshold = LEVELS[level]


def reopen() -> None:
    """Open the files by name again, because they have been moved."""
    with _sink.lock:
        _sink.open()


def tick() -> None:
    """Log how many records were held back. To be called about once a second by the process's loop."""
    for key, source, times in _sink.repeats.over(time.monotonic()):
        by = {"client": source} if source else {}
        get().warning("records held back", record=key, **by, times=times, window_s=WINDOW_S, hold=None)


def count(number: str) -> None:
    """Add 1 to this number of the process's row. number: one of scoreboard.FIELDS."""
    row = _sink.row
    if row is not None:
        setattr(row, number, getattr(row, number) + 1)


def get(**fields: Any) -> Logger:
    """A logger that adds `fields` to each record; its bind(key=value) makes one with more."""
    return Logger(_Output(), [_count_and_hold_back, _render], dict(fields))
