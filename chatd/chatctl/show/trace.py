"""`chatctl trace`: the way of a message through workers and hosts.

Owns: switching tracing on and off, and showing what the logs say of a message, or of a user's messages.
Elsewhere: the records (core.tracing), reading them (chatctl.show.trace_log), who is traced (master.questions.tracing).
Fails: exit code 1 if the logs say nothing of it.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from chatd.chatctl.control_client import ControlClient, note
from chatd.chatctl.render import duration, print_json, table
from chatd.chatctl.show import trace_log
from chatd.chatctl.show.trace_log import Traced
from chatd.config import load as config_load
from chatd.errors import BootError, ConfigError, Exit, Refused, Unavailable
from chatd.master.replies import TraceReply
from chatd.master.requests import ListTracesRequest, TraceRequest

NOTHING_FOUND = 1
STANDARD_ERROR = '"-" (standard error)'


def trace(client: ControlClient, options: argparse.Namespace) -> int:
    """Switch tracing on or off, show who is traced, or search the logs; exit code 1 if they say nothing."""
    if options.on or options.off:
        request = TraceRequest(user=options.on or options.off, for_s=options.for_s if options.on else 0.0)
        return _show_traced(client.ask(request, TraceReply), as_json=options.json)
    if not options.what:
        return _show_traced(client.ask(ListTracesRequest(), TraceReply), as_json=options.json)
    return _show_way(options)


def _show_traced(reply: TraceReply, *, as_json: bool) -> int:
    if as_json:
        print_json(reply)
    elif reply.traced:
        rows = [[one.name, str(one.user_id), duration(one.remaining_s)] for one in reply.traced]
        print(table(["USER", "ID", "TRACED FOR"], rows))
    else:
        print("nobody is traced")
    return Exit.OK


# ---------------------------------------------------------------- what the logs say


def _show_way(options: argparse.Namespace) -> int:
    """Raises ConfigError where the log is not in files and none are named."""
    config = config_load.load(options.config).config
    if config.server.log_dir == "-" and not options.files:
        text = "give the log by --from: journalctl -u chatd -o cat | chatctl trace --from - ID"
        raise ConfigError(f"server.log_dir is {STANDARD_ERROR}; {text}")
    own = [] if config.server.log_dir == "-" else trace_log.files_of(config.server.log_dir)
    records = trace_log.read([*own, *options.files])
    found = trace_log.of_message(records, options.what)
    if not found:
        found = trace_log.of_user(records, _ids_of(options))
    if options.json:
        print_json({"v": 1, "what": options.what, "steps": found})
    elif found:
        print(_way(found))
    if not found:
        note(f"nothing is logged about {options.what}; only users switched on by `chatctl trace --on USER` are traced")
    return Exit.OK if found else NOTHING_FOUND


def _ids_of(options: argparse.Namespace) -> set[int]:
    """The ids that a user's name or id can mean. The store is asked if it can be read."""
    ids = {int(options.what)} if options.what.isdecimal() else set()
    from chatd.chatctl.accounts import StoredAccounts

    try:
        user, _ = StoredAccounts(config_load.load(options.config).config).show(options.what)
    except (Refused, Unavailable, BootError, PermissionError):
        return ids
    return ids | {user.id}


def _way(found: list[Traced]) -> str:
    """A table per message, the steps with the time since its first one."""
    by_message: dict[str, list[Traced]] = {}
    ids = {(one.sender, one.fp): one.message for one in found if one.fp and one.message}
    for one in found:
        by_message.setdefault(one.message or ids.get((one.sender, one.fp), "") or f"fp {one.fp}", []).append(one)
    return "\n\n".join(_way_of(message, steps) for message, steps in by_message.items())


def _way_of(message: str, steps: list[Traced]) -> str:
    began = _seconds(steps[0].time)
    known = max(steps, key=lambda one: (bool(one.sender), bool(one.message)))  # before it is stored, less is known
    to = f"group {known.group}" if known.group else f"{known.to}"
    head = f"message {message}" + (f", fp {known.fp}" if known.fp else "")
    if known.sender:
        head += f", from {known.sender} to {to}"
    rows = [
        [
            one.time,
            f"+{(_seconds(one.time) - began) * 1000:.0f} ms",
            "-" if one.worker is None else str(one.worker),
            one.trace + (" (repeated)" if one.repeated else ""),
            _details(one),
        ]
        for one in steps
    ]
    return head + "\n" + table(["TIME", "SINCE", "WORKER", "STEP", ""], rows)


def _details(one: Traced) -> str:
    client = f"user {one.user} on {one.wire} at {one.peer}" if one.user else ""
    return ", ".join(filter(None, (client, one.reason)))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
