"""What both sides of a handover use of core.

Owns: MovingParts. Elsewhere: core.sessions.departures, core.sessions.arrivals. Fails: never.
"""

from __future__ import annotations

from dataclasses import dataclass

from chatd.core.delivery import Delivery
from chatd.core.login_guard import LoginGuard
from chatd.core.presence import Presence
from chatd.core.services import Services
from chatd.core.sessions.login import Logins


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingParts:
    """The parts of a worker's chat that know something of a session."""

    services: Services
    delivery: Delivery
    logins: Logins
    presence: Presence
    guard: LoginGuard
