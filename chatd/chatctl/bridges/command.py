"""What `chatctl bridge` does: listing, testing and forgetting.

Owns: the change in the store, what is printed, what is recorded.
Elsewhere: the rows (store.bridge_contract, store.event_contract), moving messages (bridges), the command line
(chatctl.bridges.arguments), what is said as of webhooks (chatctl.configured).
Fails: the exceptions of ControlClient, ConfigError, BootError, Refused and Unavailable, which chatctl.__main__ reports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from chatd.chatctl import render
from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.configured import NOT_DONE, find, may_forget, say_changed, say_tried
from chatd.chatctl.control_client import ControlClient
from chatd.chatctl.store_command import begin
from chatd.chatctl.trail import StoreTrail
from chatd.config import load as config_load
from chatd.config.bridge_options import BridgeOptions
from chatd.config.schema import Config
from chatd.errors import Exit
from chatd.store.bridge_contract import BRIDGE_READER
from chatd.store.contract import Tables
from chatd.store.event_contract import WebhookState


def bridges(client: ControlClient, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    config = config_load.load(options.config).config
    if options.what == "test":
        return _test(config, options)
    trail = begin(config, client)
    if options.what == "forget":
        return _forget(config, trail, options)
    return _list(config, options)


def _list(config: Config, options: argparse.Namespace) -> int:
    with contextlib.closing(StoredAccounts(config).open()) as tables:
        states = [one for one in tables.webhooks.all() if one.name.startswith(BRIDGE_READER)]
        found = [_shown(tables, one, config) for one in states]
    if options.json:
        render.print_json({"v": 1, "bridges": found})
    else:
        print(_table(found))
    return Exit.OK


def _forget(config: Config, trail: StoreTrail, options: argparse.Namespace) -> int:
    name = options.name
    if not may_forget(config.bridge, name, "bridge"):
        return NOT_DONE

    def forget(tables: Tables) -> bool:
        tables.bridges.close(name)
        return tables.webhooks.forget(BRIDGE_READER + name)

    with trail.ordered("bridge forget", {"name": name}):
        done = StoredAccounts(config).change(forget)
    return say_changed(name, "bridge", done=done, as_json=options.json)


# -------------------------------------------------------------------- testing


def _test(config: Config, options: argparse.Namespace) -> int:
    found = find(config.bridge, options.name, "bridge")
    if found is None:
        return NOT_DONE
    error = asyncio.run(_connect(found))
    return say_tried(found.name, error, "RabbitMQ answers, and has the queues", as_json=options.json)


async def _connect(options: BridgeOptions) -> str:
    """Why the bridge would not work; "" = it would. Makes the queues that are missing."""
    from chatd.bridges.link import Link, LinkFailed

    link = Link(options, "test")
    try:
        await link.open()
    except LinkFailed as failed:
        return str(failed)
    await link.close()
    return ""


# -------------------------------------------------------------------- how it looks


def _shown(tables: Tables, state: WebhookState, config: Config) -> dict[str, object]:
    name = state.name.removeprefix(BRIDGE_READER)
    return {
        "name": name,
        "state": _word(state),
        "configured": any(one.name == name for one in config.bridge),
        "users": tables.bridges.users(name),
        "waiting": tables.outgoing.count(name, state.position.message, tables.events.marks().message),
        "sent": state.delivered,
        "sent_at_ms": state.delivered_at_ms,
        "failures": state.failures,
        "failed_at_ms": state.failed_at_ms,
        "error": state.error,
        "holder": state.holder,
    }


def _word(state: WebhookState) -> str:
    if state.failures:
        return "failing"
    return "working" if state.holder else "idle"


def _table(found: list[dict[str, object]]) -> str:
    if not found:
        return "there are no bridges"
    rows = [
        [str(one[key]) for key in ("name", "state", "users", "waiting", "sent", "failures")]
        + [render.at(int(str(one["sent_at_ms"]))) if one["sent_at_ms"] else "-", str(one["error"])]
        for one in found
    ]
    return render.table(["NAME", "STATE", "USERS", "WAITING", "SENT", "FAILURES", "LAST", "ERROR"], rows)
