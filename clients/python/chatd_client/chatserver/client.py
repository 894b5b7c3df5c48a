"""The client of a person on the chatserver wire: connect, register, log in and out, write, ask; all of it is told.

Owns: the public methods.
Elsewhere: everything behind them (session and its parts), what is told (events).
Fails: ChatError and its subclasses.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Literal, NoReturn

from chatd_client.address import ServerAddress
from chatd_client.chatserver.events import Listener
from chatd_client.chatserver.session import OpenMemory, Session
from chatd_client.chatserver.stock import Stock
from chatd_client.files import Home
from chatd_client.memory import Memory
from chatd_client.model import Destination, PendingMessage, User
from chatd_client.operations import Operations
from chatd_client.outbox import LIMIT
from chatd_client.timing import Timing


def _until_the_end(user_id: int) -> Memory:
    """A memory that lasts as long as the process."""
    return Memory(None)


class Client(Operations):
    """For programs in which a person registers, logs in and out, and sees everything at once; chatd_client.Client suits
    all others. It is connected before it is logged in, and may log in as one user after the other.

        client = Client(address, listener)
        async with asyncio.TaskGroup() as tasks:
            keeper = tasks.create_task(client.keep())
            await client.connect()
            await client.login("alice", "…")
            client.send(Destination.of("bob"), "hello")
            await client.settle()
            await client.leave()
            keeper.cancel()

    Once logged in it comes back by itself after every lost connection, until it logs out, the user logs in elsewhere,
    or the server does not let it in again. friends, blocks, privacy, profiles, presence, groups, conversations,
    files, account: the operations, as those of chatd_client.Client; they raise NotOffered where `offers_requests` is
    false. stock: what also such a server has. All methods belong to one event loop.
    """

    def __init__(
        self,
        address: ServerAddress,
        listener: Listener,
        *,
        open_memory: OpenMemory = _until_the_end,
        timing: Timing | None = None,
        http: str = "",
    ) -> None:
        """open_memory: where is remembered, by user, what was given and what is not acknowledged. http: where the
        server's files are; "" = what the server says."""
        self._session = session = Session(address, listener, open_memory, timing or Timing())
        self.address = address
        super().__init__(session.requests, session.password_changed, Home(url=http, authorities=address.authorities))
        self.stock = Stock(session)

    # ------------------------------------------------------------ connections and logins

    async def keep(self) -> NoReturn:
        """Keeps a connection for as long as one is wanted; runs until cancelled, in a task of the program. Raises what
        the listener raises."""
        await self._session.connector.keep()

    async def connect(self) -> None:
        """Have a connection, logged in or not. Raises Unreachable."""
        await self._session.connector.connect()

    def drop(self) -> None:
        """Give the present connection up; the next one follows if the client is logged in."""
        self._session.connector.drop()

    @property
    def user(self) -> User | None:
        """Who is logged in, also while the client comes back; None = nobody."""
        return self._session.user

    @property
    def online(self) -> bool:
        """Logged in on the present connection."""
        return self._session.online

    @property
    def connected(self) -> bool:
        """There is a connection, logged in or not."""
        return self._session.connector.link is not None

    @property
    def comes_back(self) -> bool:
        """A connection that ends is replaced, and logged in on."""
        return self._session.stays

    @property
    def offers_requests(self) -> bool:
        """Whether the server of the last login has the operations."""
        return self._session.requests.offered

    async def register(self, name: str, password: str) -> int:
        """Make an account; returns its number. Raises Refused, Unreachable."""
        return await self._session.register(name, password)

    async def login(self, who: str, password: str, *, takeover: bool = False) -> User:
        """who: a name or a number. takeover: end the user's other session; without it the login is refused while there
        is one (Timing.taken_s). Logs out first. Raises LoginRefused, Unreachable."""
        return await self._session.login(who, password, takeover=takeover)

    async def logout(self) -> None:
        """Settles first. Messages still without an acknowledgement are sent again at the next login."""
        await self._session.logout()

    async def leave(self) -> None:
        """Log out and disconnect, after reading everything the server had under way. Does not settle."""
        await self._session.leave()

    def require_login(self) -> User:
        """The user who is logged in. Raises NotLoggedIn."""
        return self._session.require_login()

    # ------------------------------------------------------------ writing

    def send(
        self,
        to: Destination,
        text: str,
        *,
        reply: int = 0,
        mentions: Sequence[str | int] | Literal["all"] = (),
        files: Sequence[str] = (),
    ) -> None:
        """Hand over a message: from here it is sent, over as many connections as this takes and over restarts, until
        the server has stored it or refuses it (the event SendRefused). Messages are stored in the order of the calls.
        reply, mentions, files: as of chatd_client.Client.send(). Raises NotLoggedIn, Invalid, Overloaded."""
        self._session.send(
            PendingMessage(
                fp=uuid.uuid4().hex,
                to=to,
                text=text,
                written_at_ms=int(time.time() * 1000),
                reply=reply,
                mentions=mentions if mentions == "all" else tuple(mentions),
                files=tuple(files),
            )
        )

    async def settle(self, count: int = 0) -> bool:
        """Wait until at most `count` messages are unacknowledged. False: there was no further acknowledgement for
        Timing.settle_s."""
        return await self._session.settle(count)

    async def room(self) -> None:
        """Wait until a message can be sent, as far as settle() does."""
        if self.unacknowledged >= LIMIT:
            await self.settle(LIMIT - 1)

    @property
    def unacknowledged(self) -> int:
        """Messages that are written and not yet stored."""
        return len(self._session.sender.outbox)

    @property
    def refused(self) -> int:
        """Messages that were refused for good, since the start."""
        return self._session.sender.refused

    def last_sent(self, to: Destination) -> int:
        """The number of the last message of this login that was stored there; 0 = none, or not known."""
        return self._session.sender.last_seq.get(to, 0)

    # ------------------------------------------------------------ what is remembered

    def known_change(self, place: str) -> int | None:
        """The number of the last change of this conversation that was recorded by learn_change(), in any run."""
        return self._session.sender.memory.changes.get(place)

    def learn_change(self, place: str, number: int) -> None:
        """Record it, over restarts as far as the memory lasts."""
        sender = self._session.sender
        if sender.memory.changes.get(place) != number:
            sender.memory.knows_change(place, number, sender.outbox)

    def newest_seen(self) -> dict[int, int]:
        """As LoggedIn.newest_seen, now."""
        return self._session.sender.memory.newest_shown()

    def abandon(self) -> None:
        """Release the memory as it is: what a killed process leaves behind."""
        self._session.sender.memory.abandon()
