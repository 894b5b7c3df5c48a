"""/v1/users/{name}/sessions and /presence: where a user is logged in, and ending that.

Owns: the inputs and outputs of these routes.
Elsewhere: finding sessions (core.sessions.query), ending them (core.sessions.kick), who is online (core.sessions.hub).
Fails: Refused, Unavailable. A worker that does not answer in time is not waited for, and the answer says so.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core.sessions.kick import KickTarget
from chatd.errors import ErrorCode
from chatd.http.call import Call
from chatd.http.resources.shared import EndedSessions, MaybeTime, OneUser, Time, ended, maybe, user_named
from chatd.http.route import NoInput, Route
from chatd.model import Protocol
from chatd.orders import REASON_CHARS
from chatd.security_log import SecurityEvent
from chatd.texts import fields

_Wire = Literal["chatserver", "mobileimsdk"]
_UNKNOWN = (ErrorCode.UNKNOWN_RECIPIENT,)


class UserSession(msgspec.Struct, frozen=True, kw_only=True):
    """One logged-in client."""

    wire: _Wire
    since_ms: Time
    peer: Annotated[str, Meta(description="the address of the client")]
    host: str
    worker: Annotated[int, Meta(ge=0)]


class UserSessions(msgspec.Struct, frozen=True, kw_only=True):
    """A user's sessions, on all workers and hosts."""

    sessions: list[UserSession]
    complete: Annotated[bool, Meta(description="false: a worker has not answered in time, so there may be more")]


class WhichSessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which sessions end, and what their clients are told."""

    wire: Annotated[Literal["", "chatserver", "mobileimsdk"], Meta(description="only on this wire")] = ""
    reason: Annotated[str, Meta(max_length=REASON_CHARS, description="one line; the client is told it")] = ""


class UserPresence(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a user is online."""

    id: int
    name: str
    online: bool
    last_seen_at_ms: MaybeTime


async def list_sessions(call: Call, at: OneUser, _: NoInput) -> UserSessions:
    user = await user_named(call, at.name)
    found = await call.core.session_query.sessions_of(user.id)
    shown = [
        UserSession(
            wire=_wire(one.info.protocol),
            since_ms=one.info.since_ms,
            peer=one.info.remote,
            host=one.host,
            worker=one.slot,
        )
        for one in found.sessions
    ]
    return UserSessions(sessions=shown, complete=found.complete)


def _wire(protocol: int) -> _Wire:
    return "chatserver" if protocol == Protocol.CHATSERVER else "mobileimsdk"


async def end_sessions(call: Call, at: OneUser, which: WhichSessions) -> EndedSessions:
    user = await user_named(call, at.name)
    reason = fields.line("reason", which.reason, REASON_CHARS) if which.reason else ""
    protocol = int(Protocol[which.wire.upper()]) if which.wire else 0
    result = await call.core.kicks.kick(KickTarget(user_id=user.id, protocol=protocol), reason)
    call.record(SecurityEvent.KICKED, name=user.name, user=user.id, sessions=result.sessions)
    return ended(result)


async def presence(call: Call, at: OneUser, _: NoInput) -> UserPresence:
    user = await user_named(call, at.name)
    seen_ms = await call.core.store.read(lambda tables: tables.accounts.last_seen(user.id))
    is_online = user.id in await call.core.hub.online([user.id])
    return UserPresence(id=user.id, name=user.name, online=is_online, last_seen_at_ms=maybe(seen_ms))


ROUTES = (
    Route(
        method="GET",
        path="/v1/users/{name}/sessions",
        scope="users:read",
        handler=list_sessions,
        text="List a user's sessions, on all workers and hosts.",
        parameters=OneUser,
        output=UserSessions,
        refusals=_UNKNOWN,
    ),
    Route(
        method="DELETE",
        path="/v1/users/{name}/sessions",
        scope="users:write",
        handler=end_sessions,
        text="End a user's sessions; the user may log in again.",
        parameters=OneUser,
        input=WhichSessions,
        output=EndedSessions,
        refusals=_UNKNOWN,
    ),
    Route(
        method="GET",
        path="/v1/users/{name}/presence",
        scope="users:read",
        handler=presence,
        text="Whether a user is online, and when they were last seen.",
        parameters=OneUser,
        output=UserPresence,
        refusals=_UNKNOWN,
    ),
)
