"""The log: records of what happened, for people and programs that operate the server.

Owns: levels, the form of a record, the two files (or standard error), dropping records that cannot be written, and
holding back repeated errors. One record is one write(2) of at most RECORD_BYTES to an O_APPEND descriptor of this
process, so records of different processes never mix.
Elsewhere: rotation, which only the master does (master.rotation). It counts up `log_generation`, and every process
opens the files again before its next record.
Fails: never. A record that cannot be written is dropped and counted in Row.log_dropped.

A process has one log: the sink below is the only module state in chatd. Message bodies, passwords and tokens are never
passed to it. Any thread may log.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from chatd.config.schema import LogOptions
from chatd.scoreboard import Row

LEVELS = {"DEBUG": 10, "NORMAL": 20, "WARNING": 30, "ERROR": 40, "FATAL": 50}
RECORD_BYTES = 16 * 1024
FILES = ("normal.log", "error.log")
FILE_MODE = 0o640

REPEATS = 5
"""Maximum errors with the same text logged within REPEAT_WINDOW_S; further ones are counted."""
REPEAT_WINDOW_S = 10.0
REPEAT_KEYS = 1000
"""Maximum texts watched at a time; an error with any other text is always logged."""


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
        self.repeats = _Repeats()

    def write(self, level: int, record: bytes) -> None:
        """One record, newline included. A record cut off by a full disk is ended before the next one."""
        which = 1 if level >= LEVELS["ERROR"] else 0
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
                opened = os.open(
                    self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE
                )
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


class _Repeats:
    """Decides which errors are held back because they repeat."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}
        """By event: when its window began, its records in the window, and how many of them were held back."""

    def admit(self, event: str, now: float) -> bool:
        """Whether to log it."""
        entry = self.seen.get(event)
        if entry is None or now - entry[0] > REPEAT_WINDOW_S:
            if entry is None and len(self.seen) >= REPEAT_KEYS:
                return True
            held = entry[2] if entry else 0.0
            self.seen[event] = [now, 1.0, held]
            return True
        entry[1] += 1
        if entry[1] <= REPEATS:
            return True
        entry[2] += 1
        return False

    def over(self, now: float) -> list[tuple[str, int]]:
        """The events whose window has passed, with the number of records held back."""
        seen = list(self.seen.items())  # in one step, because other threads log as well
        ended = [event for event, entry in seen if now - entry[0] > REPEAT_WINDOW_S]
        return [(event, int(self.seen.pop(event)[2])) for event in ended]


_sink = _Sink()


class Logger(structlog.BoundLoggerBase):
    """Made by get(). Each method takes the event as a fixed text, which can be grepped in the source, and what varies
    as fields. exc_info: an exception whose traceback is logged."""

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


def _count_and_hold_back(_logger: Any, level: str, fields: Fields) -> Fields:
    if LEVELS[level] < LEVELS["ERROR"]:
        return fields
    if _sink.row is not None:
        _sink.row.errors += 1
    if level == "ERROR" and not _sink.repeats.admit(str(fields.get("event")), time.monotonic()):
        raise structlog.DropEvent
    return fields


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
        line = msgspec.json.encode(record, enc_hook=repr) + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError):  # a lone surrogate, a huge number, a cycle
        record = {key: _plain(value) for key, value in record.items()}
        line = msgspec.json.encode(record) + b"\n"
    longest = RECORD_BYTES // 2
    while len(line) > RECORD_BYTES and longest > 8:
        record = {key: _cut(value, longest) for key, value in record.items()}
        line = msgspec.json.encode(record, enc_hook=repr) + b"\n"
        longest //= 2
    if len(line) > RECORD_BYTES:  # thousands of fields
        keep = ("time", "level", "pid", "worker", "event")
        line = msgspec.json.encode({key: record[key] for key in keep} | {"cut": "fields left out"}) + b"\n"
    return line


def _plain(value: Any) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()


def _cut(value: Any, longest: int) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=repr).decode()
    return text if len(text) <= longest else f"{text[:longest]}…[{len(text) - longest} characters cut]"


def _text(level: str, now: str, event: str, fields: Fields) -> bytes:
    """[LEVEL][time][pid] event key=value. A traceback follows on separate lines."""
    trace = fields.pop("exception", "")
    line = f"[{level}][{now}][{os.getpid()}] " + " ".join(
        [event, *(f"{key}={_shown(value)}" for key, value in fields.items())]
    )
    data = f"{line}\n{trace}".rstrip("\n").encode("utf-8", "backslashreplace")
    if len(data) >= RECORD_BYTES:
        data = data[: RECORD_BYTES - 16].decode("utf-8", "ignore").encode() + "…[cut]".encode()
    return data + b"\n"


def _shown(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


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
            os.close(os.open(Path(log_dir, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE))
    _sink.close()
    _sink.lock = threading.Lock()
    _sink.repeats = _Repeats()
    _sink.torn = [False, False]
    _sink.row, _sink.master_row, _sink.worker = row, master_row, worker
    _sink.folder = None if log_dir == "-" else Path(log_dir)
    on_terminal = _sink.folder is None and sys.stderr.isatty()
    _sink.text = _sink.folder is None and (config.format == "text" or (config.format == "auto" and on_terminal))
    set_level(config.level)
    _sink.open()
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)


def set_level(level: str) -> None:
    """level: one of LEVELS. Records below it cost well under a microsecond."""
    _sink.threshold = LEVELS[level]


def reopen() -> None:
    """Open the files by name again, because they have been moved."""
    with _sink.lock:
        _sink.open()


def tick() -> None:
    """Log how many repeated errors were held back. To be called about once a second by the process's loop."""
    for event, held in _sink.repeats.over(time.monotonic()):
        if held:
            get().warning("repeated error held back", error=event, times=held, window_s=REPEAT_WINDOW_S)


def get(**fields: Any) -> Logger:
    """A logger that adds `fields` to each record; its bind(key=value) makes one with more."""
    return Logger(_Output(), [_count_and_hold_back, _render], dict(fields))
