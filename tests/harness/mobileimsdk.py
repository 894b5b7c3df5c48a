"""Clients of the mobileimsdk wire over TCP.

Owns: StockLink, a model of the deployed MobileIMSDK client: fingerprints, the resend rule, ten minutes of duplicate
removal, an acknowledgement for every copy, automatic re-login at 52/301.
Elsewhere: time. The resend rule is asked with the time as a parameter; only `ticking` asks it by the clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from tests.harness.link import ConnectionGone, Ears, LoginRefused, Outcome, Seen
from tests.harness.peer import Frame, LengthPeer

LOGIN, KEEP_ALIVE, DATA, LOGOUT, ACK, ECHO = 0, 1, 2, 3, 4, 5
LOGIN_ANSWER, KEPT_ALIVE, ERROR, ECHOED, KICKED = 50, 51, 52, 53, 54

CHECK_EVERY_S = 5.0
OLDER_THAN_S = 3.0
RESENDS = 2
REMEMBERED_S = 600.0


class MobilePeer(LengthPeer):
    """Packets as written; the helpers make the ones a stock client sends. extra: of its logins; None = they have
    none. login_answer: the content of the last one."""

    extra: object = None
    login_answer: dict[str, Any]

    def login_packet(self, name: str, secret: str, first_login_time: int = 0) -> Frame:
        body = {"loginUserId": name, "loginToken": secret, "firstLoginTime": first_login_time}
        if self.extra is not None:
            body["extra"] = self.extra
        return {"type": LOGIN, "from": name, "to": "0", "dataContent": json.dumps(body), "QoS": True, "typeu": -1}

    async def log_in(self, name: str, secret: str, first_login_time: int = 0) -> int:
        """firstLoginTime of the answer. Raises LoginRefused."""
        self.put(self.login_packet(name, secret, first_login_time))
        body = self.login_answer = content(await self.find(type=LOGIN_ANSWER))
        if body["code"] != 0:
            raise LoginRefused(body["code"], "")
        return int(body["firstLoginTime"])

    def say(self, sender: str, to: str, text: str, fp: str | None, qos: bool = True, **more: object) -> None:
        packet = {"type": DATA, "from": sender, "to": to, "dataContent": text, "QoS": qos, "typeu": -1, **more}
        self.put(packet if fp is None else {**packet, "fp": fp})

    def acknowledge(self, packet: Frame) -> None:
        self.put({"type": ACK, "from": packet["to"], "to": packet["from"], "dataContent": packet["fp"]})


def content(packet: Frame) -> dict[str, Any]:
    """The JSON text inside a control packet."""
    found: dict[str, Any] = json.loads(packet["dataContent"])
    return found


@dataclass
class UnderWay:
    packet: Frame
    sent_at: float
    resent: int = 0


class Resender:
    """The deployed rule: at each look, what is older than 3 s goes again, at most 2 times, then it is given up."""

    def __init__(self) -> None:
        self.waiting: dict[str, UnderWay] = {}

    def look(self, now: float) -> tuple[list[Frame], list[str]]:
        """Packets to send again, and the fps given up."""
        again, given_up = [], []
        for fp, one in list(self.waiting.items()):
            if now - one.sent_at < OLDER_THAN_S:
                continue
            if one.resent >= RESENDS:
                given_up.append(fp)
                del self.waiting[fp]
            else:
                one.resent += 1
                again.append(one.packet)
        return again, given_up


class Remembered:
    """Fingerprints seen in the last ten minutes."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def is_new(self, fp: str, now: float) -> bool:
        seen = self.at.get(fp)
        self.at[fp] = now
        return seen is None or now - seen > REMEMBERED_S

    def forget_old(self, now: float) -> None:
        self.at = {fp: at for fp, at in self.at.items() if now - at <= REMEMBERED_S}


