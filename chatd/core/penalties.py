"""Penalties: sources and accounts with too many failures are refused for a time.

Owns: which failure counts for which record, when a penalty begins and how long it lasts, forgiving, and the refusal.
Elsewhere: the memory that workers share (penalty_table), other hosts (core.penalty_exchange), the steps of a login
around it (core.login_guard), what a penalty's beginning tells other programs (security_log).
Fails: Refused TOO_MANY_ATTEMPTS, before the store is read or a password is hashed. Nothing else: without penalties in
the configuration nothing is counted and nothing is refused.

A record counts offences. The first ones cost nothing; with each further one a penalty begins that lasts twice as long
as the one before, up to a maximum. While it lasts, attempts are refused without being looked at, so they tell an
attacker nothing, and do not count. When it is over, offences are forgiven one by one.

Failures over UDP have records of their own: anybody can forge the source of a datagram, and must not be able to get a
penalty for somebody else's TCP connections with it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from chatd import security_log
from chatd.config.penalty_options import PenaltyOptions
from chatd.config.schema import Config
from chatd.core.bus_messages import PenaltyRecord
from chatd.errors import ErrorCode, Refused
from chatd.penalty_table import NEVER, Key, Kind, PenaltyTable, Record, now_ms
from chatd.security_log import SecurityEvent
from chatd.sources import networks, site_of

_SAME_MS = 500
"""Two ends of a penalty this close are the same one, told over the bus."""
_SAME_OFFENCES = 0.01
SITE_FACTOR = 8
"""An IPv6 /48 may have this many times the failures of a single source."""
SUBJECT_CHARS = 80
"""A longer name or id is known by its hash."""
_LONGEST_AGO_MS = 10 * 365 * 86_400_000
"""An offence that another host tells of counts as no older than this."""
MAX_WATCHED = 10_000
"""Penalties whose end this worker reports to the security trail; the end of others is not reported."""


class Origin(NamedTuple):
    """Where an attempt comes from. source: its network (sources.source_of). address: without the port, for the trail.
    wire: name of the protocol. forgeable: over UDP."""

    source: str
    address: str = ""
    wire: str = ""
    forgeable: bool = False


class Standing(NamedTuple):
    """A record as it is now. offences: those not forgiven. remaining_s: of the penalty; 0.0 = there is none."""

    offences: float
    remaining_s: float


def standing(record: Record, options: PenaltyOptions, at_ms: int) -> Standing:
    """Forgiving begins when the penalty is over."""
    idle_ms = max(0, at_ms - max(record.offended_ms, record.until_ms))
    offences = max(0.0, record.offences - idle_ms / (options.forgive_s * 1000))
    return Standing(offences, max(0, record.until_ms - at_ms) / 1000)


def offended(record: Record, free: int, options: PenaltyOptions, at_ms: int) -> Record:
    """The record after one more offence. free: offences without a penalty."""
    before = standing(record, options, at_ms)
    offences = before.offences + 1
    until_ms = record.until_ms
    since_ms = record.since_ms if before.offences else at_ms
    if offences > free:
        doublings = min(max(0.0, offences - free - 1), 64.0)
        until_ms = max(until_ms, at_ms + int(min(options.max_s, options.first_s * 2**doublings) * 1000))
        since_ms = since_ms if before.remaining_s else at_ms
    return Record(offences, at_ms, since_ms, until_ms)


def free_offences(kind: Kind, options: PenaltyOptions) -> int:
    """How many offences of a record bring no penalty."""
    match kind:
        case Kind.SOURCE | Kind.UDP_SOURCE:
            return options.failures
        case Kind.SITE | Kind.UDP_SITE:
            return options.failures * SITE_FACTOR
        case Kind.REGISTRATION:
            return options.registrations
        case Kind.REGISTRATION_SITE:
            return options.registrations * SITE_FACTOR
    return options.account_failures


class Penalties:
    """One worker's view of the shared table.

    changed: called with the key of every record that this worker has changed. watched: ends of penalties that this
    worker began, (until_ms, key), a heap.
    """

    def __init__(self, table: PenaltyTable, config: Callable[[], Config], clock: Callable[[], int] = now_ms) -> None:
        """clock: milliseconds, as in the table."""
        self.table = table
        self.now_ms = clock
        self.changed: Callable[[Key], None] = lambda key: None
        self._config = config
        self._watched: list[tuple[int, Key]] = []

    # ---------------------------------------------------------------- refusing

    def check_source(self, origin: Origin) -> None:
        """Raises Refused while the source, or the IPv6 site that it is in, has a penalty."""
        options = self._options()
        if options.enabled and not self.is_exempt(origin.source):
            self._check(_source_keys(origin), options)

    def check_account(self, subject: str, origin: Origin, *, known: bool) -> None:
        """Raises Refused while the account has a penalty. subject: see subject_of(). known: the account's user logged
        in from this source before, so that strangers' guesses do not matter."""
        options = self._options()
        if options.enabled and (key := self._account_key(subject, origin, known=known)) is not None:
            self._check([key], options)

    def is_exempt(self, source: str) -> bool:
        """Whether this source never gets a penalty (penalties.allow)."""
        return source in networks(self._options().allow)

    def has_offended(self, origin: Origin) -> bool:
        """Whether a wrong password came from this source lately, and is not forgiven yet."""
        options = self._options()
        if not options.enabled or self.is_exempt(origin.source):
            return False
        record = self.table.read(_source_keys(origin)[0])
        return standing(record, options, self.now_ms()).offences > 0

    def _check(self, keys: list[Key], options: PenaltyOptions) -> None:
        at_ms = self.now_ms()
        remaining_s = max(standing(self.table.read(key), options, at_ms).remaining_s for key in keys)
        if remaining_s > 0:
            wait_s = math.ceil(remaining_s)
            raise Refused(ErrorCode.TOO_MANY_ATTEMPTS, f"too many attempts, try again in {wait_s} s", wait_s)

    # ---------------------------------------------------------------- counting

    def failed(self, subject: str, origin: Origin, *, known: bool) -> None:
        """A wrong password for this account from this source."""
        options = self._options()
        if not options.enabled:
            return
        keys = [] if self.is_exempt(origin.source) else _source_keys(origin)
        if (key := self._account_key(subject, origin, known=known)) is not None:
            keys.append(key)
        for key in keys:
            self._offend(key, origin, options)

    def admit_registration(self, origin: Origin) -> None:
        """Count an attempt to register. Raises Refused when there were too many from this source, or from the IPv6 site
        that it is in."""
        options = self._options()
        if not options.enabled or self.is_exempt(origin.source):
            return
        keys = _keys(origin.source, Kind.REGISTRATION, Kind.REGISTRATION_SITE)
        self._check(keys, options)
        for key in keys:
            self._offend(key, origin, options)
        # The attempt that begins a penalty is refused already: as many as are free are admitted.
        self._check(keys, options)

    def merge(self, records: Iterable[PenaltyRecord]) -> None:
        """Records of another host: of each, the worse one of that and this host's own is kept. Doing it again changes
        nothing."""
        options, at_ms = self._options(), self.now_ms()
        for told in records:
            if told.kind not in _KINDS:
                continue  # of a later version
            key = Key(Kind(told.kind), told.subject)
            offended_ms = at_ms - min(max(0, told.offended_ago_ms), _LONGEST_AGO_MS)
            # Whatever a host tells, no penalty here is longer than this host's own longest one.
            remaining_ms = min(max(0, told.remaining_ms), int(options.max_s * 1000))
            theirs = Record(
                offences=max(0, told.offences_milli) / 1000,
                offended_ms=offended_ms,
                since_ms=offended_ms,
                until_ms=at_ms + remaining_ms if remaining_ms else 0,
            )
            if _worse(theirs, ours := self.table.read(key), options, at_ms) != ours:
                self.table.update(key, partial(_worse, theirs, options=options, at_ms=at_ms), at_ms)

    def _offend(self, key: Key, origin: Origin, options: PenaltyOptions) -> None:
        at_ms, free = self.now_ms(), free_offences(key.kind, options)
        before, after = self.table.update(key, lambda record: offended(record, free, options, at_ms), at_ms)
        if before.until_ms <= at_ms < after.until_ms:
            security_log.record(
                SecurityEvent.PENALTY_BEGUN,
                source=origin.address,
                forgeable=origin.forgeable,
                kind=key.kind.name.lower(),
                subject=key.subject,
                seconds=math.ceil((after.until_ms - at_ms) / 1000),
            )
            if len(self._watched) < MAX_WATCHED:
                heapq.heappush(self._watched, (after.until_ms, key))
        self.changed(key)

    def _account_key(self, subject: str, origin: Origin, *, known: bool) -> Key | None:
        """The record that failures for this account count for; None: only for the source."""
        if self.is_exempt(origin.source):
            return Key(Kind.ACCOUNT_AT_SOURCE, f"{subject} {origin.source}")
        if known:
            return None
        return Key(Kind.UDP_ACCOUNT if origin.forgeable else Kind.ACCOUNT, subject)

    # ---------------------------------------------------------------- ends

    def round(self) -> None:
        """Once a second: report the penalties that have ended."""
        at_ms = self.now_ms()
        while self._watched and self._watched[0][0] <= at_ms:
            _, key = heapq.heappop(self._watched)
            record = self.table.read(key)
            if record.until_ms > at_ms:
                heapq.heappush(self._watched, (record.until_ms, key))
            elif record != NEVER:  # otherwise it was cleared, and that was reported
                source = key.subject if key.kind in _SOURCES else ""
                security_log.record(
                    SecurityEvent.PENALTY_ENDED,
                    source=source,
                    forgeable=key.kind in _FORGEABLE,
                    kind=key.kind.name.lower(),
                    subject=key.subject,
                )

    def clear(self, subjects: list[str]) -> int:
        """Remove all records about these sources and accounts; [] = every record. Returns how many there were."""
        if not subjects:
            return self.table.clear()
        keys = [Key(kind, subject) for subject in subjects for kind in Kind if kind is not Kind.ACCOUNT_AT_SOURCE]
        removed = sum(self.table.remove(key) for key in keys)
        parts = set(subjects)
        for listed in list(self.table.all()):  # their subjects have two parts
            if listed.kind is Kind.ACCOUNT_AT_SOURCE and parts & set(listed.subject.rsplit(" ", 1)):
                removed += self.table.remove(Key(listed.kind, listed.subject))
        return removed

    def _options(self) -> PenaltyOptions:
        return self._config().penalties


