"""`python -m tests.tls.planted BUG -c FILE …` is chatd with a guard of TLS switched off in its workers."""

from __future__ import annotations

import sys

from chatd.net.receipts import SETTLE_S
from tests.faults.planted import main


def bytes_count_over_tls() -> None:
    """What the client's kernel has acknowledged counts as delivered, as over TCP."""
    from chatd.net.connection import Connection

    def trusting(self: Connection) -> int:
        old_enough = self.connections.now() - self.heard > SETTLE_S
        return self.written if old_enough else 0

    Connection.has_receipts = property(lambda self: True)  # type: ignore[assignment]
    Connection.received = trusting  # type: ignore[method-assign]


def passwords_in_clear() -> None:
    """accounts.require_tls refuses nobody."""
    from chatd.net.connection import Connection

    Connection.is_private = property(lambda self: True)  # type: ignore[assignment]


BUGS = {bug.__name__: bug for bug in (bytes_count_over_tls, passwords_in_clear)}

if __name__ == "__main__":
    sys.exit(main(BUGS))
