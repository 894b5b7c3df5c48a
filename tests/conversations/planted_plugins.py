"""`python -m tests.conversations.planted_plugins BUG -c FILE …` is chatd with a bug in how it asks plug-ins.

Owns: the bugs, each a guard switched off. The attacks in test_plugin_attacks must succeed against each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.faults.planted import main


def one_wire_not_asked() -> None:
    """What comes over the chatserver wire is not put to plug-ins."""
    from chatd.core.plugins.pipeline import PluginPipeline
    from chatd.model import Protocol

    ask = PluginPipeline.before_action

    async def deaf(self: Any, session: Any, point: Any, make: Any) -> None:
        if session.protocol is not Protocol.CHATSERVER:
            await ask(self, session, point, make)

    PluginPipeline.before_action = deaf  # type: ignore[method-assign]


def login_without_account() -> None:
    """Plug-ins are given the name as it was typed, and no account."""
    from chatd.core.plugins.pipeline import PluginPipeline

    ask = PluginPipeline.before_login

    async def blind(self: Any, peer: Any, command: Any, user: Any) -> None:
        await ask(self, peer, command, None)

    PluginPipeline.before_login = blind  # type: ignore[method-assign]


def fails_open() -> None:
    """A plug-in that gives no answer is as good as none, whatever its options say."""
    from chatd.core.plugins.plugin import Plugin

    Plugin.fail_closed = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


def shared_guard() -> None:
    """All methods of a plug-in are suspended together."""
    from chatd.core.plugins.plugin import Plugin

    make = Plugin.__init__

    def shared(self: Any, options: Any, made: Any, loop: Any) -> None:
        make(self, options, made, loop)
        one = next(iter(self._guards.values()))
        self._guards = dict.fromkeys(self._guards, one)

    Plugin.__init__ = shared  # type: ignore[method-assign]


def all_for_one() -> None:
    """The failures of one user suspend the method for everybody."""
    from chatd.core.plugins.guard import PointGuard

    admit, failed = PointGuard.admit, PointGuard.failed

    def suspend(self: Any, call: Any, now: float) -> Any:
        verdict = failed(self, call, now)
        self.broken = getattr(self, "broken", 0) + 1
        return verdict

    def refuse(self: Any, cause: Any, now: float) -> Any:
        return None if getattr(self, "broken", 0) >= self._failures else admit(self, cause, now)

    PointGuard.admit, PointGuard.failed = refuse, suspend  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug for bug in (one_wire_not_asked, login_without_account, fails_open, shared_guard, all_for_one)
}

if __name__ == "__main__":
    sys.exit(main(BUGS))
