"""Plays a script about those who do not belong: guesses, locked accounts, changed passwords, registration.

Owns: GuardedPlayer, the lines that such a script may have besides those of any script (player.LINES), and GuardedTown,
which nobody enters without an invite code.
Fails: as Player.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatd.core.privacy import ACKS_NEEDED
from chatd.errors import MEANINGS, ErrorCode
from tests.conversations.player import LINES, WHO, Player
from tests.harness import chatserver
from tests.harness.datagrams import TokenLink
from tests.harness.deadline import until
from tests.harness.link import LoginRefused
from tests.harness.mobileimsdk import DATA, LOGOUT, StockLink
from tests.harness.peer import NulPeer
from tests.harness.person import Person, Town, Wire

GUESSES = 6
"""Failures of one account that bring no penalty, in the configuration of this town."""
THROWN_OUT_S = 3.0
"""A session ends within a second; more, for a machine that is busy with other tests."""
TEXTS = {
    ErrorCode.TOO_MANY_ATTEMPTS: r"too many attempts, try again in \d+ s",
    ErrorCode.NAME_TAKEN: r"this name is taken|this name looks like another one, which is taken",
    ErrorCode.NAME_NOT_ALLOWED: r"this name is not allowed: .+|this name is reserved",
    ErrorCode.NOT_ALLOWED: re.escape(ACKS_NEEDED),
}
"""What the chatserver wire says, where it is not the meaning of the code."""


@dataclass
class GuardedTown(Town):
    """invite: a code for as many accounts as anybody likes."""

    invite: str = ""

    def start(self) -> GuardedTown:
        self.daemon.start()
        done = self.daemon.ctl("invite", "add", "--uses", "1000")
        assert done.returncode == 0, done.stderr
        self.invite = done.stdout.split()[0]
        return self

    async def register(self, name: str) -> int:
        answer = await self.registration(name, self.invite, secure=False)
        assert answer["errno"] == 0, answer
        self.ids[name] = answer["id"]
        return self.ids[name]

    async def registration(self, name: str, invite: str, *, secure: bool) -> dict[str, Any]:
        """The answer to a REGISTER."""
        peer = NulPeer()
        if secure:
            assert self.daemon.certificate is not None
            peer.tls = self.daemon.certificate.client()
        await peer.open(self.daemon.ports["chatserver-tls" if secure else "chatserver"], self.daemon.address)
        frame = {"msgid": chatserver.REGISTER, "name": name, "password": self.secret}
        peer.put({**frame, "invite": invite} if invite else frame)
        answer = await peer.find(msgid=chatserver.REGISTER_ACK)
        peer.close()
        return answer

    async def ctl(self, *arguments: str, input: str = "") -> None:
        done = await asyncio.to_thread(lambda: self.daemon.ctl(*arguments, input=input))
        assert done.returncode == 0, done.stderr


class GuardedPlayer(Player):
    town: GuardedTown

    def __init__(self, town: GuardedTown, cast: Sequence[Wire]) -> None:
        super().__init__(town, cast)
        self.cast = cast
        self.lines = [*GUARDED_LINES, *LINES]

    async def person(self, name: str) -> Person:
        """Each has a password of their own."""
        if name not in self.people:
            person = await super().person(name)
            person.town = dataclasses.replace(self.town)
        return self.people[name]

    # ------------------------------------------------------------ passwords

    async def tries(self, name: str, which: str | None, secret: str | None, code: str) -> None:
        """A login that is refused; the password that is right stays the same."""
        person = await self.person(name)
        right = person.town.secret
        person.town.secret = {"right": right, "old": self.town.secret}.get(which or "", secret or "")
        try:
            assert await self.refusal(person) == ErrorCode[code]
        finally:
            person.town.secret = right

    async def refusal(self, person: Person) -> ErrorCode:
        """As its wire tells it."""
        try:
            await person.arrive()
        except LoginRefused as refused:
            assert person.link is not None
            person.link.abort()
            if isinstance(person.link, StockLink):
                return ErrorCode(refused.code)
            return code_of(refused.code, str(refused).split(" ", 3)[3])
        raise AssertionError(f"{person.name} is logged in")

    async def guesses(self, name: str, code: str) -> None:
        person = await self.person(name)
        right, person.town.secret = person.town.secret, "a guess"
        found = [ErrorCode.BAD_CREDENTIALS]
        while found[-1] == ErrorCode.BAD_CREDENTIALS and len(found) <= GUESSES:
            found.append(await self.refusal(person))
        person.town.secret = right
        assert found[-1] == ErrorCode[code], found

    async def is_changed(self, name: str) -> None:
        """By the user on the other wire, or, for a user who is on that one already, by the operator."""
        person = await self.person(name)
        new = f"new words of {name}"
        if isinstance(person.link, StockLink):
            await self.town.ctl("user", "passwd", person.name, input=f"{new}\n")
        else:
            peer = await person.town.on_mobile(person.name)
            asked = {"op": "password.change", "old": person.town.secret, "new": new}
            peer.say(person.name, "0", json.dumps(asked), str(uuid.uuid4()))
            answer = await peer.find(type=DATA)
            assert json.loads(answer["dataContent"])["ok"], answer
            peer.close()
        person.town.secret = new

    async def thrown_out(self, name: str) -> None:
        person = await self.person(name)
        if person.wire in ("udp", "token"):  # such a connection does not end: its client is told
            link = person.link
            assert isinstance(link, StockLink)
            await until(THROWN_OUT_S, f"{name} is told", lambda: link.kicked)
            link.abort()
        await until(THROWN_OUT_S, f"{name} is thrown out", person.away.is_set)

    # ------------------------------------------------------------ operators

    async def locks(self, how: str, name: str) -> None:
        await self.town.ctl("user", how, (await self.person(name)).name)

    async def registration_is(self, how: str) -> None:
        self.town.daemon.config["accounts"]["registration"] = "invite" if how == "for the invited" else how
        self.town.daemon.write_config()
        await self.town.ctl("reload")

    # ------------------------------------------------------------ strangers

    async def registers(self, exactly: str | None, name: str, invite: str | None, code: str | None) -> None:
        """exactly: without the suffix that makes a name new."""
        plain = name.encode().decode("unicode_escape")
        full = plain if exactly else f"{plain}_{self.suffix}"
        given = {None: "", "an invite code": self.town.invite}.get(invite, (invite or "").removeprefix("the code "))
        answer = await self.town.registration(full, given, secure=self.cast[0].endswith("-tls"))
        if code is not None:
            assert code_of(answer["errno"], answer["errmsg"]) == ErrorCode[code], answer
            return
        assert answer["errno"] == 0, answer
        self.town.ids[full] = answer["id"]
        self.people[name] = Person(dataclasses.replace(self.town), full, next(self.wires))

    async def without_token(self, name: str, to: str, text: str) -> None:
        person = await self.person(name)
        packet = {"type": DATA, "from": person.name, "to": await self.address(to), "dataContent": text}
        self.write_without_token(person, packet)

    async def without_token_out(self, name: str) -> None:
        person = await self.person(name)
        self.write_without_token(person, {"type": LOGOUT, "from": person.name, "to": "0"})

    def write_without_token(self, person: Person, packet: dict[str, Any]) -> None:
        """Bare, and with another token."""
        assert isinstance(person.link, TokenLink)
        data = json.dumps(packet).encode()
        for token in (b"", b"x" * len(person.link.token)):
            person.link.write(token + data)


def code_of(errno: int, text: str) -> ErrorCode:
    """Of a refusal on the chatserver wire, which says what it means in words."""
    assert errno == 1, (errno, text)
    for code, meaning in MEANINGS.items():
        if re.fullmatch(TEXTS.get(code, re.escape(meaning.text)), text):
            return code
    raise AssertionError(f"a refusal without a meaning: {text}")


REFUSED = r"-- and is refused: (\w+)"
GUARDED_LINES = [
    (re.compile(pattern), act)
    for pattern, act in [
        (r"there is (\w+)", Player.exist),
        (rf"{WHO} tries the (right|old)? ?password(?: \"(.*)\")? {REFUSED}", GuardedPlayer.tries),
        (rf"{WHO} guesses until refused: (\w+)", GuardedPlayer.guesses),
        (rf"{WHO}'s password is changed elsewhere", GuardedPlayer.is_changed),
        (rf"{WHO} is thrown out", GuardedPlayer.thrown_out),
        (rf"the operator (lock|unlock)s {WHO}", GuardedPlayer.locks),
        (r"registration is (closed|open|for the invited)", GuardedPlayer.registration_is),
        (
            rf"somebody registers as (exactly )?(\S+)(?: with (an invite code|the code \S+))?(?: {REFUSED})?",
            GuardedPlayer.registers,
        ),
        (rf"somebody without the token of {WHO} says to {WHO}: (.*)", GuardedPlayer.without_token),
        (rf"somebody without the token of {WHO} logs out", GuardedPlayer.without_token_out),
    ]
]
