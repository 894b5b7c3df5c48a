"""Files that a worker is sending or receiving over HTTP, as numbers.

Owns: Transfers, how many requests for files are being served; UPLOADS_OF_ONE, the limit of one user.
Elsewhere: serving them (http.files.requests).
Fails: Refused TOO_FAST.

They are counted apart from other requests, because they last as long as a client takes to read or to send.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from chatd.errors import ErrorCode, Refused
from chatd.model import UserId

UPLOADS_OF_ONE = 8
"""Of one user, on one worker, at the same time."""


class Transfers:
    """Those of one worker. running: requests for files that are being served."""

    def __init__(self) -> None:
        self.running = 0
        self._uploads: dict[UserId, int] = {}

    @contextlib.contextmanager
    def upload_of(self, owner: UserId) -> Iterator[None]:
        """Raises Refused TOO_FAST: the user has too many."""
        if self._uploads.get(owner, 0) >= UPLOADS_OF_ONE:
            raise Refused(ErrorCode.TOO_FAST, f"at most {UPLOADS_OF_ONE} files of one user are uploaded at once", 1)
        self._uploads[owner] = self._uploads.get(owner, 0) + 1
        try:
            yield
        finally:
            self._uploads[owner] -= 1
            if not self._uploads[owner]:
                del self._uploads[owner]
