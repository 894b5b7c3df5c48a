"""The command line of what an operator does with a whole store: backup, restore, verify, vacuum, and files.

Owns: their arguments, what must be done before chatctl becomes the owner of the store, and recording the order.
Elsewhere: the commands (the other modules of chatctl.maintenance), the other arguments (chatctl.__main__).
Fails: the exceptions that __main__ reports.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chatd import completion
from chatd.chatctl.add_command import AS_JSON, Add, verbs_of
from chatd.chatctl.control_client import ControlClient
from chatd.chatctl.ownership import become_owner
from chatd.config import load as config_load
from chatd.config.schema import Config

if TYPE_CHECKING:
    from chatd.chatctl.trail import StoreTrail


def add_commands(add: Add) -> None:
    """Add backup, restore, verify, vacuum and files."""
    one = add(
        "backup",
        _backup,
        "copy the store into one file, also while the server runs; the copy is checked",
        "chatctl backup /var/backups/chatd/chatd-$(date +%F).db",
    )
    _file(one, "FILE", "where to write it; a name that does not exist")
    one.add_argument("--force", action="store_true", help="replace the file if it exists")
    one.add_argument("--json", action="store_true", help=AS_JSON)
    one = add(
        "restore",
        _restore,
        "put a backup in the place of the store, which is kept; the server must be stopped",
        "chatctl stop; chatctl restore /var/backups/chatd/chatd-2026-03-04.db",
    )
    _file(one, "FILE", "a file that `chatctl backup` has written, or a copied chatd.db")
    one.add_argument("--dry-run", action="store_true", help="check the file, print the plan and change nothing")
    one.add_argument("--json", action="store_true", help=AS_JSON)
    one = add(
        "verify",
        _verify,
        "check the store, or a backup: its pages, and the rules about its rows; only reads",
        "chatctl verify; chatctl verify /var/backups/chatd/chatd-2026-03-04.db",
    )
    _file(one, "FILE", "a backup (default: the configured store)", nargs="?")
    one.add_argument("--json", action="store_true", help=AS_JSON)
    one = add(
        "vacuum", _vacuum, "give the space of deleted messages back to the file system, in slices", "chatctl vacuum"
    )
    text = "write the whole file anew, which also orders it; needs twice its size, and the server stopped"
    one.add_argument("--full", action="store_true", help=text)
    one.add_argument("--json", action="store_true", help=AS_JSON)
    _add_files(add)


def _add_files(add: Add) -> None:
    verb = verbs_of(add("files", _files, "compare the content of the files that people sent with the store"))
    text = "check that every file has its content, undamaged; only reads"
    one = verb("verify", text, "chatctl files verify")
    one.add_argument("--fast", action="store_true", help="only whether it is there; do not read the content")
    text = "delete content that no file has, such as what is newer than a restored backup"
    one = verb("clean", text, "chatctl files clean")
    one.add_argument("--yes", action="store_true", help="do not ask")


def _file(one: argparse.ArgumentParser, name: str, text: str, nargs: str | None = None) -> None:
    made = one.add_argument("file", metavar=name, nargs=nargs, help=text)
    made.complete = completion.FILE  # type: ignore[attr-defined]


def _begin(client: ControlClient, options: argparse.Namespace) -> tuple[Config, StoreTrail]:
    from chatd.chatctl.trail import StoreTrail

    config = config_load.load(options.config).config
    return config, StoreTrail(config, client)


def _backup(client: ControlClient, options: argparse.Namespace) -> int:
    from chatd.chatctl.maintenance import backup

    config, trail = _begin(client, options)
    target = Path(options.file).absolute()
    become_owner(config, create=False)
    with trail.ordered("backup", {"file": str(target), "force": options.force}):
        return backup.run(config, target, replace=options.force, as_json=options.json)


def _restore(client: ControlClient, options: argparse.Namespace) -> int:
    from chatd.chatctl.maintenance import restore

    config, trail = _begin(client, options)
    with restore.Source(Path(options.file).absolute()) as source:  # before privileges are dropped: root may read more
        become_owner(config, create=True)
        arguments: Mapping[str, str] = {"file": str(source.path)}
        if options.dry_run:
            return restore.run(config, source, dry_run=True, as_json=options.json)
        with trail.ordered("restore", arguments):
            return restore.run(config, source, dry_run=False, as_json=options.json)


def _verify(client: ControlClient, options: argparse.Namespace) -> int:
    from chatd.chatctl.maintenance import verify

    config, _ = _begin(client, options)
    become_owner(config, create=False)
    return verify.run(config, Path(options.file).absolute() if options.file else None, as_json=options.json)


def _vacuum(client: ControlClient, options: argparse.Namespace) -> int:
    from chatd.chatctl.maintenance import vacuum

    config, trail = _begin(client, options)
    become_owner(config, create=False)
    with trail.ordered("vacuum", {"full": options.full}):
        return vacuum.run(config, full=options.full, as_json=options.json)


def _files(client: ControlClient, options: argparse.Namespace) -> int:
    from chatd.chatctl.maintenance import files

    config, trail = _begin(client, options)
    become_owner(config, create=False)
    return files.run(config, trail, options)
