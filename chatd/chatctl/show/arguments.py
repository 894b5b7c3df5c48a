"""The command line of the commands that look at a running server.

Owns: their arguments and help.
Elsewhere: the rest of the command line (chatctl.__main__), what each command does (the other modules of chatctl.show).
Fails: never.
"""

from __future__ import annotations

import argparse
from typing import get_args

from chatd import completion
from chatd.arguments import duration_s
from chatd.chatctl.add_command import AS_JSON, NETWORK, Add, network
from chatd.chatctl.control_client import ControlClient
from chatd.chatctl.show import clients, log_level, top, trace
from chatd.client_list import Order
from chatd.config.schema import LogLevel

WIRES = ("chatserver", "mobileimsdk", "tcp", "tls", "ws", "wss", "udp", "unix")
TRACED_S = 600.0


def add_commands(add: Add) -> None:
    """Add top, clients, trace, doctor and log-level."""
    _add_top(add)
    _add_clients(add)
    _add_trace(add)
    _add_doctor(add)
    text = "show the minimum level logged, or set it until the next reload"
    level = add("log-level", log_level.log_level, text, "chatctl log-level DEBUG --worker 1")
    level.add_argument("level", nargs="?", type=str.upper, choices=get_args(LogLevel), help="the new level")
    level.add_argument("--worker", metavar="SLOT", type=int, action="append", help="only of this worker; repeatable")
    level.add_argument("--json", action="store_true", help=AS_JSON)


def _add_top(add: Add) -> None:
    one = add("top", top.top, "show what is going on, live; keys are shown at the bottom", "chatctl top --interval 0.5")
    one.add_argument(
        "--interval", metavar="SECONDS", type=_interval, default=top.INTERVAL_S, help="default: %(default)s"
    )
    one.add_argument(
        "--sort", choices=tuple(top.SORTS), default="slot", help="column to sort by (default: %(default)s)"
    )
    one.add_argument("--once", action="store_true", help="measure for one interval, print once and exit; for scripts")
    one.add_argument("--json", action="store_true", help=f"with --once or without a terminal: {AS_JSON}")


def _interval(text: str) -> float:
    seconds = float(text)
    if not top.LEAST_S <= seconds <= top.MOST_S:
        raise argparse.ArgumentTypeError(f"must be {top.LEAST_S:g} to {top.MOST_S:g}")
    return seconds


def _add_clients(add: Add) -> None:
    text = "show who is logged in: wire, address, since when, messages in flight and waiting"
    one = add("clients", clients.clients, text, "chatctl clients --wire udp --idle 5min --sort idle --reverse")
    one.add_argument("user", nargs="?", metavar="USER", help="only this user, a name or an id")
    one.add_argument("--wire", choices=WIRES, default="", help="only this wire, or what carries it")
    one.add_argument(
        "--address", metavar="ADDRESS|NETWORK", type=network, default=None, help=f"only those from there: {NETWORK}"
    )
    one.add_argument(
        "--idle", metavar="TIME", type=duration_s, default=0.0, help="only those silent for this long (5min)"
    )
    orders = [order.replace("_", "-") for order in get_args(Order)]
    one.add_argument("--sort", choices=orders, default="since", help="default: %(default)s")
    one.add_argument("--reverse", action="store_true", help="the largest first")
    text = "show at most N (default: %(default)s)"
    one.add_argument("--limit", metavar="N", type=_at_least_one, default=clients.USUAL_ROWS, help=text)
    one.add_argument("--all", action="store_true", help="show all, page by page")
    one.add_argument("--all-hosts", action="store_true", help="of every host of the cluster")
    one.add_argument("--json", action="store_true", help=AS_JSON)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _doctor(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: it needs everything."""
    from chatd.chatctl.doctor import command

    return command.doctor(client, options)


def _add_doctor(add: Add) -> None:
    text = "look for what is wrong with the host, the files and the surroundings of a server; changes nothing"
    one = add("doctor", _doctor, text, "sudo chatctl doctor --all")
    one.add_argument("--all", action="store_true", help="also show what is well")
    one.add_argument("--fast", action="store_true", help="do not read the whole store (PRAGMA quick_check)")
    one.add_argument("--json", action="store_true", help=AS_JSON)


def _add_trace(add: Add) -> None:
    text = "show the way of a message, or of a user's messages, through workers and hosts, from the logs of this host"
    one = add("trace", trace.trace, text, "chatctl trace --on alice --for 10min; chatctl trace 4295032833.17")
    what = "a message (CONVERSATION.SEQ, or its fp) or a user (name or id); nothing: who is traced"
    one.add_argument("what", nargs="?", metavar="MESSAGE|USER", default="", help=what)
    switch = one.add_mutually_exclusive_group()
    switch.add_argument("--on", metavar="USER", default="", help="record each step of the user's messages from now on")
    switch.add_argument("--off", metavar="USER", default="", help="record them no longer")
    one.add_argument("--for", dest="for_s", metavar="TIME", type=duration_s, default=TRACED_S, help="how long (10min)")
    text = "a further log file, of another host for instance; - = standard input; repeatable"
    one.add_argument(
        "--from", dest="files", metavar="FILE", action="append", default=[], help=text
    ).complete = completion.FILE  # type: ignore[attr-defined]
    one.add_argument("--json", action="store_true", help=AS_JSON)
