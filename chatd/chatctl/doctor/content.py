"""Checks of the place for the content of files.

Owns: whether the server's user can use it.
Elsewhere: the places (chatd.files), modes of its directory (chatctl.doctor.files).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chatd.chatctl.doctor.finding import Finding, Installation, error, note, ok
from chatd.errors import BootError, Unavailable
from chatd.files.open import open_blobs


def place(installation: Installation) -> Iterator[Finding]:
    """As the user who owns the store. Writes nothing; an object store is asked for a list of names."""
    options = installation.config.files
    if options.dir and not Path(options.dir).exists() and not installation.pid:
        yield note("files.place", f"{options.dir} (files.dir) does not exist: the first start creates it")
        return
    try:
        blobs = open_blobs(options)
        if blobs is None:
            return
        blobs.check()
        blobs.close()
    except (BootError, Unavailable) as failure:
        meaning = "nobody can upload or download files; messages go on"
        yield error(
            "files.place", str(failure), meaning, "see docs/files.md: files.dir, or files.s3 with files.s3_settings"
        )
        return
    yield ok("files.place", f"content of files: {options.s3 or options.dir}")