class StockLink(MobilePeer):
    """`memory` outlives the connection, like the app that owns it; so does first_login_time."""

    removes_duplicates = True
    acknowledges = True

    def __init__(self, ears: Ears, memory: Remembered | None = None, first_login_time: int = 0) -> None:
        super().__init__()
        self.ears = ears
        self.name, self.secret = "", ""
        self.memory = memory or Remembered()
        self.first_login_time = first_login_time
        self.resender = Resender()
        self.relogins = 0
        self.kicked = 0
        self.copies = 0
        self.answers: dict[str, Frame] = {}
        """Answers to requests, by their ref."""
        self.notices: list[Frame] = []
        self.acknowledging = True
        self.deaf = False
        """Messages do not get through to it."""
        self.ticker: asyncio.Task[None] | None = None
        self.on_gone = self._closed

    async def login(self, name: str, user_id: int, secret: str) -> int:
        self.name, self.secret = name, secret
        self.first_login_time = await self.log_in(name, secret, self.first_login_time)
        self.on_frame = self._hear
        early, self.frames = self.frames, deque()
        for packet in early:
            self._hear(packet)
        if self.gone.is_set():
            raise ConnectionGone("closed after the login answer")
        return 0

    def tick_by_the_clock(self) -> None:
        self.ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            self.look(time.monotonic())

    def look(self, now: float) -> list[str]:
        """One look of the resend rule; the fps reported lost."""
        again, given_up = self.resender.look(now)
        for packet in again:
            self.put(packet)
        return given_up

    def send(self, to: str, to_id: int, text: str, fp: str) -> None:
        packet = {"type": DATA, "from": self.name, "to": to, "dataContent": text, "fp": fp, "QoS": True, "typeu": -1}
        self.resender.waiting[fp] = UnderWay(packet, time.monotonic())
        self.put(packet)

    def _hear(self, packet: Frame) -> None:
        kind = packet.get("type", 0)
        if kind == DATA and packet.get("from") != "0":
            self._message(packet)
        elif kind == DATA and (body := self._from_server(packet)) is not None:
            if "event" in body:
                self.notices.append(body)
            else:
                self.answers[body["ref"]] = body
            self.ears.notice(body)
        elif kind == ACK:
            self.resender.waiting.pop(packet["dataContent"], None)
            self.ears.outcome(packet["dataContent"], Outcome(True))
        elif kind == ERROR:
            self._error(content(packet))
        elif kind == KICKED:
            self.kicked = content(packet)["code"]
        else:
            self.frames.append(packet)

    def _from_server(self, packet: Frame) -> Frame | None:
        """The answer or notice in it, unless it is a copy."""
        return content(packet) if self._is_new(packet) else None

    def _is_new(self, packet: Frame) -> bool:
        """Acknowledged, if that is asked for."""
        if packet.get("QoS") and packet.get("fp"):
            if self.acknowledging:
                self.acknowledge(packet)
            if not self.memory.is_new(packet["fp"], time.monotonic()):
                self.copies += 1
                return False
        return True

    def _message(self, packet: Frame) -> None:
        if self.deaf or not self._is_new(packet):
            return
        to = packet["to"]
        group = int(to[1:]) if to.startswith("#") else 0
        self.ears.message(Seen(packet["from"], packet["dataContent"], group, fp=packet.get("fp") or ""))

    def _error(self, body: dict[str, Any]) -> None:
        if body["errorCode"] == 301:
            self.relogins += 1
            self.put(self.login_packet(self.name, self.secret, self.first_login_time))
            return
        try:
            fp = json.loads(body["errorMsg"])["fp"]
        except (ValueError, KeyError, TypeError):
            fp = ""
        self.resender.waiting.pop(fp, None)
        self.ears.outcome(fp, Outcome(False, body["errorCode"]))

    def _closed(self) -> None:
        if self.ticker is not None:
            self.ticker.cancel()
        self.ears.closed()


class NumberedLink(StockLink):
    """An app that has asked for numbers, and so may answer messages and mention members; and to be told who is
    writing."""

    extra = json.dumps({"chatd": {"features": ["seq", "typing"]}})
