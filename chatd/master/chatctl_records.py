"""What chatctl did on the store itself, as it stands in the security trail.

Owns: the form of such a record in this process's log.
Elsewhere: the request that carries it to the server (master.requests), the ways into the log (chatctl.trail).
Fails: never, like the log.
"""

from __future__ import annotations

from typing import Any

from chatd import security_log
from chatd.master.requests import RecordRequest
from chatd.security_log import SecurityEvent


def write_record(made: RecordRequest) -> None:
    """Write what chatctl did into this process's log."""
    what: dict[str, Any] = {"name": made.name, "user": made.user, "detail": made.detail}
    if made.event is SecurityEvent.ORDER:
        what = {"order": made.order, "arguments": made.arguments, "result": made.result, "why": made.why}
    who: dict[str, Any] = {"uid": made.uid, "by": made.by, "sudo_user": made.sudo_user, "caller_pid": made.caller_pid}
    if made.socket_uid >= 0:
        who["socket_uid"] = made.socket_uid
    security_log.record(made.event, **what, **who)
