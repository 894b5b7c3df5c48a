"""The checks of [[webhook]].

Owns: what must hold beyond the type of each option.
Elsewhere: the options (config.webhook_options); the other checks, and collecting mistakes (config.validate).
Fails: never.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from chatd.config.webhook_options import EVENTS, WebhookOptions, matching

SECRET_PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
"""Of a secret: as the Standard Webhooks specification says."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAKE = "openssl rand -base64 32 | sed 's/^/whsec_/' > FILE"

Add = Callable[[str, str], None]
"""Adds a mistake: where it is, and what."""


def secret_bytes(text: str) -> bytes:
    """Raises ValueError, with a text for the operator that does not show the secret."""
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(f"must begin with {SECRET_PREFIX}; make one: {_MAKE}")
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"is not Base64 after {SECRET_PREFIX}; make one: {_MAKE}") from None
    if not LEAST_BYTES <= len(secret) <= MOST_BYTES:
        raise ValueError(f"has {len(secret)} bytes, {LEAST_BYTES} to {MOST_BYTES} are needed; make one: {_MAKE}")
    return secret


def check(webhooks: tuple[WebhookOptions, ...], add: Add) -> None:
    names = [one.name for one in webhooks]
    for index, one in enumerate(webhooks):
        key = f"webhook[{index}]"
        if not _NAME.fullmatch(one.name):
            add(f"{key}.name", "must be 1 to 64 letters, digits and . _ -, the first a letter or a digit")
        elif one.name in names[:index]:
            add(f"{key}.name", f"{one.name} is also webhook[{names.index(one.name)}]")
        if (mistake := _url_mistake(one.url)) is not None:
            add(f"{key}.url", mistake)
        _check_events(one, key, add)
        _check_secrets(one, key, add)
        _check_networks(one, key, add)


def _url_mistake(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        return f'"{url}" is not a URL with https:// or http:// and a host'
    if parts.username is not None or parts.password is not None:
        return "must not have a user or a password: the signature proves who sends"
    return "has a fragment, which is never sent" if parts.fragment else None


def _check_events(one: WebhookOptions, key: str, add: Add) -> None:
    for pattern in one.events:
        if not matching(pattern):
            import difflib  # only for a mistake

            close = difflib.get_close_matches(pattern, EVENTS, n=1, cutoff=0.5)
            hint = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(EVENTS)}"
            add(f"{key}.events", f'there is no event "{pattern}", {hint}')


def _check_secrets(one: WebhookOptions, key: str, add: Add) -> None:
    if not one.secrets:
        add(f"{key}.secrets", f"at least one is needed; make one: {_MAKE}")
    for at, secret in enumerate(one.secrets):
        try:
            secret_bytes(secret)
        except ValueError as error:
            add(f"{key}.secrets[{at}]", str(error))


def _check_networks(one: WebhookOptions, key: str, add: Add) -> None:
    for network in one.allow_private:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            add(f"{key}.allow_private", f"{error}; expected addresses or networks such as 10.1.2.3 or 127.0.0.0/8")
