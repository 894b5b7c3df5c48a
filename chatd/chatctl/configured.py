"""What commands about sections with names have in common: [[webhook]], [[bridge]].

Owns: finding a section by its name; what is said when it is tried, when it is forgotten, and when the store was
changed; NOT_DONE.
Elsewhere: what the commands do (chatctl.webhooks, chatctl.bridges).
Fails: never; what is wrong is noted, and the exit code says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from chatd.chatctl import render
from chatd.chatctl.control_client import note
from chatd.errors import Exit

NOT_DONE = 1
"""Exit code: nothing has this name, it is still configured, or what was tried does not work."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def find(sections: Sequence[N], name: str, kind: str) -> N | None:
    """The section with this name; None = there is none, which is noted. kind: of the sections, as in the file."""
    found = next((one for one in sections if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in sections) or "none"
        note(f"there is no [[{kind}]] {name} in the configuration (there is: {names})")
    return found


def may_forget(sections: Sequence[Named], name: str, kind: str) -> bool:
    """Whether the store may forget it. Not if it is configured, which is noted."""
    if any(one.name == name for one in sections):
        note(f"{name} is configured: it would be registered again; remove its [[{kind}]] first")
        return False
    return True


def say_changed(name: str, kind: str, *, done: bool, as_json: bool) -> int:
    """What was done to the store's row of this name; the exit code. done: there is such a row."""
    if as_json:
        render.print_json({"v": 1, "name": name, "done": done})
    elif not done:
        note(f"the store knows no {kind} {name}: a server registers those of its configuration when it starts")
    return Exit.OK if done else NOT_DONE


def say_tried(name: str, error: str, success: str, *, as_json: bool, took_ms: int | None = None) -> int:
    """The outcome of a trial; the exit code. error: "" = it works, which `success` says. took_ms: None = not told."""
    took = "" if took_ms is None else f" ({took_ms} ms)"
    if as_json:
        figures = {} if took_ms is None else {"ms": took_ms}
        render.print_json({"v": 1, "name": name, "ok": not error, "error": error, **figures})
    elif error:
        note(f"{name}: {error}{took}")
    else:
        print(f"{name}: {success}{took}")
    return NOT_DONE if error else Exit.OK
