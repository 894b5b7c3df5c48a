"""`python -m tests.cluster.planted_api switches -c FILE …` is chatd whose HTTP API can be made to keep answers to
itself, and in which guards that hold across hosts can be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the other guards of the API (tests.http.planted).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant
from tests.http.planted import repetitions_are_new, revoked_keys_are_kept


def answers_wait() -> Planted:
    """What a request asked for is done, and its answer never comes. The file `stored` tells that it was done."""
    from chatd.http.dispatch import RouteApp

    async def serve(guard: Any, self: Any, *asked: Any) -> Any:
        await guard(self, *asked)
        (Path(os.environ["SWITCHES"]) / "stored").touch()
        await asyncio.Event().wait()

    return RouteApp, "serve", serve


BUGS = {one.__name__: one for one in (answers_wait, repetitions_are_new, revoked_keys_are_kept)}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
