"""Requests about notifications while the user is away.

Owns: the arguments and answers of these operations.
Elsewhere: the rows (store.sql.push), where notifications may be sent (web_push.endpoints), sending them (push).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.

The libraries of web_push are loaded only if Web Push is configured.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd import wall_clock
from chatd.config.push_options import PushOptions
from chatd.core.allowance import CHANGE
from chatd.core.change import Change
from chatd.core.plugins.contract import NotAsked
from chatd.core.requests.arguments import NoArguments
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.store.contract import NewSubscription

_OWN = NotAsked("it changes nothing, and shows nothing of anybody else")

Gateway = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
Place = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[\x21-\x7e]*\Z")]


class BrowserKeys(msgspec.Struct, frozen=True):
    """Of a browser's subscription, as it encodes them."""

    p256dh: Annotated[str, Meta(max_length=128)]
    auth: Annotated[str, Meta(max_length=64)]


class Subscribing(msgspec.Struct, frozen=True, kw_only=True):
    """Either endpoint and keys, as PushSubscription.toJSON() of a browser has them, or gateway and token."""

    endpoint: Place | None = None
    keys: BrowserKeys | None = None
    gateway: Gateway | None = None
    token: Place | None = None


class Unsubscribing(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription; without any, all of the user."""

    endpoint: Place | None = None
    gateway: Gateway | None = None
    token: Place | None = None


class PushOperations:
    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._public: tuple[str, str] = "", ""
        """The private key of the configuration, and the public one that belongs to it."""

    def table(self) -> OperationTable:
        return {
            "push.key": Operation(
                NoArguments,
                "whether users are notified while they are away: `key` is the server's key for Web Push, "
                '"" = there is none; `gateways`: other ways; `content`: what a notification says',
                '{"key":str,"gateways":[str],"content":str}',
                asks=_OWN,
                read=self._key,
            ),
            "push.subscribe": Operation(
                Subscribing,
                "notify this browser (`endpoint`, `keys`), or this device (`gateway`, `token`), while the user is "
                "away; a repetition renews it. It ends with a change of the password",
                "{}",
                asks=_OWN,
                write=self._subscribe,
                cost=CHANGE,
            ),
            "push.unsubscribe": Operation(
                Unsubscribing,
                "notify this browser or device no more; without arguments, none of the user",
                '{"found":bool}',
                asks=_OWN,
                write=self._unsubscribe,
                shown=lambda found: {"found": found},
                cost=CHANGE,
            ),
        }

    async def _key(self, session: Session, arguments: NoArguments) -> object:
        options = self._config().push
        key, gateways = self._public_key(options), list(options.gateways)
        return {"key": key, "gateways": gateways, "content": options.content}

    def _public_key(self, options: PushOptions) -> str:
        if not options.subject:
            return ""
        if self._public[0] != options.key:
            from chatd.web_push.vapid import VapidKey

            self._public = options.key, VapidKey(options.key).public
        return self._public[1]

    async def _subscribe(self, session: Session, arguments: Subscribing) -> Change[None]:
        options = self._config().push
        new = self._checked(session.user.id, arguments, options)
        most = options.per_user
        return Change(lambda tables: tables.push.subscribe(new, most, wall_clock.now_ms()))

    def _checked(self, me: int, given: Subscribing, options: PushOptions) -> NewSubscription:
        """Raises Refused."""
        if given.gateway is not None and given.token is not None and given.endpoint is None:
            if given.gateway not in options.gateways:
                raise Refused(ErrorCode.NOT_ALLOWED, "this server has no such gateway")
            return NewSubscription(me, given.gateway, given.token)
        if given.endpoint is None or given.keys is None or given.gateway is not None:
            raise Refused(ErrorCode.BAD_FIELD, "endpoint and keys, or gateway and token")
        if not options.subject:
            raise Refused(ErrorCode.NOT_ALLOWED, "this server has no Web Push")
        from chatd.web_push.encryption import browser_keys
        from chatd.web_push.endpoints import check_endpoint

        try:
            check_endpoint(given.endpoint, options.services, options.allow_private)
            browser_keys(given.keys.p256dh, given.keys.auth)
        except ValueError as error:
            raise Refused(ErrorCode.BAD_FIELD, str(error)) from None
        return NewSubscription(me, "", given.endpoint, given.keys.p256dh, given.keys.auth)

    async def _unsubscribe(self, session: Session, arguments: Unsubscribing) -> Change[bool]:
        me, gateway = session.user.id, arguments.gateway or ""
        place = arguments.endpoint if not gateway else arguments.token
        if place is None and (gateway or arguments.token):
            raise Refused(ErrorCode.BAD_FIELD, "endpoint, or gateway and token, or nothing")
        if place is None:
            return Change(lambda tables: tables.push.unsubscribe_all(me))
        return Change(lambda tables: tables.push.unsubscribe(me, gateway, place))
