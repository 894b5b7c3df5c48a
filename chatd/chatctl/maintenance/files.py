"""`chatctl files`: whether the content of files is there and sound, and deleting what no file has.

Owns: the verbs, the question before anything is deleted, and what is printed.
Elsewhere: comparing content and store (files.inspection), the places of content (chatd.files).
Fails: exit code 1 when content is missing or damaged; BootError, ConfigError, Unavailable.
"""

from __future__ import annotations

import argparse
import contextlib

from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.asking import agreed
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import print_json, size
from chatd.chatctl.trail import StoreTrail
from chatd.config.schema import Config
from chatd.errors import BootError, ConfigError, Exit
from chatd.files.contract import Blobs
from chatd.files.inspection import Inspection, Inspector, delete_unused
from chatd.files.open import open_blobs
from chatd.store.file_contract import FileRow

NOT_SOUND = 1
_SHOWN = 20
"""Missing and damaged files that a terminal shows, of each."""


def run(config: Config, trail: StoreTrail, options: argparse.Namespace) -> int:
    """Raises: BootError, ConfigError, Unavailable."""
    blobs = open_blobs(config.files)
    if blobs is None:
        raise BootError("there are no files: neither files.dir nor files.s3 is set", Exit.CONFIG)
    place = config.files.s3 or config.files.dir
    with contextlib.closing(blobs):
        blobs.check()
        with contextlib.closing(StoredAccounts(config).open()) as tables, Progress("files") as progress:
            reads_content = options.what == "verify" and not options.fast
            found = Inspector(tables, blobs, progress.watch, reads_content=reads_content).run()
        if options.what == "clean":  # no bar is shown while it asks
            _clean(blobs, trail, found, options, place)
    if options.json:
        print_json({"v": 1, "place": place, "deleted": options.what == "clean", **_described(found)})
    else:
        print("\n".join(_lines(found, options.what, place)))
    return Exit.OK if found.sound else NOT_SOUND


def _clean(blobs: Blobs, trail: StoreTrail, found: Inspection, options: argparse.Namespace, place: str) -> None:
    if not found.unused:
        return
    what = f"{len(found.unused)} of {found.contents} contents in {place}, {size(found.unused_bytes)}"
    if not options.yes:
        is_agreed = agreed(f"Delete {what}, which no file of this store has?")
        if not is_agreed:
            raise ConfigError("nothing was deleted" + ("" if is_agreed is False else f": confirm {what} with --yes"))
    with Progress("delete") as progress, trail.ordered("files clean", {"contents": len(found.unused)}):
        delete_unused(blobs, found.unused, progress.watch)


def _described(found: Inspection) -> dict[str, object]:
    rows = {"missing": found.missing, "damaged": found.damaged}
    return {
        "sound": found.sound,
        **found._asdict(),
        **{name: [_file(row) for row in those] for name, those in rows.items()},
        "unused": [one._asdict() for one in found.unused],
        "unused_bytes": found.unused_bytes,
    }


def _file(row: FileRow) -> dict[str, object]:
    """The name is left out: it is as private as a text."""
    return {
        "file": row.id,
        "content": row.blob,
        "size": row.size,
        "user": row.owner,
        "conversation": row.conversation,
        "seq": row.seq,
    }


def _lines(found: Inspection, verb: str, place: str) -> list[str]:
    lines = [f"{place}: {found.contents} contents, {size(found.content_bytes)}; files in the store: {found.files}"]
    for word, rows in (("MISSING", found.missing), ("DAMAGED", found.damaged)):
        lines += [f"{word}: {_line(row)}" for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            lines.append(f"{word}: {len(rows) - _SHOWN} more; --json has all of them")
    unused = f"{len(found.unused)} contents that no file has, {size(found.unused_bytes)}"
    if verb == "clean":
        lines.append(f"deleted: {unused}")
    elif found.unused:
        lines.append(f"{unused}: chatctl files clean deletes them")
    if found.sound:
        lines.append("sound: every file has its content")
    return lines


def _line(row: FileRow) -> str:
    sent = f"sent with message {row.seq} of {row.conversation}" if row.seq else "not sent"
    return f"file {row.id} of user {row.owner}, {size(row.size)}, {sent}; its content is {row.blob}"
