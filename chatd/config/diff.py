"""The differences between two configurations, and when each takes effect in a running server.

Owns: which options differ, when each difference takes effect, and the snapshot that may be applied at once.
Elsewhere: telling the workers (master.reload).
Fails: never.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from chatd.config.bridge_options import BridgeOptions
from chatd.config.option import Effect
from chatd.config.options import options_of
from chatd.config.schema import ARRAYS, SECTIONS, Config, ListenerOptions, PluginOptions
from chatd.config.token_options import TokenKeyOptions
from chatd.config.webhook_options import WebhookOptions

_Named = PluginOptions | WebhookOptions | BridgeOptions


class OptionChange(msgspec.Struct, frozen=True):
    """One difference between two configurations.

    key: `section.option`; of a listener `listen[ADDRESS].option`, or `listen[ADDRESS]` when all of it is new or gone;
    of a plug-in `hook[NAME].option` or `hook[NAME]`, and so of webhooks and bridges; of a key
    `token_key[INDEX].option` or `token_key[INDEX]`.
    """

    key: str
    old: Any
    new: Any
    effect: Effect


@functools.cache
def _effects() -> dict[str, dict[str, Effect]]:
    """Of the options by their sections. Made when it is needed, because it takes as long as loading twenty modules."""
    return {section: {option.name: option.effect for option in options_of(kind)} for section, kind in SECTIONS.items()}


def changes(old: Config, new: Config) -> tuple[OptionChange, ...]:
    """Every option in which the two differ, in the order of the schema."""
    found: list[OptionChange] = []
    for section in SECTIONS:
        if section == "listen":
            found += _listen_changes(old.listen, new.listen)
        elif section == "hook":
            found += _named_changes("hook", old.hook, new.hook)
        elif section == "token_key":
            found += _key_changes(old.token_key, new.token_key)
        elif section == "webhook":
            found += _named_changes("webhook", old.webhook, new.webhook)
        elif section == "bridge":
            found += _named_changes("bridge", old.bridge, new.bridge)
        else:
            found += _differences(section, section, getattr(old, section), getattr(new, section))
    return tuple(found)


def _differences(section: str, label: str, old: Any, new: Any) -> list[OptionChange]:
    return [
        OptionChange(f"{label}.{name}", getattr(old, name), getattr(new, name), effect)
        for name, effect in _effects()[section].items()
        if getattr(old, name) != getattr(new, name)
    ]


def _listen_changes(old: tuple[ListenerOptions, ...], new: tuple[ListenerOptions, ...]) -> list[OptionChange]:
    before = {one.address: one for one in old}
    after = {one.address: one for one in new}
    found: list[OptionChange] = []
    for where in before | after:
        label = f"listen[{where}]"
        if where not in after:
            found.append(OptionChange(label, before[where].protocol, None, "restart"))
        elif where not in before:
            found.append(OptionChange(label, None, after[where].protocol, "restart"))
        else:
            found += _differences("listen", label, before[where], after[where])
    return found


def _key_changes(old: tuple[TokenKeyOptions, ...], new: tuple[TokenKeyOptions, ...]) -> list[OptionChange]:
    found: list[OptionChange] = []
    for index in range(max(len(old), len(new))):
        label = f"token_key[{index}]"
        if index < len(old) and index < len(new):
            found += _differences("token_key", label, old[index], new[index])
        else:
            before, after = (one[index].kid if index < len(one) else None for one in (old, new))
            found.append(OptionChange(label, before, after, "live"))
    return found


def _named_changes(section: str, old: tuple[_Named, ...], new: tuple[_Named, ...]) -> list[OptionChange]:
    """Of a section whose tables have names."""
    before, after = {one.name: one for one in old}, {one.name: one for one in new}
    found: list[OptionChange] = []
    for name in before | after:
        label = f"{section}[{name}]"
        if name not in after or name not in before:
            there, comes = name in before, name in after
            found.append(OptionChange(label, name if there else None, name if comes else None, "worker"))
        else:
            found += _differences(section, label, before[name], after[name])
    names = [one.name for one in old], [one.name for one in new]
    if sorted(names[0]) == sorted(names[1]) and names[0] != names[1]:
        found.append(OptionChange(section, *names, "worker"))
    return found


def applicable(running: Config, wanted: Config) -> Config:
    """`wanted`, with the running values of all options that need a restart: what workers may be given now."""
    return _keeping(running, wanted, ("restart",))


def live(running: Config, wanted: Config) -> Config:
    """`wanted`, with the running values of all options that a running worker cannot change."""
    return _keeping(running, wanted, ("restart", "worker"))


def _keeping(running: Config, wanted: Config, effects: tuple[Effect, ...]) -> Config:
    sections = {
        section: _keep(section, getattr(running, section), getattr(wanted, section), effects)
        for section in SECTIONS
        if section not in ARRAYS
    }
    if "worker" in effects:
        sections |= {"hook": running.hook, "webhook": running.webhook, "bridge": running.bridge}
    after = {one.address: one for one in wanted.listen}
    listen = tuple(_keep("listen", one, after.get(one.address, one), effects) for one in running.listen)
    return msgspec.structs.replace(wanted, listen=listen, **sections)


def _keep(section: str, running: Any, wanted: Any, effects: tuple[Effect, ...]) -> Any:
    fixed = {name: getattr(running, name) for name, effect in _effects()[section].items() if effect in effects}
    return msgspec.structs.replace(wanted, **fixed)
