"""Whether this host has what a configuration needs: for the start, a reload, `chatd -t` and `chatctl doctor`.

Owns: check().
Elsewhere: users, plug-ins, libraries and descriptors (config.validate), the keys of tokens (tokens.check), the key of
push (web_push.check), which files others may read or change (config.strict).
Fails: ConfigError.
"""

from __future__ import annotations

from chatd.config.schema import Config
from chatd.config.validate import check_host
from chatd.tokens.check import check as check_token_keys
from chatd.web_push.check import check as check_push_key


def check(config: Config, name: str) -> None:
    """name: of the configuration file, for messages. Raises ConfigError."""
    check_host(config, name)
    check_token_keys(config, name)
    check_push_key(config, name)
