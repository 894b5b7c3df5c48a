"""What one program of the master hands to the next: everything that it cannot find out again.

Owns: the struct, its form (JSON in a sealed memory file), and the list of descriptors that must survive.
Elsewhere: each part of it, in the module that it describes; making one (master.upgrade.capture), using it
(master.upgrade.resume).
Fails: NotUnderstood for a state of another format, or with values that this version does not know.

Within one FORMAT, fields are added with a default and never renamed: programs of neighbouring versions read each
other's state, in both directions.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from chatd.config.load import Secret
from chatd.config.schema import ARRAYS, SECTIONS, Config
from chatd.errors import ChatdError
from chatd.master.control import ControlState
from chatd.master.metrics.endpoint import EndpointState
from chatd.master.questions.kick import KickState
from chatd.master.questions.tracing import TraceState
from chatd.master.reload import ReloadState
from chatd.master.systemd import ServiceState
from chatd.master.udp_sockets import UdpState
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.workers import PoolState
from chatd.penalty_table import PenaltyTableState
from chatd.scoreboard import ScoreboardState
from chatd.tls.certificates import Certificate

FORMAT = 1
"""Raised by a change that earlier versions would misunderstand. Such an upgrade is refused."""
NAME = "upgrade"
"""Of the memory file, as /proc/PID/fd shows it."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class NotUnderstood(ChatdError):
    """This version cannot take over from the one that wrote the state. Caught by the preflight, which refuses the
    upgrade."""


class ListenerState(msgspec.Struct, frozen=True, kw_only=True):
    """A stream socket. address: as configured. adopted: it belongs to systemd."""

    address: str
    descriptor: int
    adopted: bool


class UpgradeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The order that led to a new program, as the earlier one tells it. began: monotonic seconds. version: of the code
    that took the order."""

    began: float
    version: str


class MasterState(msgspec.Struct, frozen=True, kw_only=True):
    """pid: of the master, which stays. version: that wrote this. programs: how many this process has run, that one
    included. began: monotonic seconds, of the start. config: in force, as JSON; options are read by name, so that an
    option may come or go. life: both ends of the pipe whose end tells the workers that the master is gone."""

    format: int
    pid: int
    version: str
    programs: int
    began: float
    order: UpgradeOrder
    program: Program
    config: msgspec.Raw
    secrets: dict[str, Secret]
    scoreboard: ScoreboardState
    penalties: PenaltyTableState
    listeners: tuple[ListenerState, ...]
    udp: UdpState
    certificates: dict[str, tuple[Certificate, ...]]
    locks: tuple[int, ...]
    life: tuple[int, int]
    service: ServiceState
    control: ControlState
    reloads: ReloadState
    pool: PoolState
    traces: tuple[TraceState, ...] = ()
    kicks: tuple[KickState, ...] = ()
    metrics: EndpointState | None = None
    signals: tuple[tuple[int, int], ...] = ()
    """Signals that the earlier program has caught and not acted on: number, and how often."""

    def descriptors(self) -> Iterator[int]:
        """Everything that must stay open when the program changes."""
        yield from self.scoreboard.descriptors()
        yield self.penalties.descriptor
        yield from (one.descriptor for one in self.listeners)
        yield from self.udp.descriptors()
        yield from self.locks
        yield from self.life
        yield from self.control.descriptors()
        yield from self.pool.descriptors()
        if self.metrics is not None:
            yield self.metrics.descriptor


class _Head(msgspec.Struct):
    format: int
    version: str = ""


def write(state: MasterState) -> int:
    """A new memory file with the state, which nobody can change any more. Raises OSError."""
    descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(msgspec.json.encode(state))
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> MasterState:
    """Raises NotUnderstood; OSError when there is no such memory file."""
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise NotUnderstood("it is not sealed, so no chatd has written it")
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != FORMAT:
            raise NotUnderstood(f"version {head.version} hands over in format {head.format}, this one needs {FORMAT}")
        return msgspec.json.decode(data, type=MasterState)
    except msgspec.DecodeError as error:
        raise NotUnderstood(
            f"version {_version(data)} hands over something that this one does not know: {error}"
        ) from None


def _version(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Head).version
    except msgspec.DecodeError:
        return "?"


def config_of(state: MasterState) -> Config:
    """The configuration in force, as this version understands it: options that it does not have are left out, those
    that the earlier one did not have get their defaults. Raises NotUnderstood."""
    tree = msgspec.json.decode(state.config)
    try:
        return msgspec.convert(_known(tree), Config)
    except msgspec.ValidationError as error:
        raise NotUnderstood(
            f"the configuration in force has a value that this version does not allow: {error}"
        ) from None


def _known(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        if section in tree:
            value = tree[section]
            found[section] = [_kept(one, kind) for one in value] if section in ARRAYS else _kept(value, kind)
    return found


def _kept(table: dict[str, Any], kind: type) -> dict[str, Any]:
    names = {field.encode_name for field in msgspec.structs.fields(kind)}
    return {name: value for name, value in table.items() if name in names}
