"""Who has an address that this server wants.

Owns: finding the process that listens on an address (TCP, UDP or Unix), and how to find it out where this user may not
see it.
Elsewhere: binding (master.listeners, master.udp_sockets), the ports of a running server (chatctl.doctor.listeners).
Fails: never.
"""

from __future__ import annotations

from typing import NamedTuple

import psutil

from chatd.config.urls import ListenAddress

_ANY = ("0.0.0.0", "::")


class Holder(NamedTuple):
    """pid 0: this user may not see it. name: of its program."""

    pid: int
    name: str


def holder_of(where: ListenAddress) -> Holder | None:
    """The process that listens there, the oldest if there are several; None if nobody does, or nothing can be seen."""
    try:
        if where.transport == "unix":
            pids = [one.pid for one in psutil.net_connections("unix") if one.laddr == where.path]
        else:
            kind = "udp" if where.transport == "udp" else "tcp"
            listening = (psutil.CONN_LISTEN, psutil.CONN_NONE)
            pids = [
                one.pid
                for one in psutil.net_connections(kind)
                if one.status in listening and one.laddr and _collides(one.laddr, where)
            ]
        if not pids:
            return None
        pid = min((pid for pid in pids if pid), default=0)
        return Holder(pid, psutil.Process(pid).name() if pid else "")
    except (psutil.Error, OSError, ValueError):
        return None


def _collides(bound: psutil._common.addr, where: ListenAddress) -> bool:
    """Of two wildcards, IPv6 and IPv4, it is not known here whether they share the port: then they do."""
    if bound.port != where.port:
        return False
    return bound.ip == where.host or bound.ip in _ANY or where.host in _ANY or not _is_address(where.host)


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def used_by(where: ListenAddress) -> str:
    """For a message: " by pid 812 (nginx)", or how to find out."""
    holder = holder_of(where)
    if holder is not None and holder.pid:
        return f" by pid {holder.pid} ({holder.name})"
    return f"; to see by which program, run as root: {how_to_see(where)}"


def how_to_see(where: ListenAddress) -> str:
    """The command that shows who has the address."""
    if where.transport == "unix":
        return f"ss -lxp src {where.path}"
    return f"ss -l{'u' if where.transport == 'udp' else 't'}np 'sport = :{where.port}'"
