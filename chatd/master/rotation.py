"""Rotating the log files; only the master does it.

Owns: normal.log -> normal.log.1 -> ... -> .N when a file has grown over log.rotate_bytes, and removing rotated files
beyond log.rotate_keep.
Elsewhere: writing records (log). Every process notices a rotation by the master's row, which counts them, and opens the
files again before its next record. A record that is being written meanwhile goes to the renamed file, whole.
Fails: never; a rotation that fails is logged and tried again a second later.
"""

from __future__ import annotations

import os
from pathlib import Path

from chatd import log, safe_files
from chatd.scoreboard import Row


class Rotation:
    """log_dir: "-" = standard error, where nothing is rotated."""

    def __init__(self, log_dir: str, master_row: Row) -> None:
        self._folder = None if log_dir == "-" else Path(log_dir)
        self._row = master_row
        self._keep = 0
        """rotate_keep at the last check."""

    def check(self, rotate_bytes: int, keep: int) -> None:
        """Once a second: rotate what has grown too large (rotate_bytes 0 = nothing), and remove what a lowered `keep`
        no longer allows."""
        if self._folder is None or rotate_bytes == 0:
            return
        lowered, self._keep = keep < self._keep, keep
        for name in log.FILES:
            path = self._folder / name
            try:
                if path.lstat().st_size >= rotate_bytes:
                    self._rotate(path, keep)
                elif lowered:
                    self._remove_older(path, keep)
            except FileNotFoundError:
                self.reopen()
            except OSError as error:
                log.get().error("cannot rotate a log file", file=str(path), why=error.strerror)

    def _rotate(self, path: Path, keep: int) -> None:
        for number in range(keep - 1, 0, -1):
            older = Path(f"{path}.{number}")
            if older.exists():
                os.replace(older, f"{path}.{number + 1}")
        os.replace(path, f"{path}.1")
        os.close(safe_files.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, log.FILE_MODE))
        self.reopen()
        self._remove_older(path, keep)

    def _remove_older(self, path: Path, keep: int) -> None:
        """Remove files from a time when more were kept. Only if chatd rotates: another program may number its own files
        in the same way."""
        for older in path.parent.glob(f"{path.name}.*"):
            number = older.name.removeprefix(f"{path.name}.")
            if number.isdecimal() and int(number) > keep:
                older.unlink(missing_ok=True)

    def reopen(self) -> None:
        """Every process opens the files by name again before its next record."""
        self._row.log_generation += 1
        log.reopen()
