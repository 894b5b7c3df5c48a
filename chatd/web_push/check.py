"""Whether the key of [push] can be used: for the start, a reload, `chatd -t` and an upgrade.

Owns: check().
Elsewhere: what is wrong with a key (web_push.vapid).
Fails: ConfigError, one line.

The libraries are loaded only if Web Push is configured.
"""

from __future__ import annotations

from chatd.config.schema import Config
from chatd.errors import ConfigError


def check(config: Config, name: str) -> None:
    """name: of the configuration file, for messages. Raises ConfigError."""
    if not config.push.subject:
        return
    from chatd.web_push.vapid import VapidKey

    try:
        VapidKey(config.push.key)
    except ValueError as error:
        raise ConfigError(f"{name}: push.key: {error}") from None
