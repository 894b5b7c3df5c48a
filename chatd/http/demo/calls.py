"""/api/loginConnect and /api/sendMsg: a user logs in on a page, and sends messages.

Owns: the inputs of the two calls.
Elsewhere: who may log in (core.sessions.login, with core.login_guard), the form of requests and answers
(http.demo.forms), what the cookie says, and how long it counts (core.passes), sending (core.calls).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core.calls import Caller
from chatd.core.passes import Pass, Purpose
from chatd.errors import ErrorCode, Refused
from chatd.http.demo.forms import LIFETIME_S, DemoAnswer, FormCall
from chatd.http.messages import check_size, recipient
from chatd.http.route import Route
from chatd.protocol import Login, SendMessage


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who logs in."""

    username: Annotated[str, Meta(min_length=1, max_length=64, examples=["alice"])]
    password: Annotated[
        str, Meta(min_length=1, max_length=4096, description="whatever accounts.login takes: a password, or a token")
    ]


class NewText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message of the user who is logged in."""

    friendId: Annotated[str, Meta(min_length=1, max_length=64, description="the name of a user", examples=["bob"])]
    msg: Annotated[str, Meta(min_length=1, description="at most limits.body_bytes bytes of UTF-8")]


async def login_connect(asked: FormCall, _: None, given: Credentials) -> None:
    """Raises Refused, Unavailable."""
    core, connection = asked.call.core, asked.connection
    command = Login(name=given.username, user_id=0, secret=given.password, first_login_time=0)
    proved = await core.logins.prove(connection, command)
    asked.new_cookie = core.passes.make(Pass.of(proved, LIFETIME_S), Purpose.DEMO)
    connection.authenticated()


async def send_msg(asked: FormCall, _: None, given: NewText) -> None:
    """Raises Refused, Unavailable."""
    call = asked.call
    found = await call.core.passes.find(asked.cookie, Purpose.DEMO)
    if found is None:
        raise Refused(ErrorCode.NOT_LOGGED_IN)
    asked.connection.authenticated()
    check_size(given.msg, call.config.limits.body_bytes, "msg")
    to_name, to_id = await recipient(call, given.friendId, "friendId")
    command = SendMessage(to_name=to_name, to_id=to_id, to_group=0, body=given.msg, fp=call.own_fp(), qos=True)
    await call.calls.send(Caller(found[1].user, call.remote), command)


_TEXT = "For pages of MobileIMSDK's demo: "
ROUTES = (
    Route(
        method="POST",
        path="/api/loginConnect",
        scope="",
        handler=login_connect,
        text=f"{_TEXT}log in; the answer sets a cookie.",
        input=Credentials,
        output=DemoAnswer,
        is_form=True,
    ),
    Route(
        method="POST",
        path="/api/sendMsg",
        scope="",
        handler=send_msg,
        text=f"{_TEXT}send a message in the name of the user whose cookie it is.",
        input=NewText,
        output=DemoAnswer,
        is_form=True,
    ),
)
"""Served where http.demo is on."""
