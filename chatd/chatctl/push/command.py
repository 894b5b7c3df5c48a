"""What `chatctl push` does: making a key, and showing what there is.

Owns: the file of the key, what is printed.
Elsewhere: the key itself (web_push.vapid), the rows (store.push_contract), the command line (chatctl.push.arguments).
Fails: the exceptions of ControlClient, ConfigError, BootError and Unavailable, which chatctl.__main__ reports.
"""

from __future__ import annotations

import argparse
import contextlib
import os

from chatd.chatctl import render
from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.control_client import ControlClient, note
from chatd.config import load as config_load
from chatd.errors import Exit
from chatd.safe_files import open_file
from chatd.store.contract import PUSH_READER
from chatd.web_push.vapid import VapidKey, new_pem

_MODE = 0o600


def push(client: ControlClient, options: argparse.Namespace) -> int:
    """`key` needs no server, no store and no configuration; `show` reads the store."""
    return _make_key(options) if options.what == "key" else _show(options)


def _make_key(options: argparse.Namespace) -> int:
    """A file that exists is never replaced: with its key, all subscriptions would end."""
    pem = new_pem()
    try:
        descriptor = open_file(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except OSError as error:
        note(f"cannot make {options.file}: {error.strerror}")
        return Exit.CANNOT_CREATE
    with os.fdopen(descriptor, "w") as file:
        file.write(pem)
        file.flush()
        os.fsync(descriptor)
    public = VapidKey(pem).public
    if options.json:
        render.print_json({"v": 1, "file": options.file, "public_key": public})
    else:
        print(public)
        note(f'in the configuration: [push] key = "file:{os.path.abspath(options.file)}"')
    return Exit.OK


def _show(options: argparse.Namespace) -> int:
    config = config_load.load(options.config).config
    with contextlib.closing(StoredAccounts(config).open()) as tables:
        state = tables.webhooks.find(PUSH_READER)
        found = {
            "v": 1,
            "public_key": VapidKey(config.push.key).public if config.push.subject else "",
            "subscriptions": tables.push.count(),
            "holder": state.holder if state is not None else "",
        }
    if options.json:
        render.print_json(found)
    else:
        print(render.table(["KEY", "SUBSCRIPTIONS", "NOTIFIER"], [[str(one or "-") for one in [*found.values()][1:]]]))
    return Exit.OK
