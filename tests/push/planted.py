"""Bugs planted into notifications. usage: planted.py switches, then the arguments of chatd: a test switches them on and
off (harness.switches).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Bugs, Planted, plant


def anybody_is_told() -> Planted:
    """Also who is online."""
    from chatd.core.sessions.hub import Hub

    async def online(guard: Any, hub: Any, users: Any) -> set[int]:
        return set()

    return Hub, "online", online


def read_messages_are_told() -> Planted:
    """Whether or not the message still waits."""
    from chatd.store.sql.push import SqlPush

    def due(guard: Any, push: Any, *asked: Any) -> Any:
        return [_with_message(push, one) for one in guard(push, *asked)]

    return SqlPush, "due", due


def _with_message(push: Any, one: Any) -> Any:
    (message,) = push._at(one.conversation, [one.seq])
    return one._replace(waits=True, message=message)


def any_endpoint() -> list[Planted]:
    """Nobody looks at addresses."""
    from chatd import outbound
    from chatd.push import sender
    from chatd.web_push import endpoints

    return [
        (endpoints, "check_endpoint", lambda guard, *asked: None),
        (sender, "check_endpoint", lambda guard, *asked: None),
        (outbound, "is_allowed", lambda guard, *asked: True),
    ]


def public_services_only() -> list[Planted]:
    """The list of services is not looked at; which addresses may be reached, is."""
    from chatd.push import sender
    from chatd.web_push import endpoints

    return [
        (endpoints, "check_endpoint", lambda guard, *asked: None),
        (sender, "check_endpoint", lambda guard, *asked: None),
    ]


def any_number() -> Planted:
    """Of subscriptions."""
    from chatd.store.sql.push import SqlPush

    return SqlPush, "subscribe", lambda guard, push, new, most, now_ms: guard(push, new, 10_000, now_ms)


def earlier_credentials_count() -> Planted:
    """Of somebody who had the account once."""
    from chatd.store.sql.push import SqlPush

    def due(guard: Any, push: Any, *asked: Any) -> Any:
        return [_with_message(push, one._replace(valid=True)) for one in guard(push, *asked)]

    return SqlPush, "due", due


def recorded_before_it_is_sent() -> Planted:
    """So that nobody sends it again."""
    from chatd.push.delivery import Delivery

    async def send(guard: Any, delivery: Any, one: Any, message: Any) -> Any:
        await delivery._record(lambda tables: tables.push.told(one, 1, 0))
        return await guard(delivery, one, message)

    return Delivery, "_send", send


def one_service_takes_all() -> Planted:
    """A service that does not answer keeps the notifications of all others waiting."""
    from chatd.push.places import Places

    return Places, "_has_room", lambda guard, places, service: True


BUGS: Bugs = {
    "one_service_takes_all": one_service_takes_all,
    "recorded_before_it_is_sent": recorded_before_it_is_sent,
    "anybody_is_told": anybody_is_told,
    "read_messages_are_told": read_messages_are_told,
    "any_endpoint": any_endpoint,
    "public_services_only": public_services_only,
    "any_number": any_number,
    "earlier_credentials_count": earlier_credentials_count,
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
