"""`python -m tests.chatctl.killed TABLE N …`: chatctl that ends by kill -9 in the middle of the N-th batch it writes to
this table: the rows are in the destination's transaction, the note of how far it is, and the commit, are not."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from chatd.store.mysql.dump import MysqlDump
from chatd.store.sqlite.dump import SqliteDump


def plant(name: str, batches: int) -> None:
    left = batches

    for side in (SqliteDump, MysqlDump):

        def load(self: Any, table: Any, rows: Any, original: Any = side.load) -> None:
            nonlocal left
            original(self, table, rows)
            left -= table.name == name
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        side.load = load  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(sys.argv.pop(1), int(sys.argv.pop(1)))
    from chatd.chatctl.__main__ import main

    sys.exit(main())
