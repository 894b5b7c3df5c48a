"""`chatctl log-level`: how much is logged, by the master and by each worker.

Owns: asking, setting, and showing it.
Elsewhere: the levels (log), setting them (master.master, worker).
Fails: as asking the server does (chatctl.control_client).
"""

from __future__ import annotations

import argparse

from chatd.chatctl.control_client import ControlClient
from chatd.chatctl.render import print_json, table
from chatd.errors import BootError, Exit
from chatd.master.replies import LogLevelReply
from chatd.master.requests import LogLevelRequest, LogLevelsRequest


def log_level(client: ControlClient, options: argparse.Namespace) -> int:
    """Show the levels, or set the one of all processes or of some workers until the next reload. Raises BootError,
    exit 64, for workers without a level."""
    if options.level is None and options.worker:
        raise BootError("--worker sets the level of these workers: give the LEVEL, too", Exit.USAGE)
    if options.level is None:
        reply = client.ask(LogLevelsRequest(), LogLevelReply)
    else:
        workers = tuple(options.worker) if options.worker else None
        reply = client.ask(LogLevelRequest(level=options.level, workers=workers), LogLevelReply)
    if options.json:
        print_json(reply)
    elif options.level is None:
        rows = [["master", reply.master], *([f"worker {one.slot}", one.level] for one in reply.workers)]
        print(table(["PROCESS", "LEVEL"], rows))
    return Exit.OK
