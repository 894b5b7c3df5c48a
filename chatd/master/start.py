"""How a server starts, step by step.

Owns: the order of the steps; each may rely on those before it.
Elsewhere: each step (its own module in master); serving (master.master).
Fails: BootError with the exit code of the step that failed; the next start reuses what earlier steps have created.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterable

from chatd import log
from chatd.config import metrics_options
from chatd.config.load import Loaded, workers_of
from chatd.config.schema import Config
from chatd.config.validate import plain_passwords
from chatd.errors import BootError, ConfigError, Exit
from chatd.master import directories, listeners, privileges
from chatd.master.certificates import CertificateKeeper
from chatd.master.control import given
from chatd.master.daemonize import StartReport
from chatd.master.instance_lock import InstanceLock
from chatd.master.master import Master
from chatd.master.metrics import endpoint
from chatd.master.prepared import Prepared
from chatd.master.privileges import Identity
from chatd.master.spawn import Serve
from chatd.master.systemd import ServiceManager, inherited_sockets
from chatd.master.udp_sockets import UdpSockets, is_udp
from chatd.master.upgrade.program import Program
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import Scoreboard


def run(loaded: Loaded, allow_root: bool, serve: Serve, report: StartReport, program: Program) -> int:
    """Start, serve until stopped, and return the exit code. program: by which this process was started.

    Raises: BootError, before anything was forked.
    """
    server = loaded.config.server
    systemd = ServiceManager(os.environ)
    inherited = inherited_sockets(os.environ)
    owner = privileges.identity(server, allow_root)
    os.umask(0o027)
    privileges.raise_descriptor_limit()
    privileges.forbid_core_dumps()
    directories.prepare(server, loaded.config.files.dir, owner)
    lock = InstanceLock(server, owner)
    try:
        directories.prepare_bus(server, owner)
        control = given(inherited, server.runtime_dir)
        others = [sock for sock in inherited if sock is not control]
        bound, unmatched, udp_sockets = _bind(loaded, others, owner, after_crash=lock.crashed)
        metrics = endpoint.bind(loaded.config.metrics, after_crash=lock.crashed)
        privileges.drop(owner)
        scoreboard, penalty_table = _map_memory()
        open_log(loaded.config, scoreboard)
        certificates = _read_certificates(loaded)
        _warn(loaded, udp_sockets, unmatched)
        for sock in unmatched:
            sock.close()
        prepared = Prepared(
            scoreboard=scoreboard,
            penalty_table=penalty_table,
            bound=bound,
            adopted=frozenset(sock for _, sock in bound if sock in inherited),
            control=control,
            udp_sockets=udp_sockets,
            certificates=certificates,
            metrics=metrics,
            lock=lock,
            systemd=systemd,
            report=report,
        )
        return serve_until_stopped(Master(loaded, prepared, serve, program), prepared)
    finally:
        lock.release()


def _bind(
    loaded: Loaded, inherited: list[socket.socket], owner: Identity | None, *, after_crash: bool
) -> tuple[tuple[listeners.Bound, ...], list[socket.socket], UdpSockets]:
    """The stream sockets, those from systemd that match no listener, and the UDP sockets."""
    config = loaded.config
    streams = [one for one in config.listen if not is_udp(one)]
    udp_sockets = UdpSockets(config.listen, owner)
    left = udp_sockets.adopt([sock for sock in inherited if sock.type & socket.SOCK_DGRAM])
    given_streams = [sock for sock in inherited if not sock.type & socket.SOCK_DGRAM]
    bound, unmatched = listeners.bind_all(streams, given_streams, after_crash)
    unmatched += left
    udp_sockets.bind_first(workers_of(config), after_crash)
    return bound, unmatched, udp_sockets


def _warn(loaded: Loaded, udp_sockets: UdpSockets, unmatched: Iterable[socket.socket]) -> None:
    """Of what works, and is perhaps not meant so. unmatched: sockets from systemd that no listener uses."""
    for line in loaded.deprecated:
        log.get().warning("deprecated option", file=loaded.name, what=line)
    for warning in plain_passwords(loaded.config):
        log.get().warning("passwords can be read on the network", why=warning)
    for warning in metrics_options.opened(loaded.config.metrics):
        log.get().warning("metrics can be read on the network", why=warning)
    for sock in unmatched:
        log.get().warning("a socket from systemd matches no [[listen]]", address=str(sock.getsockname()))
    for address, sockets in udp_sockets.given().items():
        if sockets < udp_sockets.places:
            text = "some workers have no clients over UDP; write ListenDatagram= once for each worker in chatd.socket"
            log.get().warning(text, address=address, sockets=sockets, workers=udp_sockets.places)


def _read_certificates(loaded: Loaded) -> CertificateKeeper:
    """As the user that the server runs as, who must be able to read renewed ones. Raises BootError."""
    try:
        return CertificateKeeper(loaded.config, loaded.name)
    except ConfigError as error:
        raise BootError(str(error), Exit.CONFIG) from None


def _map_memory() -> tuple[Scoreboard, PenaltyTable]:
    """The memory that all processes share."""
    try:
        return Scoreboard(), PenaltyTable()
    except OSError as error:
        raise BootError(f"cannot map shared memory: {error.strerror}", Exit.OS) from None


def open_log(config: Config, scoreboard: Scoreboard) -> None:
    """Raises BootError."""
    row = scoreboard.master_row
    row.pid = os.getpid()
    try:
        log.setup(config.log, config.server.log_dir, row, row, worker="master")
    except OSError as error:
        raise BootError(f"cannot write {error.filename}: {error.strerror}", Exit.CANNOT_CREATE) from None


def serve_until_stopped(master: Master, prepared: Prepared) -> int:
    """The last step; returns the exit code."""
    gc.freeze()  # the pages of what exists now stay shared with the workers
    try:
        code = master.run()
    except Exception:
        log.get().exception("the master ended by a bug; its workers drain and leave")
        raise
    listeners.close_all(prepared.bound, prepared.adopted)
    prepared.udp_sockets.close()
    return code
