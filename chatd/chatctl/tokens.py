"""`chatctl token NAME`: a login token, made with a key of the configuration.

Owns: the command line, checking the name, what is recorded of it.
Elsewhere: the keys (tokens.keys), the token (tokens.minting), records (chatctl.trail).
Fails: Refused if no key may sign, or the lifetime is not allowed; ConfigError for a key that cannot be used.

The token is made here, whether a server runs or not: whoever may read the key could make it anyway.
"""

from __future__ import annotations

import argparse

from chatd.arguments import duration_s
from chatd.chatctl import render
from chatd.chatctl.add_command import AS_JSON, Add
from chatd.chatctl.control_client import ControlClient, note
from chatd.config import load as config_load
from chatd.errors import ConfigError, Exit, Refused
from chatd.security_events import SecurityEvent

DEFAULT_S = 600.0
"""Long enough to paste it somewhere."""
MAX_NAME_CHARS = 256


def add_commands(add: Add) -> None:
    """Add token."""
    one = add("token", token, "print a login token for a user", "chatctl token alice --for 10m")
    one.add_argument("name", metavar="NAME", type=_name, help="the name that the token lets in; it need not exist yet")
    text = "how long it is valid, such as 90s, 10m or 12h (default: 10m)"
    one.add_argument("--for", dest="for_s", metavar="TIME", type=duration_s, default=DEFAULT_S, help=text)
    one.add_argument("--json", action="store_true", help=AS_JSON)


def _name(text: str) -> str:
    if not text or len(text) > MAX_NAME_CHARS or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must have 1 to {MAX_NAME_CHARS} printable characters")
    return text


def token(client: ControlClient, options: argparse.Namespace) -> int:
    """Raises Refused, ConfigError."""
    from chatd.chatctl.trail import StoreTrail  # the other commands need no such libraries
    from chatd.core.accounts import check_name
    from chatd.tokens.keys import BadKey, configured_keys
    from chatd.tokens.minting import mint

    loaded = config_load.load(options.config)
    config, trail = loaded.config, StoreTrail(loaded.config, client)
    try:
        keys = configured_keys(config.token_key)
    except BadKey as error:
        raise ConfigError(f"{loaded.name}: {error}") from None
    made = mint(options.name, options.for_s, keys, config.tokens)
    trail.record(SecurityEvent.TOKEN_MINTED, name=options.name, detail=f"valid for {options.for_s:.0f} s")
    if options.json:
        render.print_json({"v": 1, "name": options.name, "token": made, "expires_in_s": int(options.for_s)})
    else:
        print(made)
    try:
        check_name(options.name, config, digits=config.accounts.number_names)
    except Refused as refused:
        note(f"it lets in only if there is an account with this name, and makes none: {refused}")
    if "token" not in config.accounts.kinds:
        note('the server accepts it once accounts.login has "token"')
    return Exit.OK
