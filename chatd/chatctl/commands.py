"""The commands of chatctl: what each asks, waits for and prints.

Owns: one function per command, which returns the exit code.
Elsewhere: the command line (chatctl.__main__), asking (chatctl.control_client), how replies look (chatctl.render),
accounts (chatctl.account_commands), whole stores (chatctl.stores).
Fails: the exceptions of control_client, ConfigError, BootError, Refused and Unavailable, which __main__ reports.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time

from chatd import host_check
from chatd.arguments import without_passwords
from chatd.chatctl import render
from chatd.chatctl.control_client import ControlClient, NotAllowed, ServerUnreachable, note
from chatd.chatctl.ownership import become_owner
from chatd.chatctl.show import server as show_server
from chatd.config import load as config_load
from chatd.config import render as config_render
from chatd.config.schema import Config
from chatd.errors import Exit
from chatd.master.health import Reason
from chatd.master.replies import (
    ClearPenaltiesReply,
    ConfigDiffReply,
    ConfigReply,
    ControlReply,
    PenaltiesReply,
    ReloadReply,
    ScaleReply,
)
from chatd.master.requests import (
    ClearPenaltiesRequest,
    ConfigDiffRequest,
    ConfigRequest,
    PenaltiesRequest,
    ReloadRequest,
    ReopenRequest,
    ScaleRequest,
    StopRequest,
)
from chatd.master.status import Status

GONE_S = 10.0
"""Time from the reply that the workers have left until the master must be gone too."""
STOP_BY_SIGNAL_S = 3700.0
"""Longer than the longest timeouts.drain_s."""
SCALE_S = 30.0
MOST_SIGNALS = 8
"""Maximum workers to start or stop by signals, without the control socket."""
DEAD_WITH_PIDFILE, NOT_RUNNING, UNKNOWN = 1, 3, 4
NOT_REACHABLE = "not-reachable"
"""The code of the reason in `chatctl check --json` when there is no server, or it does not answer."""


# ---------------------------------------------------------------- the server


def status(client: ControlClient, options: argparse.Namespace) -> int:
    """`status` and `workers`. Exit codes of LSB; without a server, what the pid file says."""
    try:
        if options.json:
            print(client.status_json())
            return Exit.OK
        server = client.status()
    except (ServerUnreachable, NotAllowed) as error:
        return _without_status(client, error, as_json=options.json)
    print(show_server.workers(server) if options.command == "workers" else show_server.status(server))
    return Exit.OK


def _without_status(client: ControlClient, why: ServerUnreachable | NotAllowed, *, as_json: bool) -> int:
    """The status as far as the pid file shows it, with the exit codes of LSB."""
    state, code, pid = "unknown", UNKNOWN, 0
    try:
        running, pid = client.running()
    except NotAllowed as error:
        text = str(error)
    else:
        if isinstance(why, NotAllowed):
            text = str(why)
        elif running:
            text = client.explain(why)
        elif pid:
            state, code = "dead", DEAD_WITH_PIDFILE
            text = f"not running: pid {pid} ended without removing its pid file in {client.runtime_dir}"
        elif client.certain:
            state, code = "not running", NOT_RUNNING
            text = f"not running: no server in {client.runtime_dir}"
        else:
            text = f"no server in {client.runtime_dir}, but the configuration cannot be read"
    if as_json:
        render.print_json({"v": 1, "state": state, "pid": pid, "workers": []})
    note(text)
    return code


def check(client: ControlClient, options: argparse.Namespace) -> int:
    """Exit code: 0 good, 1 degraded, 2 critical; a server that cannot be asked is critical."""
    try:
        server = client.status()
    except (ServerUnreachable, NotAllowed) as error:
        reasons = [Reason(code=NOT_REACHABLE, text=_why_unreachable(client, error), critical=True)]
        code, text = show_server.CRITICAL, f"CRITICAL: {reasons[0].text}"
    else:
        reasons = server.reasons
        code, text = show_server.check(server)
    if options.json:
        word = text.partition(":")[0].lower()
        render.print_json({"v": 1, "result": word, "exit": code, "reasons": reasons})
    else:
        print(text)
    return code


def _why_unreachable(client: ControlClient, error: ServerUnreachable | NotAllowed) -> str:
    if isinstance(error, NotAllowed):
        return str(error)
    try:
        return client.explain(error)
    except NotAllowed as denied:
        return str(denied)


def reload(client: ControlClient, options: argparse.Namespace) -> int:
    """The server reads and checks the file itself, so that a mistake is logged and counted."""
    try:
        reply = client.ask(ReloadRequest(), ReloadReply)
    except ServerUnreachable as error:
        loaded = config_load.load(options.config)
        host_check.check(loaded.config, loaded.name)
        client.signal_instead(signal.SIGHUP, error)
        note("sent; the result is in the log")
        return Exit.OK
    print(render.reloaded(reply))
    return Exit.OK


def reopen(client: ControlClient, _options: argparse.Namespace) -> int:
    """By SIGUSR1 if the socket is missing."""
    try:
        client.ask(ReopenRequest(), ControlReply)
    except ServerUnreachable as error:
        client.signal_instead(signal.SIGUSR1, error)
    return Exit.OK


def stop(client: ControlClient, options: argparse.Namespace) -> int:
    """Waits until the master has ended. By a signal if the socket is missing. Exit code 75 if the master is still there
    GONE_S after its workers have left."""
    try:
        client.ask(StopRequest(fast=options.fast), ControlReply, limit_s=None)
    except ServerUnreachable as error:
        if not client.running()[0]:
            raise
        if not _already_stopping(client):
            error.asked = False  # a second stop does no harm
            client.signal_instead(signal.SIGINT if options.fast else signal.SIGTERM, error)
            client.wait_gone(STOP_BY_SIGNAL_S)
        return Exit.OK
    if not client.wait_gone(GONE_S):
        note(f"all workers have left, but the master is still there after {GONE_S:g} s")
        return Exit.TRY_AGAIN
    return Exit.OK


def _already_stopping(client: ControlClient) -> bool:
    """The socket disappeared because the server was already stopping."""
    return not client.path.exists() and client.wait_gone(1.0)


def config(client: ControlClient, options: argparse.Namespace) -> int:
    """The configuration in effect, or the changes of the file that are pending."""
    if options.what == "diff":
        difference = client.ask(ConfigDiffRequest(), ConfigDiffReply)
        render.print_json(difference) if options.json else print(render.pending(difference))
        return Exit.OK
    shown = client.ask(ConfigRequest(), ConfigReply)
    if options.json:
        render.print_json(shown)
    else:
        sys.stdout.write(config_render.sections(shown.config))
    return Exit.OK


def scale(client: ControlClient, options: argparse.Namespace) -> int:
    """Waits until the workers are ready, at most SCALE_S, then exit code 75. Steps work by signals if the socket is
    missing."""
    number, is_step = int(options.workers), options.workers[0] in "+-"
    request = ScaleRequest(step=number if is_step else 0, workers=0 if is_step else number, force=options.force)
    try:
        client.ask(request, ScaleReply)
    except ServerUnreachable as error:
        if not is_step or abs(number) > MOST_SIGNALS:
            note(f"without the control socket, use a step such as +1; the limit is {MOST_SIGNALS} at a time")
            raise
        client.signal_instead(signal.SIGTTIN if number > 0 else signal.SIGTTOU, error, abs(number))
        return Exit.OK
    until = time.monotonic() + SCALE_S
    while (server := client.status()).workers_ready != server.workers_wanted:
        if time.monotonic() > until:
            note(f"{server.workers_ready} of {server.workers_wanted} workers are ready; see `chatctl workers`")
            return Exit.TRY_AGAIN
        time.sleep(0.05)
    print(f"workers: {server.workers_ready}")
    return Exit.OK


def penalties(client: ControlClient, options: argparse.Namespace) -> int:
    """Show them, or clear some or all."""
    if options.what == "clear":
        request = ClearPenaltiesRequest(subject=options.subject, everything=options.all)
        print(f"records removed: {client.ask(request, ClearPenaltiesReply).records}")
        return Exit.OK
    reply = client.ask(PenaltiesRequest(), PenaltiesReply)
    if options.json:
        render.print_json(reply)
    else:
        print(render.penalties(reply))
    return Exit.OK


# ---------------------------------------------------------------- whole stores


def store(client: ControlClient, options: argparse.Namespace) -> int:
    """migrate, copy-store and import-chatserver, which need a store for themselves."""
    from chatd.chatctl.trail import StoreTrail  # with the log, which no other command of these needs

    config = config_load.load(options.config).config
    trail = StoreTrail(config, client)
    arguments = {
        name: without_passwords(getattr(options, name)) for name in ("source", "destination") if name in options
    }
    for name in arguments:  # before privileges are dropped: root may read more
        setattr(options, name, config_load.secret(getattr(options, name), name))
    changes_nothing = getattr(options, "dry_run", False)
    become_owner(config, create=options.command != "migrate" and not changes_nothing)
    with contextlib.nullcontext() if changes_nothing else trail.ordered(options.command, arguments):
        return _store(config, client, options)


def _store(config: Config, client: ControlClient, options: argparse.Namespace) -> int:
    from chatd.chatctl import stores

    if options.command == "copy-store":
        return stores.copy_store(config, options.source, options.destination)
    if options.command == "import-chatserver":
        return _take_over(config, options)
    how = stores.MigrateOptions(options.dry_run, not options.no_backup, options.backup, not options.no_vacuum)
    return stores.migrate(config, _status_or_none(client), how)


def _take_over(config: Config, options: argparse.Namespace) -> int:
    from chatd.chatctl import import_legacy

    if options.undo:
        return import_legacy.undo(config, force=options.force)
    asked = import_legacy.LegacyImport(
        url=options.source,
        charset=options.charset,
        dry_run=options.dry_run,
        rejected=options.rejected,
        old_servers=options.old_server,
        even_if_running=options.even_if_running,
    )
    return import_legacy.import_chatserver(config, asked)


def _status_or_none(client: ControlClient) -> Status | None:
    try:
        return client.status()
    except (ServerUnreachable, NotAllowed):
        return None
