"""`python -m tests.http.admin.planted switches -c FILE …` is chatd in whose workers the guards of the operator's page
can be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the attacks (tests.http.admin.test_session, test_orders, test_attacks).
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


def readers_may_write() -> list[Planted]:
    from chatd.http.admin import api, requests

    async def admit(guard: Any, core: Any, connection: Any, head: Any, needs: str) -> Any:
        return await guard(core, connection, head, requests.READ)

    return [(requests, "admit", admit), (api, "admit", admit)]


def sessions_are_never_idle() -> Planted:
    """They still end 12 hours after their login."""
    import msgspec

    from chatd.core import administrators

    def has_ended(guard: Any, found: Any, now_ms: int) -> Any:
        session = msgspec.structs.replace(found.session, seen_at_ms=now_ms)
        return guard(msgspec.structs.replace(found, session=session), now_ms)

    return administrators, "has_ended", has_ended


def sessions_last_while_they_are_used() -> Planted:
    import msgspec

    from chatd.core import administrators

    def has_ended(guard: Any, found: Any, now_ms: int) -> Any:
        session = msgspec.structs.replace(found.session, ends_at_ms=now_ms + 1)
        return guard(msgspec.structs.replace(found, session=session), now_ms)

    return administrators, "has_ended", has_ended


def polling_keeps_sessions_alive() -> Planted:
    from chatd.core.administrators import Administrators

    def find(guard: Any, this: Any, token: str, *, keeps_alive: bool = True) -> Any:
        return guard(this, token)

    return Administrators, "find", find


def no_fresh_codes() -> list[Planted]:
    from chatd.http.admin import api, requests

    async def admit(guard: Any, core: Any, connection: Any, head: Any, needs: str) -> Any:
        return await guard(core, connection, head, requests.WRITE if needs == requests.FRESH else needs)

    return [(requests, "admit", admit), (api, "admit", admit)]


def plain_cookies_count_over_tls() -> Planted:
    from chatd.http.admin import requests

    def is_over_tls(guard: Any, head: Any, connection: Any) -> bool:
        return False

    return requests, "_is_over_tls", is_over_tls


def guesses_at_once_are_free() -> Planted:
    from chatd.core.login_guard import LoginGuard

    def check_again(guard: Any, this: Any, attempt: Any) -> None:
        pass

    return LoginGuard, "check_again", check_again


def changes_are_not_recorded() -> Planted:
    from chatd.http.admin.api import AdminApiApp

    def record(guard: Any, this: Any, call: Any) -> None:
        pass

    return AdminApiApp, "_record", record


BUGS: dict[str, Any] = {
    one.__name__: one
    for one in (
        codes_count_twice,
        any_code_is_right,
        sessions_outlive_changes,
        readers_may_write,
        sessions_are_never_idle,
        sessions_last_while_they_are_used,
        polling_keeps_sessions_alive,
        no_fresh_codes,
        plain_cookies_count_over_tls,
        guesses_at_once_are_free,
        changes_are_not_recorded,
    )
} | {name: demo.BUGS[name] for name in ("every_page_may_call", "guesses_are_free")}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
