"""The configuration, on the operator's page: what is in force, and what the file says otherwise.

Owns: showing both with the words of the schema.
Elsewhere: the options (config.schema), secrets in them and pending changes (master.reload), applying the file
(http.admin.orders).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatd.config.options import allowed_values, options_of
from chatd.config.schema import ARRAYS, SECTIONS
from chatd.errors import Refused
from chatd.http.admin.orders import ask
from chatd.http.admin.requests import READ, AdminCall, route
from chatd.http.route import NoInput


class ShownOption(msgspec.Struct, frozen=True, kw_only=True):
    """value: in force. default: null = there is none. effect: when a change takes effect: live (after a reload), worker
    (in new workers) or restart."""

    key: str
    value: Any
    default: Any
    text: str
    allowed: str
    effect: str


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """As master.replies.PendingChange."""

    key: str
    running: Any
    file: Any
    waits_for: str
    command: str = ""


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """file: its name. problem: why the file as it is now cannot be used, "" = it can; then file, generation and pending
    are empty."""

    file: str
    generation: int
    options: list[ShownOption]
    pending: list[Pending]
    problem: str = ""


class _Running(msgspec.Struct):
    config: dict[str, Any]


class _Different(msgspec.Struct):
    file: str
    generation: int
    pending: list[Pending]


async def show(call: AdminCall, _: object, __: NoInput) -> Configuration:
    """Raises Refused, Unavailable."""
    running = msgspec.json.decode(await ask(call, "config") or b"", type=_Running)
    options = list(_options(running.config))
    try:
        different = msgspec.json.decode(await ask(call, "config-diff") or b"", type=_Different)
    except Refused as refused:
        return Configuration(file="", generation=0, options=options, pending=[], problem=refused.text)
    return Configuration(
        file=different.file, generation=different.generation, options=options, pending=different.pending
    )


def _options(config: dict[str, Any]) -> Iterator[ShownOption]:
    for section, kind in SECTIONS.items():
        if section not in ARRAYS:
            yield from _section(section, kind, config.get(section, {}))
            continue
        for index, table in enumerate(config.get(section, ())):
            yield from _section(f"{section}[{index}]", kind, table)


def _section(label: str, kind: type[msgspec.Struct], table: dict[str, Any]) -> Iterator[ShownOption]:
    for option in options_of(kind):
        has_default = option.default is not msgspec.NODEFAULT
        yield ShownOption(
            key=f"{label}.{option.name}",
            value=table.get(option.name),
            default=msgspec.to_builtins(option.default) if has_default else None,
            text=option.description,
            allowed=allowed_values(option),
            effect=option.effect,
        )


ROUTES = (route("GET", "config", READ, show, NoInput, Configuration, "The configuration, and what will change it."),)