_KINDS = frozenset(int(kind) for kind in Kind)
_FORGEABLE = (Kind.UDP_SOURCE, Kind.UDP_SITE, Kind.UDP_ACCOUNT)
_SOURCES = (
    *(Kind.SOURCE, Kind.SITE, Kind.UDP_SOURCE, Kind.UDP_SITE),
    *(Kind.REGISTRATION, Kind.REGISTRATION_SITE),
)


def _worse(theirs: Record, ours: Record, options: PenaltyOptions, at_ms: int) -> Record:
    """The two as one: the later end of a penalty, and the offences of the one that has more of them left. Differences
    of less than a thousandth come from clocks, and change nothing."""
    until_ms = theirs.until_ms if theirs.until_ms > ours.until_ms + _SAME_MS else ours.until_ms
    more = standing(theirs, options, at_ms).offences - standing(ours, options, at_ms).offences
    counted = theirs if more > _SAME_OFFENCES else ours
    since_ms = min(filter(None, (theirs.since_ms, ours.since_ms)), default=0) if ours.since_ms else theirs.since_ms
    if until_ms == ours.until_ms and counted is ours:
        return ours
    return Record(counted.offences, counted.offended_ms, since_ms, until_ms)


def _source_keys(origin: Origin) -> list[Key]:
    if origin.forgeable:
        return _keys(origin.source, Kind.UDP_SOURCE, Kind.UDP_SITE)
    return _keys(origin.source, Kind.SOURCE, Kind.SITE)


def _keys(source: str, kind: Kind, site_kind: Kind) -> list[Key]:
    """The records that count something of a source: its own, and that of the IPv6 site that it is in, if any."""
    site = site_of(source)
    return [Key(kind, source), Key(site_kind, site)] if site else [Key(kind, source)]


def subject_of(user_id: int, canonical_name: str) -> str:
    """What an account is called in the table: its id in digits, or, where there is no such account, the name that was
    tried, so that both behave the same. 0: there is no such account."""
    subject = str(user_id) if user_id else canonical_name
    if len(subject) > SUBJECT_CHARS:
        return f"#{blake2b(subject.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
    return subject
