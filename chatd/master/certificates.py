"""The certificates of listeners with TLS, as long as the server runs.

Owns: reading them at the start and at a reload, noticing changed files, the last good version of each (which workers
are forked with), telling running workers, and what the status says of them.
Elsewhere: reading and checking one (tls.certificates), handshakes (tls.contexts in the workers), the reload itself
(master.reload).
Fails: at the start and in a reload with a ConfigError that lists every certificate that cannot be used. Afterwards a
changed file that cannot be used is logged as an ERROR and shown in the status; the previous certificate stays in use.

The master has given up its privileges when it reads: the files must be readable by the user that the server runs as, or
a renewed certificate could never be read.
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatd import log
from chatd.config.schema import CertificateOptions, Config
from chatd.errors import ConfigError
from chatd.master.status import CertificateStatus
from chatd.orders import MAX_CERTIFICATE_BYTES, Answer, CertificatesOrder, CertificatesRefused
from chatd.tls import certificates as tls_certificates
from chatd.tls.certificates import Certificate, CertificateError

if TYPE_CHECKING:  # it forks workers, who are given certificates
    from chatd.master.workers import WorkerPool

EXPIRING_S = 14 * 24 * 3600
"""A certificate that expires within this time should have been renewed: ACME clients do it 30 days before."""

_Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file of a certificate: inode, time of its last change (of its mode as well, ns), size. None = not there."""
CertificatesOf = Mapping[str, tuple[Certificate, ...]]
"""By the address of the listener."""


class Expiry(enum.Enum):
    """How long a certificate may still be used; `chatctl check` is degraded by EXPIRING and critical by EXPIRED."""

    GOOD = "good"
    EXPIRING = "expiring"
    EXPIRED = "expired"


@dataclass(slots=True, kw_only=True)
class _Watched:
    """One certificate of one listener. tried: the files as they were when they were read last. seen: as they were a
    second ago; they are read when they have not changed since. error: see CertificateStatus."""

    listener: str
    files: CertificateOptions
    certificate: Certificate
    tried: _Stamp
    seen: _Stamp
    error: str = ""
    expiry: Expiry = Expiry.GOOD


def read_all(config: Config, name: str) -> CertificatesOf:
    """The certificates of every listener, read by the present user. name: of the configuration file, for messages.

    Raises: ConfigError with all that cannot be used.
    """
    problems = []
    found: dict[str, tuple[Certificate, ...]] = {}
    for number, listener in enumerate(config.listen):
        good = []
        for index, files in enumerate(listener.certificates):
            try:
                good.append(_load(files))
            except CertificateError as error:
                problems.append(f"{name}: listen[{number}].certificates[{index}]: {error}")
        size = sum(len(one.pem) for one in good)
        if size > MAX_CERTIFICATE_BYTES:
            what = f"have {size} bytes together, at most {MAX_CERTIFICATE_BYTES} are allowed; use several listeners"
            problems.append(f"{name}: listen[{number}].certificates: {what}")
        if good:
            found[listener.address] = tuple(good)
    if problems:
        raise ConfigError(*problems)
    return found


def _load(files: CertificateOptions) -> Certificate:
    """Raises CertificateError."""
    from chatd.tls.contexts import ServerContexts  # a server without TLS does not load OpenSSL into its master

    certificate = tls_certificates.load(files)
    try:
        ServerContexts((certificate,))
    except CertificateError as error:
        raise CertificateError(f"{files.certificate}: {error}") from None
    return certificate


