"""/api/loginConnect and /api/sendMsg: a user logs in on a page, and sends messages.

Owns: the inputs of the two calls, and whether a cookie still counts.
Elsewhere: who may log in (core.sessions.login, with core.login_guard), the form of requests and answers
(http.demo.forms), the cookie (http.demo.cookie), sending (core.calls).
Fails: Refused, Unavailable.

A cookie counts while its account has the credentials with which it was made: they change with the password, and when
the account is locked, deleted or erased. That is read from the store at each call, so it ends at the commit of the
change, on every host.
"""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core.calls import Caller
from chatd.core.core import Core
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.http.demo import cookie
from chatd.http.demo.forms import DemoAnswer, FormCall
from chatd.http.messages import check_size, recipient
from chatd.http.route import Route
from chatd.model import User
from chatd.protocol import Login, SendMessage
from chatd.store.contract import Account


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
    account = proved.account
    expires_at = int(time.time()) + cookie.LIFETIME_S
    if proved.ends_at_ms:
        expires_at = min(expires_at, proved.ends_at_ms // 1000)
    connection.authenticated()
    asked.new_cookie = cookie.sealed(_key(core), cookie.Pass(account.user.id, account.credentials, expires_at))


async def send_msg(asked: FormCall, _: None, given: NewText) -> None:
    """Raises Refused, Unavailable."""
    call = asked.call
    user = await _user_of(asked)
    asked.connection.authenticated()
    check_size(given.msg, call.config.limits.body_bytes, "msg")
    to_name, to_id = await recipient(call, given.friendId, "friendId")
    command = SendMessage(to_name=to_name, to_id=to_id, to_group=0, body=given.msg, fp=call.own_fp(), qos=True)
    await call.calls.send(Caller(user, call.remote), command)


async def _user_of(asked: FormCall) -> User:
    """Whose cookie it is. Raises Refused NOT_LOGGED_IN; Unavailable. Cost: one small read of the store, and of a forged
    cookie none."""
    core = asked.call.core
    passed = cookie.opened(_key(core), asked.cookie, time.time())
    if passed is None:
        raise Refused(ErrorCode.NOT_LOGGED_IN)
    user_id = passed.user_id
    account = await core.store.read(lambda tables: tables.accounts.find("", user_id))
    if account is None or not still_counts(passed, account):
        raise Refused(ErrorCode.NOT_LOGGED_IN)
    return account.user


def still_counts(passed: cookie.Pass, account: Account) -> bool:
    """Whether the account is as it was when its user logged in."""
    return account.credentials == passed.credentials and not account.locked_at_ms


def _key(core: Core) -> bytes:
    """Raises Unavailable."""
    try:
        return cookie.key_of(core.accounts.secret)
    except ValueError as error:
        raise Unavailable(str(error)) from None


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
