"""The protocol between systemd and a service.

Owns: sd_notify messages, the interval of the watchdog, sockets passed by socket activation.
Elsewhere: when to send what (master.master), matching sockets to listeners (master.listeners).
Fails: never; without systemd every call does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

import msgspec

FIRST_DESCRIPTOR = 3


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """What systemd told this process in its environment, for a later program of the same process. address: of the
    socket for messages; "" = systemd does not listen. watchdog_s: as ServiceManager.watchdog_s."""

    address: str
    watchdog_s: float


class ServiceManager:
    """sd_notify(3). Removes NOTIFY_SOCKET and WATCHDOG_* from the environment, so that children do not use them."""

    def __init__(self, environment: MutableMapping[str, str], before: ServiceState | None = None) -> None:
        """before: what an earlier program of this process has taken from the environment."""
        self.state = before or _taken(environment)
        self._address = self.state.address
        self.watchdog_s = self.state.watchdog_s
        """Interval at which alive() must be called; 0 = systemd does not watch."""

    @property
    def is_there(self) -> bool:
        """Whether systemd listens."""
        return bool(self._address)

    def send(self, *assignments: str) -> None:
        if not self._address:
            return
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.setblocking(False)
            try:
                notify.sendto("\n".join(assignments).encode(), target)
            except OSError:
                return  # systemd notices that a message is missing; the server goes on

    def ready(self, status: str) -> None:
        self.send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={_one_line(status)}")

    def status(self, line: str) -> None:
        self.send(f"STATUS={_one_line(line)}")

    def extend(self, seconds: float) -> None:
        """Starting, or stopping, takes longer: systemd waits for this long from now, or TimeoutStartSec= and
        TimeoutStopSec=, whichever is later."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def reloading(self) -> None:
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        self.send("STOPPING=1", f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        self.send("WATCHDOG=1")


def _taken(environment: MutableMapping[str, str]) -> ServiceState:
    address = environment.pop("NOTIFY_SOCKET", "")
    limit_us = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "")
    ours = not pid or pid == str(os.getpid())
    return ServiceState(address=address, watchdog_s=int(limit_us) / 1e6 / 2 if ours and limit_us.isdigit() else 0.0)


def _one_line(text: str) -> str:
    """A line end would begin another assignment."""
    return " ".join(text.split())


def inherited_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets of LISTEN_FDS, if they are meant for this process."""
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or pid != str(os.getpid()):
        return []
    found = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(descriptor, False)
        found.append(socket.socket(fileno=descriptor))
    return found