class CertificateKeeper:
    def __init__(self, config: Config, name: str, before: CertificatesOf | None = None) -> None:
        """To be made by the user that the server runs as. before: those in use already, whose files are read again at
        the next check(); None = read them now. Raises ConfigError."""
        self._watched: list[_Watched] = []
        self._renewed: set[str] = set()
        """Listeners whose certificates have changed since the workers were told."""
        self._unsent: set[tuple[int, str]] = set()
        """(pid of a worker, listener): orders that could not be sent yet."""
        self._take(config, read_all(config, name) if before is None else before)
        if before is not None:
            for one in self._watched:
                one.tried = ()

    def current(self) -> CertificatesOf:
        """The last good version of all, for a worker that is forked now."""
        found: dict[str, tuple[Certificate, ...]] = {}
        for one in self._watched:
            found[one.listener] = (*found.get(one.listener, ()), one.certificate)
        return found

    def install(self, config: Config, found: CertificatesOf) -> None:
        """After a reload. found: as read_all() gave it for this configuration."""
        before = self.current()
        self._take(config, found)
        self._renewed |= {where for where, certificates in self.current().items() if certificates != before.get(where)}

    def _take(self, config: Config, found: CertificatesOf) -> None:
        self._watched = [
            _Watched(listener=one.address, files=files, certificate=certificate, tried=stamp, seen=stamp)
            for one in config.listen
            for files, certificate in zip(one.certificates, found.get(one.address, ()), strict=True)
            for stamp in [_stamp(files)]
        ]

    # ------------------------------------------------------------ once a second

    def check(self, pool: WorkerPool) -> None:
        """Read what has changed, and tell the workers. Costs a stat() per file."""
        for one in self._watched:
            stamp = _stamp(one.files)
            is_settled, one.seen = stamp == one.seen, stamp
            if is_settled and stamp != one.tried:  # certificate and key are rarely replaced at the very same moment
                one.tried = stamp
                self._read_again(one)
            self._watch_expiry(one)
        self.tell(pool)

    def _read_again(self, one: _Watched) -> None:
        try:
            certificate = _load(one.files)
            of_listener = sum(len(other.certificate.pem) for other in self._watched if other.listener == one.listener)
            if of_listener - len(one.certificate.pem) + len(certificate.pem) > MAX_CERTIFICATE_BYTES:
                raise CertificateError(f"{one.files.certificate}: is too large together with the listener's others")
        except CertificateError as error:
            one.error = str(error)
            log.get().error(
                "a changed certificate cannot be used, the previous one stays", listener=one.listener, why=one.error
            )
            return
        one.error = ""
        if certificate != one.certificate:
            one.certificate = certificate
            self._renewed.add(one.listener)
        log.get().info(
            "certificate read again",
            listener=one.listener,
            file=one.files.certificate,
            names=certificate.names,
            expires=_date(certificate.expires_at),
        )

    def _watch_expiry(self, one: _Watched) -> None:
        """Say once that a certificate will soon expire, and that it has."""
        before, one.expiry = one.expiry, expiry_of(one.certificate.expires_at, time.time())
        if one.expiry is before or one.expiry is Expiry.GOOD:
            return
        fields = {"listener": one.listener, "file": one.files.certificate}
        expires = _date(one.certificate.expires_at)
        if one.expiry is Expiry.EXPIRED:
            log.get().error("a certificate has expired", expires=expires, **fields)
        else:
            log.get().warning("a certificate expires soon", expires=expires, **fields)

    def tell(self, pool: WorkerPool) -> None:
        """Order every worker to use what was renewed. An order that cannot be sent is sent again at the next call."""
        if not self._renewed and not self._unsent:
            return
        present = {slot.worker.child.pid: slot for slot in pool.present() if slot.worker is not None}
        due = self._unsent | {(pid, listener) for pid in present for listener in self._renewed}
        current = self.current()
        self._renewed.clear()
        self._unsent = {
            (pid, listener)
            for pid, listener in due
            if pid in present
            and listener in current
            and not pool.order(present[pid], CertificatesOrder(listener, current[listener]))
        }

    def take_answer(self, slot: int, answer: Answer) -> None:
        """Of any worker to any order; the others' are ignored."""
        if isinstance(answer, CertificatesRefused):
            log.get().error("a worker keeps its old certificates", slot=slot, listener=answer.address, why=answer.why)

    # ------------------------------------------------------------ status

    def status(self) -> list[CertificateStatus]:
        now = time.time()
        return [
            CertificateStatus(
                listener=one.listener,
                file=one.files.certificate,
                names=list(one.certificate.names),
                expires_at=int(one.certificate.expires_at),
                expiry=expiry_of(one.certificate.expires_at, now).value,
                error=one.error,
            )
            for one in self._watched
        ]


def expiry_of(expires_at: float, now: float) -> Expiry:
    """Times in seconds since the epoch."""
    if now >= expires_at:
        return Expiry.EXPIRED
    return Expiry.EXPIRING if expires_at - now < EXPIRING_S else Expiry.GOOD


def expiry_warnings(found: CertificatesOf) -> Sequence[str]:
    """For `chatd -t`: a line for each certificate that has expired or will soon."""
    now = time.time()
    return [
        f"the certificate for {', '.join(one.names) or 'no name'} at {listener} "
        f"{'has expired' if one.expires_at <= now else 'expires'} on {_date(one.expires_at)}"
        for listener, certificates in found.items()
        for one in certificates
        if expiry_of(one.expires_at, now) is not Expiry.GOOD
    ]


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _stamp(files: CertificateOptions) -> _Stamp:
    return tuple(_stamp_of(path) for path in (files.certificate, files.key) if path)


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_size
