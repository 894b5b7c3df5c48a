"""`python -m tests.http.planted switches -c FILE …` is chatd in whose workers the guards of the HTTP API can be
switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the attacks (tests.http.test_guards), the calls of the demo
(tests.http.demo.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def any_key_will_do() -> Planted:
    """A key that nobody made is taken for the first one there is."""
    from chatd.core.key_ring import KeyRing

    def find(guard: Any, self: Any, secret: bytes) -> Any:
        return guard(self, secret) or next(iter(self._keys.values()), None)

    return KeyRing, "find", find


def scopes_are_not_asked() -> Planted:
    from chatd.http.guard import Guard

    def admit(guard: Any, self: Any, authorization: bytes, scope: str, remote: str) -> Any:
        key = self._keys.find(authorization[7:].strip())
        return guard(self, authorization, key.scopes[0] if key is not None else scope, remote)

    return Guard, "admit", admit


def revoked_keys_are_kept() -> Planted:
    """Keys that are new are learnt, and none is forgotten."""
    from chatd.core.key_ring import KeyRing

    async def read(guard: Any, self: Any) -> None:
        before = dict(self._keys)
        await guard(self)
        self._keys = {**before, **self._keys}

    return KeyRing, "_read", read


def keys_never_expire() -> Planted:
    from chatd.store.api_key_contract import ApiKey

    return ApiKey, "valid", lambda guard, self, now_ms: True


def guesses_are_free() -> Planted:
    from chatd.core.penalties import Penalties

    return Penalties, "failed", lambda guard, *asked, **more: None


def repetitions_are_new() -> Planted:
    """The Idempotency-Key is read, and not used."""
    from chatd.http.call import Call

    def own_fp(guard: Any, self: Any) -> str:
        self.fp = ""
        return str(guard(self))

    return Call, "own_fp", own_fp


def bodies_have_no_limit() -> Planted:
    from chatd.http.parser import RequestParser

    return RequestParser, "_check_body", lambda guard, self, size: None


def rates_have_no_limit() -> Planted:
    from chatd.http.guard import Guard

    def admit(guard: Any, self: Any, *asked: Any) -> Any:
        for grant in self._grants.values():
            grant.left = 10.0
        return guard(self, *asked)

    return Guard, "admit", admit


def every_origin_may_call() -> Planted:
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware, "is_allowed_origin", lambda guard, self, origin: True


BUGS = {
    one.__name__: one
    for one in (
        any_key_will_do,
        scopes_are_not_asked,
        revoked_keys_are_kept,
        keys_never_expire,
        guesses_are_free,
        repetitions_are_new,
        bodies_have_no_limit,
        rates_have_no_limit,
        every_origin_may_call,
    )
}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
