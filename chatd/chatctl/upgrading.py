"""`chatctl upgrade`: the installed code takes over from the running one.

Owns: the command, its progress and its result.
Elsewhere: the upgrade (master.upgrade), asking (chatctl.control_client).
Fails: as chatctl.commands, with the exit code of the installed code's preflight if that refuses; 75 if a worker of the
earlier version could not be replaced, which then serves on.
"""

from __future__ import annotations

import argparse
import signal

from chatd.chatctl import render
from chatd.chatctl.control_client import ControlClient, ServerUnreachable, note
from chatd.chatctl.progress import Progress
from chatd.chatctl.rolling import replaced
from chatd.errors import Exit
from chatd.master.replies import UpgradeReply
from chatd.master.requests import UpgradeRequest

EPILOG = """example:
  pip install --upgrade chatd && chatctl upgrade && chatctl status

The exit code is 0 when every worker runs the installed code. If the installed code would not serve (a library is
missing, the configuration is wrong for it, the store needs a migration), nothing is changed."""


def upgrade(client: ControlClient, options: argparse.Namespace) -> int:
    """Waits for as long as the upgrade takes. By SIGUSR2 if the socket is missing: then only the log has its result."""
    with Progress("upgrading") as progress:
        try:
            reply = client.ask(UpgradeRequest(), UpgradeReply, limit_s=None, meanwhile=replaced(client, progress))
        except ServerUnreachable as error:
            client.signal_instead(signal.SIGUSR2, error)
            note("sent; the result is in the log")
            return Exit.OK
    if options.json:
        render.print_json(reply)
    else:
        print(render.upgraded(reply))
    return Exit.OK
