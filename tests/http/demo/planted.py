"""`python -m tests.http.demo.planted switches -c FILE …` is chatd in whose workers the guards of the demo's calls can
be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the attacks (tests.http.demo.test_calls).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def every_page_may_call() -> Planted:
    from chatd.http import browsers

    return browsers, "is_foreign", lambda guard, *asked, **more: False


def any_seal_is_good() -> Planted:
    """Whatever HMAC a cookie has."""
    from chatd.core import passes

    def opened(guard: Any, key: bytes, value: str, now_s: float) -> Any:
        text = value.rpartition(".")[0]
        return guard(key, f"{text}.{passes._mac(key, text)}", now_s)

    return passes, "opened", opened


def cookies_outlive_changes() -> Planted:
    """A changed password, a lock."""
    from chatd.core import passes

    return passes, "still_counts", lambda guard, *asked: True


def guesses_are_free() -> Planted:
    from chatd.core.penalties import Penalties

    return Penalties, "failed", lambda guard, *asked, **more: None


def passwords_in_clear() -> list[Planted]:
    """accounts.require_tls refuses nobody."""
    from chatd.core.sessions import login
    from chatd.http.connection import HttpConnection

    nobody: Any = lambda guard, *asked: None  # noqa: E731
    return [(HttpConnection, "check_private", nobody), (login, "check_private", nobody)]


BUGS = {
    one.__name__: one
    for one in (every_page_may_call, any_seal_is_good, cookies_outlive_changes, guesses_are_free, passwords_in_clear)
}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
