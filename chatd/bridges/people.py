"""Who is who on the two sides of the bridges of a worker.

Owns: People: the names under which users of the other side are known here, and users of this side there; making the
accounts of the former; who of them may be written to.
Elsewhere: their rows (store.bridge_contract), asking before a message is sent (core.elsewhere), the packets
(bridges.packets).
Fails: Refused, Unusable and Unavailable, as its methods say.

What the store said is believed for some seconds (core.remembered).
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from chatd import wall_clock
from chatd.bridges.packets import UNKNOWN_RECIPIENT, Unusable, refusal, size_of
from chatd.config.bridge_options import BridgeOptions, prefix_of
from chatd.config.schema import Config
from chatd.core.remembered import Remembered
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import SYSTEM, User
from chatd.protocol import SendMessage
from chatd.store.bridge_contract import NewBridged
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit
from chatd.texts.names import new_name


class _Namespace(NamedTuple):
    """prefix: as written. key: as it is compared."""

    options: BridgeOptions
    prefix: str
    key: str


class _Known(NamedTuple):
    """Whose a name is. bridge: "" = an account of this side. user: None = nobody's."""

    user: User | None
    bridge: str = ""


class People:
    """core.elsewhere.Elsewhere. store is set once the worker has one."""

    def __init__(self, bridges: tuple[BridgeOptions, ...], config: Callable[[], Config]) -> None:
        self._config = config
        self._spaces = [_Namespace(one, prefix_of(one), prefix_of(one).casefold()) for one in bridges]
        self._unknown = next((one for one in self._spaces if one.options.unknown_here), None)
        """Where a message goes whose recipient nobody knows; None = nowhere."""
        self._store: GroupCommit | None = None
        self._known: Remembered[str, _Known] = Remembered()
        self._senders: Remembered[tuple[str, str], User] = Remembered()
        self._recipients: Remembered[str, User] = Remembered()

    def use(self, store: GroupCommit) -> None:
        self._store = store

    @property
    def store(self) -> GroupCommit:
        assert self._store is not None
        return self._store

    # ---------------------------------------------------------------- from this side to the other

    def concerns(self, command: SendMessage) -> bool:
        name = command.to_name
        return bool(name) and (self._unknown is not None or self._space_of(name) is not None)

    def _space_of(self, name: str) -> _Namespace | None:
        key = name.casefold()
        return next((one for one in self._spaces if key.startswith(one.key)), None)

    async def addressed(self, session: Session, command: SendMessage) -> SendMessage:
        name, space = command.to_name, self._space_of(command.to_name)
        if space is None:
            assert self._unknown is not None
            if (await self._whose(name)).user is not None:
                return command
            space, name = self._unknown, self._unknown.prefix + name
            command = msgspec.structs.replace(command, to_name=name)
        known = await self._whose(name)
        if known.user is None:
            known = await self._believe_in(space, name)
        if known.bridge == space.options.name:
            self._check_size(session.user, command, space)
        return command

    async def _whose(self, name: str) -> _Known:
        if (known := self._known.find(name)) is not None:
            return known
        found = await self.store.read(lambda tables: _find(tables, name))
        return self._known.add(name, found) if found.user is not None else found

    async def _believe_in(self, space: _Namespace, name: str) -> _Known:
        """Somebody here writes first. Raises: Refused UNKNOWN_RECIPIENT; Unavailable."""
        options, remote = space.options, name[len(space.prefix) :]
        if not remote or not any(fnmatchcase(remote, pattern) for pattern in options.users):
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        try:
            new = self._new(space, remote, heard=False)
            user = await self.store.write(lambda tables: tables.bridges.meet(new, wall_clock.now_ms()))
        except Refused:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT) from None
        return self._known.add(name, _Known(user, options.name))

    def _new(self, space: _Namespace, remote: str, *, heard: bool) -> NewBridged:
        """Raises: Refused NAME_NOT_ALLOWED."""
        name = new_name(space.prefix + remote, self._config().limits.name_chars, digits=True)
        return NewBridged(space.options.name, remote, name, heard)

    def _check_size(self, sender: User, command: SendMessage, space: _Namespace) -> None:
        options = space.options
        size = size_of(command.body, self.shown(sender, options), command.to_name, command.fp)
        if size > options.outgoing_bytes:
            text = f"too long for users of {options.name}: a packet of {size} bytes, at most {options.outgoing_bytes}"
            raise Refused(ErrorCode.TOO_LONG, text)

    @staticmethod
    def shown(user: User, options: BridgeOptions) -> str:
        """The id of a user of this side on the other."""
        return user.name if user.id == SYSTEM.id else options.own_prefix + user.name

    # ---------------------------------------------------------------- from the other side to this one

    async def sender(self, options: BridgeOptions, remote: str) -> User:
        """The account of a user of the other side, who writes. Raises: Unusable, Unavailable."""
        key = options.name, remote
        if (user := self._senders.find(key)) is not None:
            return user
        found = await self.store.read(lambda tables: tables.bridges.find(*key))
        if found is None:
            space = next(one for one in self._spaces if one.options.name == options.name)
            try:
                new = self._new(space, remote, heard=True)
                found = await self.store.write(lambda tables: tables.bridges.meet(new, wall_clock.now_ms()))
            except Refused as refused:
                raise refusal(refused, f"the sender {remote!r}: ") from None
        return self._senders.add(key, found)

    async def recipient(self, options: BridgeOptions, to: str) -> User:
        """The user of this side whom the other side calls so: by name only, never by number, and never a user of any
        other side. Raises: Unusable, Unavailable."""
        name = to.removeprefix(options.own_prefix)
        if options.own_prefix and name == to:
            raise Unusable(UNKNOWN_RECIPIENT, f"{to!r} does not begin with {options.own_prefix!r} (own_prefix)")
        if (user := self._recipients.find(name)) is not None:
            return user
        found = await self.store.read(lambda tables: _own(tables, name))
        if found is None:
            raise Unusable(UNKNOWN_RECIPIENT, f"no such user: {to!r}")
        return self._recipients.add(name, found)


def _find(tables: Tables, name: str) -> _Known:
    account = tables.accounts.find(name, 0)
    return _Known(None) if account is None else _Known(account.user, tables.bridges.bridge_of(account.user.id))


def _own(tables: Tables, name: str) -> User | None:
    account = tables.accounts.named(name)
    return None if account is None or tables.bridges.bridge_of(account.user.id) else account.user
