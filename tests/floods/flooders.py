"""Users who send as fast as they can, on any wire, and know what became of each message.

Owns: Flooder; filling a store with the members of a large group.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from chatd.errors import ErrorCode
from tests.conversations.asking import PEERS, Transport
from tests.harness.chatserver import ACK, ERROR, FRIEND_REQUEST, GROUP_CHAT, ONE_CHAT
from tests.harness.deadline import until
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import Frame, NulPeer
from tests.harness.person import Town

WIRES: tuple[Transport, ...] = ("chatserver", "mobileimsdk", "mobileimsdk-ws", "mobileimsdk-udp")
_ACKNOWLEDGED, _REFUSED = 4, 52


class Flooder:
    """outcomes: by fp, 0 for an accepted message, or the code of the refusal. texts: of the refusals."""

    _numbers = itertools.count()

    def __init__(self, town: Town, name: str, wire: Transport) -> None:
        self.town, self.name, self.wire = town, name, wire
        self.outcomes: dict[str, int] = {}
        self.texts: list[str] = []
        self.peer: NulPeer | MobilePeer

    async def arrive(self) -> Flooder:
        if self.wire == "chatserver":
            self.peer = await self.town.errand(self.name)
        else:
            self.peer = PEERS[self.wire]()
            await self.peer.open(self.town.daemon.ports[self.wire], self.town.daemon.address)
            await self.peer.log_in(self.name, self.town.secret)
        self.peer.on_frame = self._hear
        return self

    def _hear(self, frame: Frame) -> None:
        if self.wire == "chatserver":
            if frame["msgid"] == ACK:
                self.outcomes[frame["fp"]] = 0
            elif frame["msgid"] == ERROR:
                self._refused(frame.get("fp", f"none{next(self._numbers)}"), frame["errno"], frame["errmsg"])
        elif frame["type"] == _ACKNOWLEDGED:
            self.outcomes[frame["dataContent"]] = 0
        elif frame["type"] == _REFUSED:
            error = content(frame)
            why: dict[str, Any] = content({"dataContent": error["errorMsg"]})
            assert why["temporary"] is True
            self._refused(why["fp"], error["errorCode"], why["text"])

    def _refused(self, fp: str, code: int, text: str) -> None:
        self.outcomes[fp] = code
        self.texts.append(text)

    def send(self, to: str, text: str, fp: str = "") -> str:
        """to: "#7" is the group 7."""
        fp = fp or f"fp{next(self._numbers)}"
        if isinstance(self.peer, MobilePeer):
            self.peer.say(self.name, to, text, fp)
        elif to.startswith("#"):
            self.peer.put({"msgid": GROUP_CHAT, "groupid": int(to[1:]), "msg": text, "fp": fp})
        else:
            self.peer.put({"msgid": ONE_CHAT, "toname": to, "msg": text, "fp": fp})
        return fp

    async def flood(self, to: str, count: int, text: str = "x", limit_s: float = 20.0) -> Counter[int]:
        """Send so many messages at once. How many had each outcome, 0 = accepted. Over UDP some get lost, and are sent
        again, as a stock client does."""
        fps = [self.send(to, text) for _ in range(count)]
        wanted = set(fps)

        def all_told() -> bool:
            return wanted <= self.outcomes.keys()

        try:
            await until(1.0 if self.wire == "mobileimsdk-udp" else limit_s, "all outcomes", all_told)
        except TimeoutError:
            if self.wire != "mobileimsdk-udp":
                raise
        return Counter(self.outcomes[fp] for fp in fps if fp in self.outcomes)

    def ask_friend(self, user_id: int) -> None:
        """On the chatserver wire, which answers only a refusal."""
        self.peer.put({"msgid": FRIEND_REQUEST, "id": self.town.ids[self.name], "friendid": user_id})

    def leave(self) -> None:
        self.peer.close()


def refused(outcomes: Counter[int], code: ErrorCode) -> int:
    """How many were refused for this reason; no other reason may occur."""
    assert outcomes.keys() <= {0, code}, outcomes
    return outcomes[code]


MEMBERS = "INSERT INTO member (team_id, user_id, role, joined_at_ms, since_version) VALUES "


def enlarge(database: Path, group: int, size: int) -> None:
    """Give a group of a running SQLite store as many members, who never log in."""
    with open(f"{database}.lock") as lock, contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = ",".join(f"({group},{10**9 + number},3,1,1)" for number in range(size))
        db.execute("BEGIN IMMEDIATE")
        db.execute(MEMBERS + rows)
        db.execute("UPDATE team SET member_count = member_count + ? WHERE id = ?", (size, group))
        db.execute("COMMIT")
