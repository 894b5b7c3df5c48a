"""What `chatctl webhook` does: listing, testing, enabling, replaying and forgetting.

Owns: the change in the store, what is printed, what is recorded.
Elsewhere: what is shown of a row, and where a replay begins (webhooks.overview), the event that tests (webhooks.trial),
the command line (chatctl.webhooks.arguments), the same for applications (http.resources.webhooks).
Fails: the exceptions of ControlClient, ConfigError, BootError, Refused and Unavailable, which chatctl.__main__ reports.

The server is not told: whoever delivers loses the lease by the change, and goes on from it within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chatd import wall_clock
from chatd.chatctl import render
from chatd.chatctl.configured import NOT_DONE, find, may_forget, say_changed, say_tried
from chatd.chatctl.control_client import ControlClient
from chatd.chatctl.store_command import StoreCommands, begin
from chatd.config import load as config_load
from chatd.config.schema import Config
from chatd.errors import Exit
from chatd.store.contract import Tables
from chatd.store.event_contract import WebhookState
from chatd.webhooks import overview
from chatd.webhooks.overview import Place


def webhooks(client: ControlClient, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    config = config_load.load(options.config).config
    if options.what == "test":
        return _test(config, options)
    trail = begin(config, client)
    return WebhookCommands(config, trail, options).run()


class WebhookCommands(StoreCommands):
    def verbs(self) -> Mapping[str, Callable[[], int]]:
        return {
            "list": self._list,
            "enable": self._enable,
            "replay": self._replay,
            "forget": self._forget,
        }

    def _list(self) -> int:
        with contextlib.closing(self._store.open()) as tables:
            found = [_shown(tables, one, self._config) for one in overview.all_of(tables)]
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
        if not may_forget(self._config.webhook, name, "webhook"):
            return NOT_DONE
        return self._changed("webhook forget", {"name": name}, lambda tables: tables.webhooks.forget(name))

    def _replay(self) -> int:
        options = self._options
        at_ms = None if options.since_s is None else wall_clock.now_ms() - int(1000 * options.since_s)
        place = Place(at_ms=at_ms, position=options.position)

        def replay(tables: Tables) -> bool:
            return tables.webhooks.replay(options.name, place.find(tables))

        where = {"name": options.name, "since_s": options.since_s or 0.0, "now": options.now}
        return self._changed("webhook replay", {key: str(value) for key, value in where.items()}, replay)

    def _changed(self, order: str, arguments: dict[str, str], work: Callable[[Tables], bool]) -> int:
        with self._trail.ordered(order, arguments):
            done = self._store.change(work)
        return say_changed(self._options.name, "webhook", done=done, as_json=self._options.json)


# -------------------------------------------------------------------- testing


def _test(config: Config, options: argparse.Namespace) -> int:
    found = find(config.webhook, options.name, "webhook")
    if found is None:
        return NOT_DONE
    from chatd.webhooks.trial import try_out

    error, took_ms = asyncio.run(try_out(found))
    return say_tried(found.name, error, "the receiver took the event", as_json=options.json, took_ms=took_ms)


# -------------------------------------------------------------------- how it looks


def _shown(tables: Tables, state: WebhookState, config: Config) -> dict[str, Any]:
    found = overview.view(state, overview.backlog(tables.events, state), config, wall_clock.now_ms())
    shown: dict[str, Any] = msgspec.to_builtins(found)
    return shown


def _table(found: list[dict[str, object]]) -> str:
    if not found:
        return "there are no webhooks"
    rows = [
        [str(one[key]) for key in ("name", "state", "waiting", "delivered", "failures", "dropped")]
        + [render.at(int(str(one["delivered_at_ms"]))) if one["delivered_at_ms"] else "-", str(one["error"])]
        for one in found
    ]
    return render.table(["NAME", "STATE", "WAITING", "DELIVERED", "FAILURES", "DROPPED", "LAST", "ERROR"], rows)
