"""`chatctl user add --file`: many accounts at once.

Owns: reading the file, hashing in parallel, one transaction per batch, and reporting every line that fails with its
number, while the others are added.
Elsewhere: one account (chatctl.accounts), the command (chatctl.account_commands).
Fails: ConfigError if the file cannot be read. Unavailable and BootError pass through; the batches before stay added,
and the same command can be repeated: it reports those as taken.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TextIO

from chatd import wall_clock
from chatd.chatctl.accounts import StoredAccounts
from chatd.errors import ConfigError, Refused
from chatd.model import User
from chatd.store.contract import Tables

BATCH = 200
"""Accounts per transaction: a server that runs waits for the store no longer than for one of its own batches."""


class Line(NamedTuple):
    """problem: why it cannot be used; "" = it can."""

    number: int
    name: str
    password: str
    problem: str = ""


class Failure(NamedTuple):
    number: int
    name: str
    why: str


class BatchResult(NamedTuple):
    added: list[User]
    failures: list[Failure]


def read_lines(where: str, *, as_csv: bool) -> Iterator[Line]:
    """The lines of the file, or of standard input if `where` is "-". Each is NAME PASSWORD, separated by spaces or
    tabs; or as_csv, NAME,PASSWORD, with quotes as in CSV where a name has spaces or commas. Empty lines, and those that
    begin with #, are ignored. Raises ConfigError."""
    try:
        with _opened(where) as file:
            yield from _csv(file) if as_csv else _words(file)
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: is not UTF-8 text") from None
    except csv.Error as error:
        raise ConfigError(f"{where}: is not CSV: {error}") from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _opened(where: str) -> Iterator[TextIO]:
    if where == "-":
        yield sys.stdin
        return
    with open(where, encoding="utf-8", newline="") as file:
        yield file


def _words(file: Iterable[str]) -> Iterator[Line]:
    for number, text in enumerate(file, 1):
        text = text.rstrip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        name, *rest = text.split(maxsplit=1)
        if rest:
            yield Line(number, name, rest[0])
        else:
            yield Line(number, name, "", "no password stands after the name")


def _csv(file: Iterable[str]) -> Iterator[Line]:
    rows = csv.reader(file, strict=True)
    for row in rows:
        if not row or row[0].startswith("#"):
            continue
        if len(row) == 2:
            yield Line(rows.line_num, row[0], row[1])
        else:
            yield Line(rows.line_num, row[0], "", f"has {len(row)} fields instead of 2")


def add_all(accounts: StoredAccounts, lines: Iterable[Line]) -> Iterator[BatchResult]:
    """One result per transaction, when it is committed."""
    rest = iter(lines)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        while batch := list(itertools.islice(rest, BATCH)):
            prepared = list(pool.map(lambda line: _prepare(accounts, line), batch))
            yield accounts.change(functools.partial(_add, batch=batch, prepared=prepared))


def _prepare(accounts: StoredAccounts, line: Line) -> tuple[str, str] | Failure:
    if line.problem:
        return Failure(line.number, line.name, line.problem)
    try:
        return accounts.prepare(line.name, line.password)
    except Refused as error:
        return Failure(line.number, line.name, error.text)


def _add(tables: Tables, batch: list[Line], prepared: list[tuple[str, str] | Failure]) -> BatchResult:
    result = BatchResult([], [])
    for line, account in zip(batch, prepared, strict=True):
        if isinstance(account, Failure):
            result.failures.append(account)
            continue
        try:
            result.added.append(tables.accounts.create(*account, wall_clock.now_ms()))
        except Refused as error:
            result.failures.append(Failure(line.number, line.name, error.text))
    return result
