"""How a server comes up, step by step.

Owns: the order: every step may rely on the ones above it.
Fails: BootError with the exit code of the step that failed; what was made before it is left for the next start.
"""

from __future__ import annotations

import gc
import os
import socket

from chatd import log
from chatd.config.load import Loaded, workers_of
from chatd.errors import BootError, Exit
from chatd.master import directories, listeners, privileges
from chatd.master.daemonize import Announcer
from chatd.master.instance_lock import Lock
from chatd.master.master import Master
from chatd.master.privileges import Identity
from chatd.master.scoreboard import Scoreboard
from chatd.master.spawn import Serve
from chatd.master.systemd import Notifier, inherited_sockets
from chatd.master.udp_sockets import Datagrams, is_datagram


def run(loaded: Loaded, allow_root: bool, serve: Serve, announcer: Announcer) -> int:
    """Start, serve until stopped, and return the exit code. Raises BootError before anything was forked."""
    config = loaded.config
    notifier = Notifier(os.environ)
    inherited = inherited_sockets(os.environ)
    who = privileges.identity(config.server, allow_root)
    os.umask(0o027)
    privileges.raise_descriptor_limit()
    directories.prepare(config.server, who)
    lock = Lock(config.server, who)
    try:
        return _under_lock(loaded, who, lock, inherited, notifier, serve, announcer)
    finally:
        lock.release()


def _under_lock(
    loaded: Loaded,
    who: Identity | None,
    lock: Lock,
    inherited: list[socket.socket],
    notifier: Notifier,
    serve: Serve,
    announcer: Announcer,
) -> int:
    config = loaded.config
    directories.prepare_bus(config.server, who)
    streams = [one for one in config.listen if not is_datagram(one)]
    bound, strangers = listeners.bind_all(streams, inherited, lock.crashed)
    datagrams = Datagrams(config.listen, who)
    datagrams.bind_first(workers_of(config), lock.crashed)
    privileges.drop(who)
    scoreboard = Scoreboard()
    _open_log(loaded, scoreboard)
    for stranger in strangers:
        log.get().warning("a socket from systemd matches no [[listen]]", address=str(stranger.getsockname()))
        stranger.close()
    master = Master(loaded, scoreboard, bound, datagrams, lock, notifier, serve, announcer)
    gc.freeze()  # the pages of what exists now stay shared with the workers
    try:
        code = master.run()
    except Exception:
        log.get().exception("the master ended by a bug; its workers drain and leave")
        raise
    listeners.close_all(bound)
    datagrams.close()
    return code


def _open_log(loaded: Loaded, scoreboard: Scoreboard) -> None:
    config, row = loaded.config, scoreboard.master_row
    row.pid = os.getpid()
    try:
        log.setup(config.log, config.server.log_dir, row, row, worker="master")
    except OSError as error:
        raise BootError(f"{error.filename}: cannot be written: {error.strerror}", Exit.CANNOT_CREATE) from None
