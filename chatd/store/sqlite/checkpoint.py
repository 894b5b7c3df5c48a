"""Moving the write-ahead log into the file, beside the commits.

Owns: a thread with a connection of its own that copies pages while the store thread goes on committing.
Elsewhere: the last step, which needs the write lock (store.sqlite.tables, at the end of a commit).
Fails: a checkpoint that fails is tried again at the next call; commits do not depend on it.

Why: SQLite's own checkpoint runs inside some unlucky commit and copies the whole log, 60 ms and more under load
(docs/decisions/0007). A passive one needs no lock that a writer needs; but it never ends the log while others
append to it. So when it is done, `ready` asks the store thread for the rest, which by then is short.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from chatd import log

EVERY_PAGES = 2000
"""Pages written to the log between two checkpoints, about."""


_LITTLE_PAGES = 32
_ROUNDS = 8


class Checkpointer:
    """Called by the store thread only, but for its own thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted = threading.Event()
        self._closing = False
        self._log = log.get()
        self.ready = False
        """The store thread shall finish the checkpoint in its next commit."""
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
        """Until what others wrote meanwhile is little: that is left for a commit to copy."""
        done = 0
        for _ in range(_ROUNDS):
            _, _, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if copied - done < _LITTLE_PAGES:
                break
            done = copied
