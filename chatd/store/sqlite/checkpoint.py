"""Checkpoints: copying the write-ahead log into the database file, beside the commits.

Owns: a thread with its own connection that copies pages while the store thread continues to commit.
Elsewhere: the last step, which needs the write lock (store.sqlite.tables, at the end of a commit).
Fails: a checkpoint that fails is tried again at the next call; commits do not depend on it.

Why: SQLite's own checkpoint runs inside one of the commits and copies the whole log, which takes 60 ms and more under
load (docs/decisions/0007). A passive checkpoint needs no lock that a writer needs, but it cannot restart the log while
others append to it. So when it is done, `ready` asks the store thread for the rest, which is short by then.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from chatd import log

EVERY_PAGES = 2000
"""Pages written to the log between two checkpoints, about."""
_FEW_PAGES = 32
"""Maximum pages left to the store thread."""
_ROUNDS = 8
"""A checkpoint copies what was written meanwhile at most this often."""


class Checkpointer:
    """Its methods are for the store thread; _serve() and _copy() run in the thread it owns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted = threading.Event()
        self._closing = False
        self._log = log.get()
        self.ready = False
        """Set by its thread: the store thread is to finish the checkpoint in its next commit, and clears it."""
        self._thread = threading.Thread(target=self._serve, name="checkpoint", daemon=True)
        self._thread.start()

    def want(self) -> None:
        if not self.ready:
            self._wanted.set()

    def close(self) -> None:
        self._closing = True
        self._wanted.set()
        self._thread.join(2.0)

    def _serve(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                break
            try:
                self._copy(db)
                self.ready = True
            except sqlite3.Error as error:
                self._log.warning("checkpoint failed", why=str(error))
        db.close()

    def _copy(self, db: sqlite3.Connection) -> None:
        """Copy until so little was written meanwhile that a commit can copy the rest."""
        done = 0
        for _ in range(_ROUNDS):
            _, _, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if copied - done < _FEW_PAGES:
                break
            done = copied
