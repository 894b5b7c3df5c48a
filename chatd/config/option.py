"""How one option is described where it is declared.

Owns: option(), the description and limits of a field of a section; when a change takes effect.
Elsewhere: the sections (config.schema, config.account_options, config.penalty_options, config.people_options), reading
the descriptions (config.options).
Fails: never.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Meta

Effect = Literal["live", "worker", "restart"]
"""When a changed option takes effect: at once, in workers started from now on, or at a restart."""


def option(
    description: str, effect: Effect, ge: float | None = None, le: float | None = None, *, secret: bool = False
) -> Meta:
    """description: a phrase without a full stop, starting in lower case unless with a name. secret: its value is never
    shown."""
    return Meta(description=description, extra={"effect": effect, "secret": secret}, ge=ge, le=le)
