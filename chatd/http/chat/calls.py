"""The calls of the chat page: who may register and how one logs in, doing both, staying logged in, logging out.

Owns: their inputs and outputs.
Elsewhere: who may log in and register (core.sessions.login, core.registration, with core.login_guard), what a cookie
says, and how long it counts (core.passes), the form of requests (http.chat.requests). Everything else that the page
does goes over its WebSocket.
Fails: Refused, Unavailable.

The page never has the secret for longer than it is being typed: it is given a cookie that no script can read, and for
each connection of its WebSocket a pass that counts for PASS_S.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatd.core.passes import Pass, Purpose
from chatd.core.proof import Proved
from chatd.errors import ErrorCode, Refused
from chatd.http.chat.requests import LIFETIME_S, PageCall
from chatd.http.route import Route
from chatd.model import UserId
from chatd.protocol import Login, Register

PASS_S = 60
"""From being asked for, over connecting, to logging in."""
SESSION_S = 86_400
"""How long a user stays logged in who has not asked for more; the browser forgets the cookie earlier, when it ends."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No input."""


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who logs in. stay: also when the browser is started again."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    secret: Annotated[str, Meta(min_length=1, max_length=8192, description="whatever accounts.login takes")]
    stay: bool = False


class Applicant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who registers. invite: an invite code, where one is needed."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    invite: Annotated[str, Meta(max_length=64)] = ""


class Person(msgspec.Struct, frozen=True):
    """Who is logged in."""

    id: int
    name: str


class Ticket(msgspec.Struct, frozen=True):
    """secret: for one login over the WebSocket, within PASS_S."""

    id: int
    name: str
    secret: str


class Ways(msgspec.Struct, frozen=True):
    """How one comes in. name: of the user who is logged in, "" = none is. path: of the WebSocket. text_bytes: the most
    that a message's text may have, in UTF-8."""

    name: str
    registration: Literal["open", "invite", "closed"]
    login: tuple[str, ...]
    min_password_chars: int
    path: str
    text_bytes: int


async def ways(call: PageCall, _: None, __: Nothing) -> Ways:
    """Raises Unavailable."""
    found = await call.core.passes.find(call.cookie, Purpose.CHAT_PAGE)
    config, mount = call.connection.connections.config(), call.connection.mount
    accounts = config.accounts
    return Ways(
        name=found[1].user.name if found is not None else "",
        registration=accounts.registration,
        login=accounts.kinds,
        min_password_chars=accounts.min_password_chars,
        path=mount.path if mount is not None else "",
        text_bytes=config.limits.body_bytes,
    )


async def log_in(call: PageCall, _: None, given: Credentials) -> Person:
    """Raises Refused, Unavailable."""
    command = Login(name=given.name, user_id=0, secret=given.secret, first_login_time=0)
    proved = await call.core.logins.prove(call.connection, command)
    call.connection.authenticated()
    call.stays = given.stay
    lifetime_s = LIFETIME_S if given.stay else SESSION_S
    call.new_cookie = call.core.passes.make(Pass.of(proved, lifetime_s), Purpose.CHAT_PAGE)
    user = proved.account.user
    return Person(user.id, user.name)


async def register(call: PageCall, _: None, given: Applicant) -> Person:
    """Raises Refused, Unavailable."""
    user = await call.core.registration.register(call.connection, Register(given.name, given.password, given.invite))
    return Person(user.id, user.name)


async def get_pass(call: PageCall, _: None, __: Nothing) -> Ticket:
    """Raises Refused NOT_LOGGED_IN; Unavailable."""
    found = await call.core.passes.find(call.cookie, Purpose.CHAT_PAGE)
    if found is None:
        raise Refused(ErrorCode.NOT_LOGGED_IN)
    cookie, account = found
    call.connection.authenticated()
    one = Pass.of(Proved(account, ends_at_ms=cookie.ends_at_ms), PASS_S)
    secret = call.core.passes.make(one, Purpose.LOGIN)
    return Ticket(UserId(account.user.id), account.user.name, secret)


async def log_out(call: PageCall, _: None, __: Nothing) -> Nothing:
    """Never raises."""
    call.new_cookie = ""
    return Nothing()


def _route(path: str, handler: object, input_: type, output: type, text: str) -> Route:
    return Route(method="POST", path=path, scope="", handler=handler, text=text, input=input_, output=output)  # type: ignore[arg-type]


ROUTES = (
    _route("/chat/ways", ways, Nothing, Ways, "How one comes in."),
    _route("/chat/login", log_in, Credentials, Person, "Log in; the answer sets a cookie."),
    _route("/chat/register", register, Applicant, Person, "Make an account."),
    _route("/chat/pass", get_pass, Nothing, Ticket, "A secret for one login over the WebSocket."),
    _route("/chat/logout", log_out, Nothing, Nothing, "Take the cookie back."),
)
"""Served where the chat page is. They are no part of the API, and may change with the page."""
