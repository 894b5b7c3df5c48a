"""The calls of the operator's page about its own session: logging in, who is logged in, logging out.

Owns: their inputs and outputs, and ROUTES, all of the page's own calls.
Elsewhere: who may log in, and for how long (core.administrators), the form of requests (http.admin.requests).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

import socket
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd import __version__
from chatd.core.administrators import IDLE_S
from chatd.http.admin import api, bans, configuration, keys, log_tail, orders, people
from chatd.http.admin.requests import NOBODY, AdminCall, AdminCallApp, route
from chatd.http.dispatch import RouteApp, Shared
from chatd.http.route import NoInput
from chatd.protocol import Login


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No input, or no output."""


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who logs in. code: of the second factor."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    code: Annotated[str, Meta(min_length=1, max_length=32)]


class Self(msgspec.Struct, frozen=True, kw_only=True):
    """Who is logged in."""

    name: str
    role: str


class Session(Self, frozen=True, kw_only=True):
    """And for how long. name: "" = nobody is logged in. ends_at_ms: epoch; idle_s: it ends earlier if nothing is done
    for so long. version, host: "" for a stranger."""

    ends_at_ms: int
    idle_s: int
    version: str
    host: str


async def log_in(call: AdminCall, _: object, given: Credentials) -> Self:
    """Raises Refused, Unavailable."""
    command = Login(name=given.name, user_id=0, secret=given.password)
    made = await call.core.administrators.log_in(call.connection, command, given.code)
    call.connection.authenticated()
    await call.core.administrators.log_out(call.cookie)  # a session that the browser had before ends with its cookie
    call.new_cookie = made.token
    return Self(name=made.administrator.user.name, role=made.administrator.role)


async def log_out(call: AdminCall, _: object, __: Nothing) -> Nothing:
    """Raises Unavailable."""
    await call.core.administrators.log_out(call.cookie)
    call.new_cookie = ""
    return Nothing()


async def me(call: AdminCall, _: object, __: NoInput) -> Session:
    """Raises Unavailable."""
    found = await call.core.administrators.find(call.cookie)
    if found is None:
        return Session(name="", role="", ends_at_ms=0, idle_s=0, version="", host="")
    return Session(
        name=found.account.user.name,
        role=found.administrator.role,
        ends_at_ms=found.session.ends_at_ms,
        idle_s=IDLE_S,
        version=__version__,
        host=socket.gethostname(),
    )


SESSION_ROUTES = (
    route("POST", "login", NOBODY, log_in, Credentials, Self, "Log in; the answer sets a cookie."),
    route("POST", "logout", NOBODY, log_out, Nothing, Nothing, "End the session, and take the cookie back."),
    route("GET", "me", NOBODY, me, NoInput, Session, "Who is logged in."),
)
ROUTES = (
    *SESSION_ROUTES,
    *orders.ROUTES,
    *people.ROUTES,
    *keys.ROUTES,
    *bans.ROUTES,
    *log_tail.ROUTES,
    *configuration.ROUTES,
)
"""Served where the operator's page is. They are no part of the API, and may change with the page."""


def apps(shared: Shared) -> list[RouteApp]:
    """Everything that the page calls."""
    return [*api.apps(shared), *(AdminCallApp(one, shared) for one in ROUTES)]
