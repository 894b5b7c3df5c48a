"""The new program's way from its first line to the loop: what a start does, with everything that is there already.

Owns: the order of these steps, and which configuration is in force afterwards.
Elsewhere: an ordinary start (master.start), finding the state (master.upgrade.execute), what was checked before
(chatd.preflight), replacing the workers (master.upgrade.upgrade).
Fails: BootError or ConfigError; there is no way back to the earlier program. This process then ends, the workers drain,
and a service manager starts it again. The preflight has tried all that can fail here.

Nothing is bound, locked or given up here: privileges that were dropped stay dropped.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from chatd import __version__, log, penalty_table
from chatd.config import load as config_load
from chatd.config.diff import applicable
from chatd.config.load import Loaded, workers_of
from chatd.config.schema import Config
from chatd.config.validate import check_host
from chatd.errors import BootError, ConfigError, Exit
from chatd.master.certificates import CertificateKeeper
from chatd.master.daemonize import StartReport
from chatd.master.instance_lock import InstanceLock
from chatd.master.listeners import Bound
from chatd.master.master import Master
from chatd.master.metrics.endpoint import resumed
from chatd.master.prepared import Prepared
from chatd.master.spawn import Serve
from chatd.master.start import open_log, serve_until_stopped
from chatd.master.systemd import ServiceManager
from chatd.master.udp_sockets import UdpSockets
from chatd.master.upgrade import state as upgrade_state
from chatd.master.upgrade.state import MasterState, NotUnderstood
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import LayoutUnknown, Scoreboard


def run(state: MasterState, file: str | None, prepare: Callable[[Config], None], serve: Serve) -> int:
    """Serve until stopped, and return the exit code. file: of the configuration, as given to the first program.
    prepare: loads what workers need. Raises: BootError, ConfigError."""
    try:
        before = upgrade_state.config_of(state)
        scoreboard = Scoreboard(state.scoreboard)
    except (NotUnderstood, LayoutUnknown) as error:
        raise BootError(f"cannot take over from version {state.version}: {error}", Exit.CONFIG) from None
    open_log(before, scoreboard)
    lock = InstanceLock(before.server, None, state.locks)
    try:
        loaded, certificates = _configuration(state, before, file)
        prepare(loaded.config)
        prepared = _prepared(state, loaded.config, scoreboard, certificates, lock)
        master = Master(loaded, prepared, serve, state.program, _with_changes(state, before, loaded.config))
    except Exception:
        log.get().exception("the new program cannot take over; the workers drain and leave", version=__version__)
        lock.release()
        raise
    try:
        return serve_until_stopped(master, prepared)
    finally:
        lock.release()


def _prepared(
    state: MasterState, config: Config, scoreboard: Scoreboard, certificates: CertificateKeeper, lock: InstanceLock
) -> Prepared:
    """What is bound, locked and opened already."""
    udp_sockets = UdpSockets(config.listen, None)
    udp_sockets.resume(state.udp)
    bound = _listeners(state, config)
    return Prepared(
        scoreboard=scoreboard,
        penalty_table=_penalties(state),
        bound=bound,
        adopted=frozenset(sock for one, (_, sock) in zip(state.listeners, bound, strict=True) if one.adopted),
        udp_sockets=udp_sockets,
        certificates=certificates,
        metrics=resumed(config.metrics, state.metrics),
        lock=lock,
        systemd=ServiceManager(os.environ, state.service),
        report=StartReport(),
    )


def _configuration(state: MasterState, before: Config, file: str | None) -> tuple[Loaded, CertificateKeeper]:
    """That of the file, as a reload would apply it. If the file cannot be used any more, the one that was in force."""
    try:
        loaded = config_load.load(file, state.secrets)
        check_host(loaded.config, loaded.name)
        config = applicable(before, loaded.config)
        return dataclasses.replace(loaded, config=config), CertificateKeeper(config, loaded.name)
    except ConfigError as error:
        log.get().error("configuration rejected, the previous one stays in force", why=str(error))
        path = None if file is None else Path(file).absolute()
        loaded = Loaded(config=before, file=path, sources={}, secrets=state.secrets)
        return loaded, CertificateKeeper(before, loaded.name, state.certificates)


def _with_changes(state: MasterState, before: Config, config: Config) -> MasterState:
    """A configuration that differs from the one in force has a new generation, and perhaps another number of
    workers."""
    if config == before:
        return state
    replace = msgspec.structs.replace
    number = state.reloads.generation + 1
    wanted = state.pool.wanted if config.server.workers == before.server.workers else workers_of(config)
    return replace(
        state,
        reloads=replace(state.reloads, generation=number),
        pool=replace(state.pool, generation=number, wanted=wanted),
    )


def _penalties(state: MasterState) -> PenaltyTable:
    if state.penalties.format == penalty_table.FORMAT:
        return PenaltyTable(before=state.penalties)
    log.get().warning("penalties are forgotten, their table has another format", before=state.penalties.format)
    return PenaltyTable()


def _listeners(state: MasterState, config: Config) -> tuple[Bound, ...]:
    options = {one.address: one for one in config.listen}
    bound = []
    for one in state.listeners:
        sock = socket.socket(fileno=one.descriptor)
        sock.setblocking(False)
        bound.append((options[one.address], sock))
    return tuple(bound)
