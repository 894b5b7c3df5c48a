"""The checks of [[bridge]].

Owns: what must hold beyond the type of each option, and warnings about what can be read on the network.
Elsewhere: the options (config.bridge_options); the other checks, and collecting mistakes (config.validate).
Fails: never.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from chatd.config.bridge_options import BridgeOptions, prefix_of
from chatd.config.urls import is_loopback

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/~+@-]{0,30}[._:/~+@-]")
"""It ends with a separator, so that it is the prefix of no ordinary name, and none of its own is a number."""
_QUEUE = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_QUEUES = ("incoming", "outgoing", "dead_letters")

Add = Callable[[str, str], None]
"""Adds a mistake: where it is, and what."""


def check(bridges: tuple[BridgeOptions, ...], add: Add) -> None:
    names = [one.name for one in bridges]
    for index, one in enumerate(bridges):
        key = f"bridge[{index}]"
        if not _NAME.fullmatch(one.name):
            add(f"{key}.name", "must be 1 to 32 lower-case letters, digits and . _ -, the first a letter or a digit")
        elif one.name in names[:index]:
            add(f"{key}.name", f"{one.name} is also bridge[{names.index(one.name)}]")
        if (mistake := _url_mistake(one)) is not None:
            add(f"{key}.{mistake[0]}", mistake[1])
        _check_prefixes(one, key, add)
        _check_overlap(index, bridges, add)
        _check_queues(one, key, add)
        if one.unknown_here and not one.users:
            add(f"{key}.unknown_here", 'needs users: whom of the other side it is about, such as ["*"]')
    if len(several := [f"bridge[{at}]" for at, one in enumerate(bridges) if one.unknown_here]) > 1:
        add(f"{several[1]}.unknown_here", f"is also set in {several[0]}: it can be set in one bridge only")


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if good else None


def _url_mistake(one: BridgeOptions) -> tuple[str, str] | None:
    """The option, and what is wrong. The URL is not shown: it holds a password."""
    parts = _parts(one.url)
    if parts is None:
        return "url", "is not a URL such as amqps://USER:PASSWORD@HOST:5671/VHOST"
    if not parts.username or not parts.password:
        return "url", "needs a user and a password: amqps://USER:PASSWORD@HOST:5671/VHOST"
    if parts.query or parts.fragment:
        return "url", "must not have a ? or a #; write them as %3F and %23 in a password"
    if one.ca_file and parts.scheme != "amqps":
        return "ca_file", "is for amqps:// only"
    return None


def _check_prefixes(one: BridgeOptions, key: str, add: Add) -> None:
    text = "must be 2 to 32 of the characters A-Z a-z 0-9 . _ : / ~ + @ -, the last none of the letters and digits"
    if not _PREFIX.fullmatch(prefix_of(one)):
        add(f"{key}.prefix", text)
    if one.own_prefix and not _PREFIX.fullmatch(one.own_prefix):
        add(f"{key}.own_prefix", text)


def _check_overlap(index: int, bridges: tuple[BridgeOptions, ...], add: Add) -> None:
    mine = prefix_of(bridges[index]).casefold()
    for before, other in enumerate(bridges[:index]):
        theirs = prefix_of(other).casefold()
        if mine.startswith(theirs) or theirs.startswith(mine):
            add(f"bridge[{index}].prefix", f"{mine} and {theirs} of bridge[{before}]: one begins with the other")


def _check_queues(one: BridgeOptions, key: str, add: Add) -> None:
    for name in _QUEUES:
        if not _QUEUE.fullmatch(getattr(one, name)):
            add(f"{key}.{name}", "must be 1 to 255 letters, digits and . _ : -")
    if len({getattr(one, name) for name in _QUEUES}) < len(_QUEUES):
        add(f"{key}.incoming", "incoming, outgoing and dead_letters must be three queues")


def plain(bridges: tuple[BridgeOptions, ...]) -> list[str]:
    """One line for each bridge whose messages can be read on the network."""
    found = []
    for index, one in enumerate(bridges):
        parts = _parts(one.url)
        if parts is None or parts.scheme != "amqp" or parts.hostname is None:
            continue
        if parts.hostname != "localhost" and not is_loopback(parts.hostname):
            found.append(
                f"bridge[{index}].url: amqp://{parts.hostname} has no TLS: its password and all messages can be "
                "read on the network, and forged. Use amqps://"
            )
    return found
