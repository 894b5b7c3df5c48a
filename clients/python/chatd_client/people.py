"""What a user asks of the server about people: friends, blocks, privacy, profiles, presence.

Owns: one class per subject, one method per operation.
Elsewhere: asking (requests), the results (results).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask.

A user is named by name or by number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from chatd_client import results
from chatd_client.errors import ChatError, Code, NotOffered, Refused
from chatd_client.model import User
from chatd_client.requests import Requests

Who = str | int
MAX_WATCHED = 100
"""Maximum users of one request about presence."""


class Friends:
    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask

    async def overview(self) -> results.Friends:
        """list() and requests() with one request."""
        return await self._ask("friend.list", results.Friends)

    async def list(self) -> tuple[results.Seen, ...]:
        """Friends, with their presence."""
        return (await self.overview()).friends

    async def requests(self) -> tuple[User, ...]:
        """Users who ask to become friends."""
        return (await self.overview()).requests

    async def request(self, user: Who) -> results.Asked:
        """Ask a user. If that user has asked already, the two are friends now."""
        return await self._ask("friend.request", results.Asked, user=user)

    async def accept(self, user: Who) -> User:
        return (await self._ask("friend.accept", results.OneUser, user=user)).user

    async def refuse(self, user: Who) -> User:
        return (await self._ask("friend.refuse", results.OneUser, user=user)).user

    async def remove(self, user: Who) -> User:
        """End a friendship, or withdraw a request."""
        return (await self._ask("friend.remove", results.OneUser, user=user)).user


class Blocks:
    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def add(self, user: Who) -> User:
        """Neither can write to the other any more. The user is not told; a friendship ends."""
        return (await self._requests.ask("block", results.OneUser, user=user)).user

    async def remove(self, user: Who) -> User:
        return (await self._requests.ask("unblock", results.OneUser, user=user)).user

    async def list(self) -> Sequence[results.Seen]:
        return await self._requests.rows("block.list", results.Users, lambda page: page.users, lambda user: user.id)


class Privacy:
    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask

    async def get(self) -> results.Privacy:
        """The user's choices, and what applies where one is "default"."""
        return await self._ask("privacy.get", results.Privacy)

    async def set(
        self, *, write: str | None = None, ask: str | None = None, see: str | None = None, add: str | None = None
    ) -> results.Choices:
        """Who may write to the user, ask to be a friend, see profile and presence, add to groups: everybody, contacts,
        friends, nobody, or default. None = as it is."""
        changed = await self._ask("privacy.set", results.Privacy, write=write, ask=ask, see=see, add=add)
        return changed.privacy


class Profiles:
    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask

    async def get(self, user: Who | None = None) -> results.Profile:
        """None = the user's own."""
        return await self._ask("profile.get", results.Profile, user=user)

    async def set(
        self,
        *,
        nickname: str | None = None,
        avatar: str | None = None,
        status: str | None = None,
        about: str | None = None,
    ) -> dict[str, str]:
        """None = as it is; "" empties a field. The profile as it is now."""
        changed = await self._ask(
            "profile.set", results.Profile, nickname=nickname, avatar=avatar, status=status, about=about
        )
        return changed.profile


class Presence:
    """The users that are watched are watched again after every login of chatd_client.Client."""

    def __init__(self, requests: Requests) -> None:
        self._ask = requests.ask
        self._watched: dict[Who, None] = {}

    async def get(self, users: Iterable[Who]) -> list[results.Seen]:
        """Whether users are online, and when they were last seen. At most MAX_WATCHED per request are asked for."""
        return await self._all("presence.get", list(users))

    async def watch(self, users: Iterable[Who]) -> list[results.Seen]:
        """Be told of these users with the event PresenceChanged. Their presence now."""
        wanted = list(users)
        found = await self._all("presence.subscribe", wanted)
        self._watched.update(dict.fromkeys(wanted))
        return found

    async def watch_allowed(self, users: Iterable[Who]) -> list[results.Seen]:
        """As watch(); users who do not allow it are left out, for whom watch() refuses all. A few requests for each of
        them, as each half of a refused list is tried."""
        found = await self._allowed("presence.subscribe", list(users))
        self._watched.update(dict.fromkeys(user.id for user in found))
        return found

    async def _allowed(self, op: str, users: list[Who]) -> list[results.Seen]:
        found: list[results.Seen] = []
        for at in range(0, len(users), MAX_WATCHED):
            found += await self._some(op, users[at : at + MAX_WATCHED])
        return found

    async def _some(self, op: str, users: list[Who]) -> list[results.Seen]:
        try:
            return await self._all(op, users)
        except NotOffered:
            raise
        except Refused as refused:
            if refused.code == Code.LIMIT_REACHED or len(users) == 1:
                return []
        half = len(users) // 2
        return await self._some(op, users[:half]) + await self._some(op, users[half:])

    async def _all(self, op: str, users: list[Who]) -> list[results.Seen]:
        found: list[results.Seen] = []
        for at in range(0, len(users), MAX_WATCHED):
            found += (await self._ask(op, results.Users, users=users[at : at + MAX_WATCHED])).users
        return found

    async def watch_again(self) -> None:
        """After a login. Users who do not allow it any more are not watched."""
        with contextlib.suppress(ChatError):
            await self._allowed("presence.subscribe", list(self._watched))
