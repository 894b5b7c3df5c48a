"""Rotating the log files; only the master does it.

Owns: normal.log -> normal.log.1 -> ... -> .N, when a file has grown over log.rotate_bytes.
How every process notices: the master's row counts rotations, and log compares before each record. A record being
written meanwhile lands in the renamed file, whole.
Fails: never; a rotation that fails is logged and tried again at the next look.
"""

from __future__ import annotations

import os
from pathlib import Path

from chatd import log
from chatd.scoreboard import Row


class Rotation:
    def __init__(self, log_dir: str, master_row: Row) -> None:
        self._folder = None if log_dir == "-" else Path(log_dir)
        self._row = master_row

    def look(self, rotate_bytes: int, keep: int) -> None:
        """Rotate what has grown too large. 0 = never."""
        if self._folder is None or rotate_bytes == 0:
            return
        for name in log.FILES:
            path = self._folder / name
            try:
                if path.stat().st_size < rotate_bytes:
                    continue
                self._rotate(path, keep)
            except FileNotFoundError:
                self.reopen()
            except OSError as error:
                log.get().error("log file cannot be rotated", file=str(path), why=error.strerror)

    def _rotate(self, path: Path, keep: int) -> None:
        for number in range(keep - 1, 0, -1):
            older = Path(f"{path}.{number}")
            if older.exists():
                os.replace(older, f"{path}.{number + 1}")
        os.replace(path, f"{path}.1")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, log.FILE_MODE))
        self.reopen()

    def reopen(self) -> None:
        """Every process opens the files by name again before its next record."""
        self._row.log_generation += 1
        log.reopen()
