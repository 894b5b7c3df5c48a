"""The checks of [push].

Owns: what must hold beyond the type of each option.
Elsewhere: the options (config.push_options); the other checks, and collecting mistakes (config.validate); whether
the key can be used (web_push.check).
Fails: never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chatd.config.schema import Config

_SUBJECT = re.compile(r"mailto:[^\s@]+@[^\s@]+|https://[^\s]+")
_GATEWAY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SERVICE = re.compile(r"\*|(\*\.)?[A-Za-z0-9._-]+|[0-9a-fA-F:.]+")


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """(option, what is wrong with it)"""
    options = config.push
    for one in options.services:
        if not _SERVICE.fullmatch(one):
            yield "push.services", f'"{one}" is not a host, "*.NAME" or "*"'
    for one in options.gateways:
        if not _GATEWAY.fullmatch(one):
            yield "push.gateways", f'"{one}" must be 1 to 64 of a-z, 0-9 and . _ -, the first a letter or a digit'
    if not options.subject:
        return
    if not _SUBJECT.fullmatch(options.subject):
        yield "push.subject", f'"{options.subject}" is neither mailto:ADDRESS nor https://PAGE'
    if not options.key:
        yield "push.key", 'needed with push.subject: make it by `chatctl push key push.pem`, and set "file:push.pem"'
    elif not options.key.startswith("-----BEGIN"):
        yield "push.key", 'is not a key: make one by `chatctl push key push.pem`, and set "file:push.pem"'
