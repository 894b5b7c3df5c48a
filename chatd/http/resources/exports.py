"""/v1/users/{name}/export: everything of one person as an archive.

Owns: the route, and its record in the security trail.
Elsewhere: making the archive (core.exports), what is in it (core.person_archive), sending it (http.dispatch).
Fails: Refused BUSY while this worker makes another archive; Unavailable.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from chatd.core.exports import Archive
from chatd.errors import ErrorCode
from chatd.http.call import Call
from chatd.http.resources.shared import OneUser, user_named
from chatd.http.route import Download, NoInput, Route, ZipOutput
from chatd.model import User
from chatd.security_log import SecurityEvent


async def export(call: Call, at: OneUser, _: NoInput) -> Download:
    user = await user_named(call, at.name)
    return Download(f"user-{user.id}.zip", _archive(call, user))


@contextlib.asynccontextmanager
async def _archive(call: Call, user: User) -> AsyncIterator[Archive]:
    async with call.core.administration.exports.archive_of(user) as archive:
        made = archive.exported
        detail = f"{made.messages} messages of {made.conversations} conversations"
        call.record(SecurityEvent.ACCOUNT_EXPORTED, name=user.name, user=user.id, detail=detail)
        yield archive


ROUTES = (
    Route(
        method="GET",
        path="/v1/users/{name}/export",
        scope="admin",
        handler=export,
        text="Everything that is stored of a person, as the archive of `chatctl user export`; takes a while.",
        parameters=OneUser,
        output=ZipOutput,
        refusals=(ErrorCode.UNKNOWN_RECIPIENT,),
    ),
)
