"""Requests about profiles and one's own password.

Owns: the arguments and answers of these operations.
Elsewhere: their rules (core.accounts, core.profiles, the store).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core import consent, profiles, trail
from chatd.core.accounts import Accounts
from chatd.core.allowance import CHANGE, LIST
from chatd.core.change import Change
from chatd.core.friends import by_id
from chatd.core.login_guard import LoginGuard
from chatd.core.plugins import actions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.privacy import check_private
from chatd.core.profiles import Profile
from chatd.core.requests.arguments import UserName, user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.notices import of_user
from chatd.core.services import Services
from chatd.core.sessions.credentials import CredentialsWatch
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.protocol import Login
from chatd.security_log import SecurityEvent
from chatd.store.contract import Purpose, Tables


class MaybeUser(msgspec.Struct, frozen=True):
    user: UserName | None = None


class Passwords(msgspec.Struct, frozen=True):
    old: Annotated[str, Meta(max_length=1024)]
    new: Annotated[str, Meta(max_length=1024)]


class ProfileOperations:
    def __init__(
        self,
        services: Services,
        accounts: Accounts,
        guard: LoginGuard,
        credentials: CredentialsWatch,
        plugins: PluginPipeline,
    ) -> None:
        self._store = services.store
        self._accounts = accounts
        self._config = services.config
        self._guard = guard
        self._credentials = credentials
        self._plugins = plugins

    def table(self) -> OperationTable:
        return {
            "profile.get": Operation(
                MaybeUser,
                "a user's profile; without `user`, the caller's own",
                '{"user":U,"profile":{…}}',
                asks=Point.BEFORE_PROFILE_VIEW,
                read=self._get,
            ),
            "profile.set": Operation(
                Profile,
                "change the caller's profile",
                '{"profile":{…}}',
                asks=Point.BEFORE_PROFILE_CHANGE,
                write=self._set,
                shown=lambda profile: {"profile": profile},
                cost=CHANGE,
            ),
            "password.change": Operation(
                Passwords,
                "change the caller's password; the caller's other sessions end",
                "{}",
                asks=Point.BEFORE_PASSWORD_CHANGE,
                write=self._change_password,
                has_secrets=True,
                cost=LIST,
            ),
        }

    async def _get(self, session: Session, arguments: MaybeUser) -> object:
        find = by_id(session.user.id) if arguments.user is None else user_named(arguments.user)
        await self._plugins.before_action(
            session, Point.BEFORE_PROFILE_VIEW, lambda tables, who: actions.ViewProfile(**who, user=find(tables))
        )

        me, config = session.user.id, self._config()

        def read(tables: Tables) -> object:
            user = find(tables)
            if consent.refusal(tables, config, Purpose.SEE, me, user.id) is not None:
                raise Refused(ErrorCode.NOT_ACCEPTED, f"{user.name} does not show you their profile")
            return {"user": of_user(user), "profile": tables.accounts.profile(user.id)}

        return await self._store.read(read)

    async def _set(self, session: Session, arguments: Profile) -> Change[dict[str, str]]:
        me, given = session.user.id, profiles.checked(arguments)
        await self._plugins.before_action(
            session, Point.BEFORE_PROFILE_CHANGE, lambda tables, who: actions.ChangeProfile(**who, fields=dict(given))
        )
        return Change(lambda tables: profiles.change(tables, me, given))

    async def _change_password(self, session: Session, arguments: Passwords) -> Change[int]:
        check_private(session.peer, self._config())
        await self._plugins.before_action(
            session, Point.BEFORE_PASSWORD_CHANGE, lambda tables, who: actions.ChangePassword(**who)
        )
        me = session.user
        login = Login("", me.id, arguments.old)
        try:
            attempt = self._guard.attempt(session.peer)
            await self._guard.check_password(attempt, login)
            account = attempt.account
            hashed = await self._accounts.hash_new(arguments.new, me.name, self._guard.changer(attempt))
        except Refused as refused:
            wrong = refused.code == ErrorCode.BAD_CREDENTIALS
            reason = "wrong_password" if wrong else trail.reason_of(refused)
            trail.record(SecurityEvent.PASSWORD_CHANGE_FAILED, session.peer, reason=reason)
            raise
        expected = account.credentials if account else 0
        here = attempt.known.hidden if attempt.known else ""
        self._credentials.begin_own_change(session)

        def changed(version: int) -> None:
            trail.record(SecurityEvent.PASSWORD_CHANGED, session.peer, name=me.name, user=me.id)
            self._credentials.changed_own(session, version)

        return Change(
            lambda tables: tables.accounts.set_password(me.id, hashed, expected, here),
            changed,
            lambda: self._credentials.end_own_change(session, expected),
        )
