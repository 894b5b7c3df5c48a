"""Telling whether another worker's process on this machine still runs.

Owns: the identity of a machine and of a process for as long as the machine runs.
Elsewhere: its use (bus.redis.membership).
Fails: never; "" and 0 stand for what the kernel does not tell.
"""

from __future__ import annotations

from pathlib import Path


def machine_id() -> str:
    """This boot of this machine and its pid namespace: two workers with the same text mean the same process by the same
    pid. "" if the kernel does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def start_ticks(pid: int) -> int:
    """When the process began, in clock ticks since boot; 0 if there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
