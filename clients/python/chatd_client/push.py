"""Notifications while the user is away.

Owns: one method per operation.
Elsewhere: asking (requests), the results (results).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask.
"""

from __future__ import annotations

from chatd_client import results
from chatd_client.requests import Requests


class Push:
    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask

    async def key(self) -> results.PushKey:
        """Whether the server notifies users who are away, and how."""
        return await self._ask("push.key", results.PushKey)

    async def subscribe(self, endpoint: str, p256dh: str, auth: str) -> None:
        """Notify this browser by Web Push: the endpoint and the keys of its subscription. A repetition renews it."""
        await self._ask("push.subscribe", results.Nothing, endpoint=endpoint, keys={"p256dh": p256dh, "auth": auth})

    async def subscribe_gateway(self, gateway: str, token: str) -> None:
        """Notify this device through a gateway that a plug-in of the server serves."""
        await self._ask("push.subscribe", results.Nothing, gateway=gateway, token=token)

    async def unsubscribe(self, endpoint: str) -> bool:
        """Notify this browser no more. Whether it was subscribed."""
        return (await self._ask("push.unsubscribe", results.Found, endpoint=endpoint)).found

    async def unsubscribe_gateway(self, gateway: str, token: str) -> bool:
        """Notify this device no more. Whether it was subscribed."""
        return (await self._ask("push.unsubscribe", results.Found, gateway=gateway, token=token)).found

    async def unsubscribe_all(self) -> bool:
        """Notify none of the user's browsers and devices. Whether there was one."""
        return (await self._ask("push.unsubscribe", results.Found)).found
