"""What `chatctl webhook` does: listing, testing, enabling, replaying and forgetting.

Owns: the change in the store, what is printed, what is recorded.
Elsewhere: the rows (store.event_contract), delivering (webhooks), the command line (chatctl.webhooks.arguments).
Fails: the exceptions of ControlClient, ConfigError, BootError, Refused and Unavailable, which chatctl.__main__ reports.

The server is not told: whoever delivers loses the lease by the change, and goes on from it within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Callable

from chatd import wall_clock
from chatd.chatctl import render
from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.control_client import ControlClient, note
from chatd.chatctl.store_command import begin
from chatd.chatctl.trail import StoreTrail
from chatd.config import load as config_load
from chatd.config.schema import Config
from chatd.config.webhook_options import WebhookOptions
from chatd.errors import Exit
from chatd.store.bridge_contract import READER
from chatd.store.contract import EventKind, Tables
from chatd.store.event_contract import Position, WebhookState

NOT_DONE = 1
"""Exit code: there is no such webhook, or (test) its receiver does not take events."""


def webhooks(client: ControlClient, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    config = config_load.load(options.config).config
    if options.what == "test":
        return _test(config, options)
    trail = begin(config, client)
    return WebhookCommands(config, trail, options).run()


class WebhookCommands:
    def __init__(self, config: Config, trail: StoreTrail, options: argparse.Namespace) -> None:
        self._config = config
        self._trail = trail
        self._options = options
        self._store = StoredAccounts(config)

    def run(self) -> int:
        verbs: dict[str, Callable[[], int]] = {
            "list": self._list,
            "enable": self._enable,
            "replay": self._replay,
            "forget": self._forget,
        }
        return verbs[self._options.what]()

    def _list(self) -> int:
        with contextlib.closing(self._store.open()) as tables:
            states = [one for one in tables.webhooks.all() if not one.name.startswith(READER)]
            found = [_shown(tables, one, self._config) for one in states]
        if self._options.json:
            render.print_json({"v": 1, "webhooks": found})
        else:
            print(_table(found))
        return Exit.OK

    def _enable(self) -> int:
        name = self._options.name
        return self._changed("webhook enable", {"name": name}, lambda tables: tables.webhooks.enable(name))

    def _forget(self) -> int:
        name = self._options.name
        if any(one.name == name for one in self._config.webhook):
            note(f"{name} is configured: it would be registered again; remove its [[webhook]] first")
            return NOT_DONE
        return self._changed("webhook forget", {"name": name}, lambda tables: tables.webhooks.forget(name))

    def _replay(self) -> int:
        options = self._options

        def replay(tables: Tables) -> bool:
            return tables.webhooks.replay(options.name, self._wanted(tables))

        where = {"name": options.name, "since_s": options.since_s or 0.0, "now": options.now}
        return self._changed("webhook replay", {key: str(value) for key, value in where.items()}, replay)

    def _wanted(self, tables: Tables) -> Position:
        options = self._options
        if options.now:
            return tables.events.marks()
        if options.position is not None:
            return Position(*options.position)
        return tables.webhooks.position_at(wall_clock.now_ms() - int(1000 * options.since_s))

    def _changed(self, order: str, arguments: dict[str, str], work: Callable[[Tables], bool]) -> int:
        with self._trail.ordered(order, arguments):
            done = self._store.change(work)
        name = self._options.name
        if self._options.json:
            render.print_json({"v": 1, "name": name, "done": done})
        elif not done:
            note(f"the store knows no webhook {name}: a server registers those of its configuration when it starts")
        return Exit.OK if done else NOT_DONE


# -------------------------------------------------------------------- testing


def _test(config: Config, options: argparse.Namespace) -> int:
    found = next((one for one in config.webhook if one.name == options.name), None)
    if found is None:
        names = ", ".join(one.name for one in config.webhook) or "none"
        note(f"there is no [[webhook]] {options.name} in the configuration (there is: {names})")
        return NOT_DONE
    begun = time.monotonic()
    error = asyncio.run(_send_test(found))
    taken_ms = round((time.monotonic() - begun) * 1000)
    if options.json:
        render.print_json({"v": 1, "name": found.name, "ok": not error, "error": error, "ms": taken_ms})
    elif error:
        note(f"{found.name}: {error} ({taken_ms} ms)")
    else:
        print(f"{found.name}: the receiver took the event ({taken_ms} ms)")
    return NOT_DONE if error else Exit.OK


async def _send_test(options: WebhookOptions) -> str:
    """Why it was not taken; "" = it was."""
    from chatd.webhooks.payload import test_body
    from chatd.webhooks.sender import Sender

    sender, now_ms = Sender(options), wall_clock.now_ms()
    try:
        return (await sender.send(f"msg_test_{now_ms}", test_body(options.name, now_ms))).error
    finally:
        await sender.close()


# -------------------------------------------------------------------- how it looks


def _shown(tables: Tables, state: WebhookState, config: Config) -> dict[str, object]:
    kinds = [EventKind(kind) for kind in state.kinds if kind in set(EventKind)]
    end = tables.events.marks()
    return {
        "name": state.name,
        "state": _word(state),
        "configured": any(one.name == state.name for one in config.webhook),
        "events": list(state.kinds),
        "waiting": tables.events.count(state.position, end, kinds),
        "position": f"{state.position.message}:{state.position.event}",
        "delivered": state.delivered,
        "delivered_at_ms": state.delivered_at_ms,
        "failures": state.failures,
        "failed_at_ms": state.failed_at_ms,
        "error": state.error,
        "disabled_at_ms": state.disabled_at_ms,
        "dropped": state.dropped,
        "holder": state.holder,
    }


def _word(state: WebhookState) -> str:
    if state.disabled_at_ms:
        return "disabled"
    if state.failures:
        return "failing"
    return "delivering" if state.holder else "idle"


def _table(found: list[dict[str, object]]) -> str:
    if not found:
        return "there are no webhooks"
    rows = [
        [str(one[key]) for key in ("name", "state", "waiting", "delivered", "failures", "dropped")]
        + [render.at(int(str(one["delivered_at_ms"]))) if one["delivered_at_ms"] else "-", str(one["error"])]
        for one in found
    ]
    return render.table(["NAME", "STATE", "WAITING", "DELIVERED", "FAILURES", "DROPPED", "LAST", "ERROR"], rows)
