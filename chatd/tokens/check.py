"""Whether the keys of a configuration can be used: for the start, a reload, `chatd -t` and an upgrade.

Owns: check().
Elsewhere: what is wrong with a key (tokens.keys), key sets, which may be unreadable at any time (core.tokens.key_sets).
Fails: ConfigError, one line.

The libraries are loaded only if there are keys.
"""

from __future__ import annotations

from chatd.config.schema import Config
from chatd.errors import ConfigError


def check(config: Config, name: str) -> None:
    """name: of the configuration file, for messages. Raises ConfigError."""
    if not config.token_key:
        return
    from chatd.tokens.keys import BadKey, configured_keys

    try:
        configured_keys(config.token_key)
    except BadKey as error:
        raise ConfigError(f"{name}: {error}") from None
