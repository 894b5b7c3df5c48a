"""`chatctl user export`: everything of one person as one archive.

Owns: the file that the archive is written to, safely.
Elsewhere: what is in the archive (core.person_archive), the command line (chatctl.__main__), progress
(chatctl.progress).
Fails: BootError 73 when the archive cannot be written; it is then empty. Refused and Unavailable as the store.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from chatd import safe_files
from chatd.core import person_archive
from chatd.core.person_archive import Exported, Watch
from chatd.errors import BootError, ErrorCode, Exit, Refused
from chatd.files.contract import Blobs
from chatd.store.contract import Tables

T = TypeVar("T")

STDOUT = "-"
MODE = 0o600


class Target:
    """The file that the archive is written to, opened by whoever called chatctl: before privileges are dropped."""

    def __init__(self, name: str) -> None:
        """name: of a file that must not exist; "-" = standard output. Raises: BootError 73."""
        self.name = name
        self._file: IO[bytes]
        if name == STDOUT:
            self._file = sys.stdout.buffer
            return
        try:
            descriptor = safe_files.open_file(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        except FileExistsError:
            raise BootError(f"export {name}: exists already", Exit.CANNOT_CREATE) from None
        except OSError as error:
            raise BootError(f"export {name}: cannot be created: {error.strerror}", Exit.CANNOT_CREATE) from None
        os.fchmod(descriptor, MODE)
        self._file = os.fdopen(descriptor, "wb")

    @contextlib.contextmanager
    def archive(self) -> Iterator[zipfile.ZipFile]:
        """Complete and durable when the body ends. If it fails, the file is removed, or at least empty."""
        try:
            with zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED) as made:
                yield made
            self._file.flush()
            if self.name != STDOUT:
                os.fsync(self._file.fileno())
                self._file.close()
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                text = f"export {self.name}: failed: {error.strerror or error}"
                raise BootError(text, Exit.CANNOT_CREATE) from None
            raise

    def discard(self) -> None:
        """There is no archive."""
        if self.name == STDOUT:
            return
        with contextlib.suppress(OSError, ValueError):
            os.ftruncate(self._file.fileno(), 0)
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):  # its directory may belong to whoever called chatctl
            if stat.S_ISREG(os.lstat(self.name).st_mode):
                Path(self.name).unlink()


def default_name(user: str) -> str:
    """In the current directory. user: as the operator named it."""
    plain = "".join(one if one.isalnum() or one in "-_" else "_" for one in user)
    return f"{plain}-{time.strftime('%Y%m%d', time.gmtime())}.zip"


def write(tables: Tables, name: str, target: Target, watch: Watch, blobs: Blobs | None) -> Exported:
    """name: of the account, or its id. blobs: the content of files. Raises: Refused UNKNOWN_RECIPIENT, Unavailable,
    BootError 73."""
    account = tables.accounts.find(name, 0)
    if account is None:
        target.discard()
        raise Refused(ErrorCode.UNKNOWN_RECIPIENT)

    def read(work: Callable[[Tables], T]) -> T:
        return work(tables)

    with target.archive() as archive:
        return person_archive.write(read, account.user, archive, watch, blobs)
