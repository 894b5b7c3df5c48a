"""What `chatctl key` does: making, listing, rotating and revoking keys of the HTTP API.

Owns: the change in the store, what is printed, what is recorded.
Elsewhere: the form of a key (api_keys), the rows (store.api_key_contract), the command line (chatctl.keys.arguments).
Fails: the exceptions of ControlClient, ConfigError, BootError, Refused and Unavailable, which chatctl.__main__ reports.

The server is not told: its workers find the change in the store, within core.key_ring.CHECK_S.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping

from chatd import api_keys, wall_clock
from chatd.chatctl import render
from chatd.chatctl.control_client import ControlClient, note
from chatd.chatctl.store_command import StoreCommands, begin
from chatd.config import load as config_load
from chatd.errors import Exit
from chatd.security_log import SecurityEvent
from chatd.store.contract import ApiKey, NewApiKey

NOT_DONE = 1
"""Exit code: no valid key has this name."""


def keys(client: ControlClient, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    config = config_load.load(options.config).config
    trail = begin(config, client)
    return KeyCommands(config, trail, options).run()


class KeyCommands(StoreCommands):
    def verbs(self) -> Mapping[str, Callable[[], int]]:
        return {
            "add": self._add,
            "list": self._list,
            "rotate": self._rotate,
            "revoke": self._revoke,
        }

    def _add(self) -> int:
        options, secret, now_ms = self._options, api_keys.new(), wall_clock.now_ms()
        key = NewApiKey(
            name=options.name,
            secret_hash=api_keys.hashed(secret),
            scopes=options.scopes,
            by=self._trail.by,
            expires_at_ms=now_ms + int(1000 * options.for_s) if options.for_s else 0,
        )
        number = self._store.change(lambda tables: tables.api_keys.add(key, now_ms))
        self._trail.record(SecurityEvent.API_KEY_ADDED, name=key.name, detail=" ".join(key.scopes))
        self._print(secret, number)
        return Exit.OK

    def _rotate(self) -> int:
        options, secret, now_ms = self._options, api_keys.new(), wall_clock.now_ms()
        until_ms = now_ms + int(1000 * options.overlap_s)
        secret_hash = api_keys.hashed(secret)
        number = self._store.change(lambda tables: tables.api_keys.rotate(options.name, secret_hash, until_ms, now_ms))
        self._trail.record(SecurityEvent.API_KEY_ROTATED, name=options.name)
        self._print(secret, number)
        if options.overlap_s:
            note(f"the earlier key stays valid until {render.at(until_ms)}")
        return Exit.OK

    def _revoke(self) -> int:
        name = self._options.name
        revoked = self._store.change(lambda tables: tables.api_keys.revoke(name, wall_clock.now_ms()))
        if revoked:
            self._trail.record(SecurityEvent.API_KEY_REVOKED, name=name)
        if self._options.json:
            render.print_json({"v": 1, "revoked": revoked})
        elif revoked:
            print(f"revoked: {render.plural(revoked, 'key')}")
        else:
            note(f"no valid key has the name {name}")
        return Exit.OK if revoked else NOT_DONE

    def _list(self) -> int:
        now_ms = wall_clock.now_ms()
        with contextlib.closing(self._store.open()) as tables:
            found = tables.api_keys.all()
        if self._options.json:
            render.print_json({"v": 1, "keys": [_shown(one, now_ms) for one in found]})
        else:
            print(_table(found, now_ms))
        return Exit.OK

    def _print(self, secret: str, number: int) -> None:
        """The one time that the key can be seen."""
        if self._options.json:
            render.print_json({"v": 1, "name": self._options.name, "id": number, "key": secret})
            return
        print(secret)
        note("this is the only time that the key is shown")
        if not any(one.protocol == "http" for one in self._config.listen):
            note('it is of use once a [[listen]] has protocol = "http"')


def _state(key: ApiKey, now_ms: int) -> str:
    if key.revoked_at_ms:
        return "revoked"
    return "valid" if key.valid(now_ms) else "expired"


def _shown(key: ApiKey, now_ms: int) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "by": key.by,
        "state": _state(key, now_ms),
        "created_at_ms": key.created_at_ms,
        "expires_at_ms": key.expires_at_ms,
        "revoked_at_ms": key.revoked_at_ms,
        "used_at_ms": key.used_at_ms,
    }


def _table(found: list[ApiKey], now_ms: int) -> str:
    if not found:
        return "there are no keys"

    def when(at_ms: int) -> str:
        return render.at(at_ms) if at_ms else "-"

    rows = [
        [
            str(one.id),
            one.name,
            _state(one, now_ms),
            when(one.created_at_ms),
            one.by or "?",
            when(one.expires_at_ms),
            when(one.used_at_ms),
            ",".join(one.scopes),
        ]
        for one in found
    ]
    return render.table(["ID", "NAME", "STATE", "SINCE", "BY", "UNTIL", "USED", "SCOPES"], rows)
