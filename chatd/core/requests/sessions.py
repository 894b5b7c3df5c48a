"""Requests about one's own sessions.

Owns: the arguments and answers of these operations.
Elsewhere: finding the sessions (core.sessions.query), ending one (core.sessions.login).
Fails: Refused; core.requests.dispatch answers with it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chatd.core.allowance import LIST
from chatd.core.bus_messages import SessionInfo
from chatd.core.plugins import actions
from chatd.core.plugins.contract import NotAsked, Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.arguments import NoArguments
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import of_user
from chatd.core.sessions.login import Logins
from chatd.core.sessions.query import SessionQuery, info_of
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import Protocol

_OWN = NotAsked("it changes nothing, and shows nothing of anybody else")


class WhichSession(msgspec.Struct, frozen=True):
    wire: Literal["chatserver", "mobileimsdk"]


class Text(msgspec.Struct, frozen=True):
    text: str = ""


class SessionOperations:
    def __init__(self, logins: Logins, query: SessionQuery, plugins: PluginPipeline) -> None:
        self._logins = logins
        self._query = query
        self._plugins = plugins

    def table(self) -> OperationTable:
        return {
            "session.list": Operation(
                NoArguments,
                "the user's sessions",
                '{"sessions":[{"wire":str,"since":ms,"peer":str,"this":bool}],"complete":bool}',
                asks=_OWN,
                read=self._list,
                cost=LIST,
            ),
            "session.kick": Operation(
                WhichSession,
                "end the user's session on the given wire",
                "{}",
                asks=Point.BEFORE_SESSION_END,
                read=self._kick,
            ),
            "whoami": Operation(
                NoArguments,
                "the user and session of this connection",
                '{"id":int,"name":str,"wire":str,"since":ms}',
                asks=_OWN,
                read=self._whoami,
            ),
            "echo": Operation(Text, "return the text", '{"text":str}', asks=_OWN, read=self._echo),
        }

    async def _list(self, session: Session, arguments: NoArguments) -> object:
        found = await self._query.sessions_of_same_user(session)
        here = [_shown(info_of(one), this=one is session) for one in found.here]
        elsewhere = [_shown(info, this=False) for info in found.elsewhere]
        return {"sessions": here + elsewhere, "complete": found.complete}

    async def _kick(self, session: Session, arguments: WhichSession) -> object:
        protocol = Protocol[arguments.wire.upper()]
        if protocol is session.protocol:
            raise Refused(ErrorCode.NOT_ALLOWED, "this is the session you are asking from")
        await self._plugins.before_action(
            session,
            Point.BEFORE_SESSION_END,
            lambda tables, who: actions.EndSession(**who, ended=arguments.wire),
        )
        self._logins.end_own(session.user.id, protocol)
        return {}

    async def _whoami(self, session: Session, arguments: NoArguments) -> object:
        return {**of_user(session.user), "wire": session.protocol.name.lower(), "since": session.since_ms}

    async def _echo(self, session: Session, arguments: Text) -> object:
        return {"text": arguments.text}


def _shown(info: SessionInfo, *, this: bool) -> dict[str, object]:
    wire = Protocol(info.protocol).name.lower()
    return {"wire": wire, "since": info.since_ms, "peer": info.remote, "this": this}
