"""`python -m tests.http.chat.planted switches -c FILE …` is chatd in whose workers the guards of the chat page's calls
can be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the attacks (tests.http.chat.test_calls).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant
from tests.http.demo import planted as demo


def passes_are_for_everything() -> Planted:
    """A cookie is a secret for logging in over any wire."""
    from chatd.core import passes

    def opened(guard: Any, key: bytes, text: str, now_s: float) -> Any:
        body = text.rpartition(".")[0]
        return guard(key, f"{body}.{passes._mac(key, body)}", now_s)

    return passes, "opened", opened


def passes_are_for_everybody() -> Planted:
    """Whoever has one may log in under any name."""
    from chatd.core.authentication import Authentication
    from chatd.core.passes import Purpose
    from chatd.core.proof import Proved

    async def by_pass(guard: Any, authentication: Any, attempt: Any) -> Any:
        found = authentication._passes.open(attempt.command.secret, Purpose.LOGIN)
        return Proved(attempt.account) if found is not None else await guard(authentication, attempt)

    return Authentication, "_by_pass", by_pass


BUGS = {one.__name__: one for one in (passes_are_for_everything, passes_are_for_everybody)} | {
    name: bug for name, bug in demo.BUGS.items() if name != demo.passwords_in_clear.__name__
}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
