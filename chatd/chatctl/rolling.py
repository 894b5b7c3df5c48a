"""`chatctl restart-workers`, `drain` and `undrain`: workers that leave while the server serves, or for good.

Owns: the commands, the progress and the result of a restart.
Elsewhere: the work itself (master.rolling), asking (chatctl.control_client).
Fails: as chatctl.commands; exit code 75 if a worker was not replaced, which then serves on.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
from collections.abc import Callable

import msgspec

from chatd.chatctl import render
from chatd.chatctl.control_client import ControlClient, NotAllowed, RequestFailed, ServerUnreachable, note
from chatd.chatctl.progress import Progress
from chatd.errors import Exit
from chatd.master.replies import ControlReply, RestartReply
from chatd.master.requests import DrainRequest, RestartWorkersRequest, UndrainRequest


def restart_workers(client: ControlClient, options: argparse.Namespace) -> int:
    """Waits for as long as the restart takes, and prints the result also if it failed. Exit code 75 if a worker was not
    replaced."""
    with Progress("replacing workers") as progress:
        try:
            reply = client.ask(
                RestartWorkersRequest(), RestartReply, limit_s=None, meanwhile=replaced(client, progress)
            )
        except RequestFailed as error:
            return _not_all(error, as_json=options.json)
    _print(reply, as_json=options.json)
    return Exit.OK


def replaced(client: ControlClient, progress: Progress) -> Callable[[], None]:
    """A function that shows how many workers have been replaced by now."""

    def look() -> None:
        with contextlib.suppress(ServerUnreachable, NotAllowed):
            under_way = client.status().restart
            if under_way is not None:
                progress.reach("workers replaced")(under_way.replaced, under_way.workers)

    return look


def _not_all(error: RequestFailed, *, as_json: bool) -> int:
    with contextlib.suppress(msgspec.DecodeError):  # refused before anything was done
        _print(msgspec.json.decode(error.data, type=RestartReply), as_json=as_json)
    note(str(error))
    return error.exit_code


def _print(reply: RestartReply, *, as_json: bool) -> None:
    if as_json:
        render.print_json(reply)
    else:
        print(render.restarted(reply))


def drain(client: ControlClient, _options: argparse.Namespace) -> int:
    """Waits for as long as the workers take, at most timeouts.drain_s."""
    try:
        client.ask(DrainRequest(), ControlReply, limit_s=None)
    except ServerUnreachable as error:
        client.signal_instead(signal.SIGWINCH, error)
        note("sent; `chatctl status` shows the state")
        return Exit.OK
    print("this host is drained; `chatctl undrain` lets it serve again")
    return Exit.OK


def undrain(client: ControlClient, _options: argparse.Namespace) -> int:
    """Waits until every worker is ready; exit code 75 if the server gives up waiting."""
    try:
        client.ask(UndrainRequest(), ControlReply, limit_s=None)
    except ServerUnreachable as error:
        client.signal_instead(signal.SIGTTIN, error)
        note("sent; `chatctl status` shows the state")
        return Exit.OK
    print(f"this host serves again, workers: {client.status().workers_ready}")
    return Exit.OK
