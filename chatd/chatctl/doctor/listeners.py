"""Checks of what clients connect to: ports and certificates.

Owns: whether each address is the server's, or free for its start; whether it answers; certificates and their expiry.
Elsewhere: who has an address (master.port_holders), reading certificates (master.certificates).
Fails: never.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import psutil

from chatd.chatctl.doctor.finding import Finding, Installation, error, note, ok, warning
from chatd.config import urls
from chatd.config.urls import ListenAddress
from chatd.errors import ConfigError
from chatd.master import privileges
from chatd.master.certificates import Expiry, expiry_of, read_all
from chatd.master.port_holders import holder_of, how_to_see

CONNECT_S = 2.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ports(installation: Installation) -> Iterator[Finding]:
    """Who has the port of each listener, and whether the server accepts connections there."""
    ours = _processes_of(installation.pid)
    for one in installation.config.listen:
        where = urls.parse(one.address)
        if not where.port and where.transport != "unix":
            continue  # port 0: whatever is free
        holder = holder_of(where)
        if holder is None:
            yield from _nobody_listens(installation, one.address, where)
        elif not holder.pid:
            text = f"{one.address} is used by a program that this user may not see"
            yield note("ports.bound", text, f"run as root: {how_to_see(where)}")
        elif installation.pid and holder.pid in ours:
            yield from _answers(one.address, where)
        else:
            text = f"{one.address} is used by pid {holder.pid} ({holder.name})"
            does = "clients reach that program instead" if installation.pid else "chatd cannot start (exit code 71)"
            advice = f"stop pid {holder.pid}, or listen elsewhere"
            yield error("ports.bound", text, does, advice)


def _nobody_listens(installation: Installation, address: str, where: ListenAddress) -> Iterator[Finding]:
    """Listening sockets can be seen by everybody, except in another network namespace."""
    if installation.pid:
        text = f"nobody listens on {address}, although a server runs"
        meaning = "clients cannot connect there: it was added to the configuration since, or the server drains"
        yield error("ports.bound", text, meaning, "chatctl config diff; chatctl status")
    else:
        yield ok("ports.bound", f"{address} is free")


def _processes_of(pid: int) -> set[int]:
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))} if pid else set()
    except psutil.Error:
        return {pid}


def _answers(address: str, where: ListenAddress) -> Iterator[Finding]:
    """Over UDP nothing can be found out without a login."""
    if where.transport == "udp":
        yield ok("ports.bound", f"{address} is the server's")
        return
    try:
        if where.transport == "unix":
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(CONNECT_S)
                client.connect(where.path)
        else:
            socket.create_connection((_WILDCARDS.get(where.host, where.host), where.port), CONNECT_S).close()
    except OSError as failure:
        text = f"{address} is the server's, but a connection fails: {failure.strerror or failure}"
        meaning = "clients cannot connect: workers hang, or the queue of the listener is full"
        yield error("ports.reachable", text, meaning, "chatctl status; a firewall on this host may be the reason, too")
    else:
        yield ok("ports.reachable", f"{address} accepts connections")


def certificates(installation: Installation) -> Iterator[Finding]:
    """Read as the server's user, who must be able to read renewed files."""
    config = installation.config
    if not any(one.certificates for one in config.listen):
        return
    owner = privileges.identity(config.server, allow_root=True) if os.geteuid() == 0 else None
    try:
        with privileges.acting_as(owner):
            found = read_all(config, installation.loaded.name)
    except ConfigError as failure:
        for line in str(failure).splitlines():
            meaning = "chatd does not start, and a running server keeps the previous certificate"
            yield error(
                "certificates.usable", line, meaning, "renew it; the server's user must be able to read both files"
            )
        return
    now = time.time()
    for listener, several in found.items():
        for one in several:
            days = (one.expires_at - now) / 86_400
            text = f"certificate for {', '.join(one.names) or 'no name'} at {listener}"
            if expiry_of(one.expires_at, now) is Expiry.EXPIRED:
                yield error("certificates.expiry", f"{text} has expired", "clients refuse to connect", "renew it")
            elif expiry_of(one.expires_at, now) is Expiry.EXPIRING:
                meaning = "it should have been renewed by now"
                yield warning(
                    "certificates.expiry", f"{text} expires in {days:.0f} days", meaning, "run the ACME client"
                )
            else:
                yield ok("certificates.expiry", f"{text} is valid for {days:.0f} days")
