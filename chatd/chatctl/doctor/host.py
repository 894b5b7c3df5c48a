"""Checks of the host: limits of the kernel, the clock, the disks.

Owns: descriptors, somaxconn, buffers of UDP sockets, whether the clock is synchronised, room on disks.
Elsewhere: the clocks of MySQL and Redis (chatctl.doctor.stores, chatctl.doctor.buses).
Fails: never; what cannot be read is a note.
"""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path

from chatd.chatctl.doctor.finding import Finding, Installation, error, note, ok, warning
from chatd.config import urls
from chatd.config.validate import DESCRIPTORS_BESIDES_CLIENTS
from chatd.master.disks import disks_of

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
RMEM_DEFAULT = Path("/proc/sys/net/core/rmem_default")
LEAST_UDP_BYTES = 1024 * 1024
"""Datagrams of a burst that wait while a worker is busy; about 1,500 of the usual size."""
_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""
_TIMEX_BYTES = 512
_STATUS_AT = 40
"""Offset of `status` in struct timex where a long has 8 bytes."""


def descriptors(installation: Installation) -> Iterator[Finding]:
    """Whether the limit of open files suffices for limits.connections."""
    config = installation.config
    needed = config.limits.connections + DESCRIPTORS_BESIDES_CLIENTS + len(config.listen)
    limit, whose = _descriptor_limit(installation)
    text = f"{limit} descriptors for each worker ({whose}), {needed} needed for limits.connections = "
    text += f"{config.limits.connections}"
    if limit < needed:
        meaning = "a full worker refuses connections before limits.connections is reached"
        yield error("limits.descriptors", text, meaning, "raise LimitNOFILE= or `ulimit -Hn`, or lower the option")
    else:
        yield ok("limits.descriptors", text)


def _descriptor_limit(installation: Installation) -> tuple[int, str]:
    """Of a running worker, or else the hard limit of this process, up to which a server raises its own."""
    for one in installation.status.workers if installation.status else ():
        try:
            lines = Path(f"/proc/{one.pid}/limits").read_text().splitlines()
        except OSError:
            continue
        found = next((line.split()[3] for line in lines if line.startswith("Max open files")), "")
        if found.isdigit():
            return int(found), f"worker {one.slot}"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return (hard if hard != resource.RLIM_INFINITY else 1 << 30), "ulimit -Hn here"


def backlog(installation: Installation) -> Iterator[Finding]:
    """Whether the kernel lets as many connections wait as listen.backlog says."""
    limit = _number(SOMAXCONN)
    if limit is None:
        yield note("limits.backlog", f"cannot read {SOMAXCONN}")
        return
    short = [one.address for one in installation.config.listen if one.backlog > limit and _is_stream(one.address)]
    if short:
        text = f"net.core.somaxconn is {limit}, listen.backlog of {', '.join(short)} is larger"
        meaning = f"only {limit} connections can wait to be accepted; after an outage many are lost and try again"
        yield warning("limits.backlog", text, meaning, "sysctl -w net.core.somaxconn=4096, and in /etc/sysctl.d")
    else:
        yield ok("limits.backlog", f"net.core.somaxconn is {limit}")


def _is_stream(address: str) -> bool:
    return urls.parse(address).transport != "udp"


def udp_buffers(installation: Installation) -> Iterator[Finding]:
    """Whether UDP sockets can hold a burst."""
    if not any(urls.parse(one.address).transport == "udp" for one in installation.config.listen):
        return
    size = _number(RMEM_DEFAULT)
    if size is None:
        yield note("limits.udp_buffers", f"cannot read {RMEM_DEFAULT}")
    elif size < LEAST_UDP_BYTES:
        text = f"net.core.rmem_default is {size} bytes"
        meaning = "datagrams that come while a worker is busy are lost, and clients send them again"
        advice = f"sysctl -w net.core.rmem_default={LEAST_UDP_BYTES} net.core.rmem_max={4 * LEAST_UDP_BYTES}"
        yield warning("limits.udp_buffers", text, meaning, f"{advice}, and in /etc/sysctl.d; then restart")
    else:
        yield ok("limits.udp_buffers", f"net.core.rmem_default is {size} bytes")


def clock(_installation: Installation) -> Iterator[Finding]:
    """Whether the clock is synchronised."""
    synchronised = is_synchronised()
    if synchronised is None:
        yield note("clock.synchronised", "the kernel does not say whether the clock is synchronised")
    elif not synchronised:
        meaning = "times of messages drift; hosts of a cluster refuse each other's messages from 30 s on"
        advice = "run chrony or systemd-timesyncd (in a container: on its host)"
        yield warning("clock.synchronised", "the clock is not synchronised", meaning, advice)
    else:
        yield ok("clock.synchronised", "the clock is synchronised")


def is_synchronised() -> bool | None:
    """As the kernel says (adjtimex), which the NTP client tells; None: it does not say."""
    answer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(answer) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not int.from_bytes(answer.raw[_STATUS_AT : _STATUS_AT + 4], "little") & _UNSYNCHRONISED


def disks(installation: Installation) -> Iterator[Finding]:
    """Room on every file system that is written to."""
    for one in disks_of(installation.config):
        text = f"{one.free_bytes / 1e9:.1f} of {one.total_bytes / 1e9:.1f} GB free at {one.path}"
        text += f" ({', '.join(one.used_for)})"
        if one.is_low:
            meaning = "when it is full, messages are refused and log records are lost"
            yield error("disk.room", text, meaning, "make room: rotated logs, backups, old messages ([retention])")
        else:
            yield ok("disk.room", text)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
