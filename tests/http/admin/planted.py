"""`python -m tests.http.admin.planted switches -c FILE …` is chatd in whose workers the guards of the operator's page
can be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the attacks (tests.http.admin.test_session).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant
from tests.http.demo import planted as demo


def codes_count_twice() -> Planted:
    from chatd.store.sql.administrators import SqlAdministrators

    def take_step(guard: Any, tables: Any, user_id: int, step: int) -> bool:
        guard(tables, user_id, step)
        return True

    return SqlAdministrators, "take_step", take_step


def any_code_is_right() -> Planted:
    from chatd import totp

    def step_of(guard: Any, secret: str, code: str, now_s: float) -> int:
        return guard(secret, code, now_s) or int(now_s * 1000)

    return totp, "step_of", step_of


def sessions_outlive_changes() -> Planted:
    from chatd.core import administrators

    def has_ended(guard: Any, found: Any, now_ms: int) -> bool:
        return False

    return administrators, "has_ended", has_ended


def readers_may_write() -> Planted:
    from chatd.http.admin import requests

    async def admit(guard: Any, core: Any, connection: Any, head: Any, needs: str) -> Any:
        return await guard(core, connection, head, requests.READ)

    return requests, "admit", admit


BUGS = {
    one.__name__: one
    for one in (
        codes_count_twice,
        any_code_is_right,
        sessions_outlive_changes,
        readers_may_write,
    )
} | {name: demo.BUGS[name] for name in ("every_page_may_call", "guesses_are_free")}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
