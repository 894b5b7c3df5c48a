"""A stock client of the mobileimsdk wire that a test moves step by step, without an event loop.

Owns: its socket, and what it was told. It acknowledges every packet that wants it.
Elsewhere: clients that do everything by themselves (mobileimsdk, person). Fails: TimeoutError after LIMIT_S.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

LIMIT_S = 15.0
_LOGIN, _DATA, _ACKNOWLEDGEMENT, _LOGIN_ANSWER, _KICKED = 0, 2, 4, 50, 54
"""Types of packets."""

Packet = dict[str, Any]


class Phone:
    """Logs in when it is made. code: what the server answered, 0 = logged in."""

    def __init__(self, port: int, name: str, secret: str) -> None:
        self.name = name
        self.heard: list[Packet] = []
        """Everything but acknowledgements, in the order of arrival."""
        self._data = b""
        self._fps = itertools.count()
        self._socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self._socket.settimeout(LIMIT_S)
        login = {"loginUserId": name, "loginToken": secret, "firstLoginTime": 0}
        self._send(_LOGIN, json.dumps(login), to="0")
        self.code: int = json.loads(self.until(lambda one: one["type"] == _LOGIN_ANSWER)["dataContent"])["code"]

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: int, content: str, to: str, **more: Any) -> None:
        packet = {"type": kind, "dataContent": content, "from": self.name, "to": to, **more}
        data = json.dumps(packet).encode()
        self._socket.sendall(struct.pack(">I", len(data)) + data)

    def say(self, to: str, text: str) -> None:
        """Returns when it is stored."""
        fp = f"{self.name}-{next(self._fps)}"
        self._send(_DATA, text, to, fp=fp, QoS=True)
        self.until(lambda one: one["type"] == _ACKNOWLEDGEMENT and one["dataContent"] == fp)

    def ask(self, op: str, **arguments: Any) -> Any:
        """The answer to a request; `with_` stands for "with"."""
        ref = next(self._fps)
        named = {key.rstrip("_"): value for key, value in arguments.items()}
        self._send(_DATA, json.dumps({"op": op, "ref": ref, **named}), to="0", fp=f"{self.name}-{ref}", QoS=True)
        return self.told(lambda text: text.get("ref") == ref)

    def told(self, wanted: Callable[[Packet], bool]) -> Packet:
        """The first text of the server that is wanted."""

        def is_it(packet: Packet) -> bool:
            if packet["type"] != _DATA or packet["from"] != "0" or not packet["dataContent"].startswith("{"):
                return False
            return wanted(json.loads(packet["dataContent"]))

        found: Packet = json.loads(self.until(is_it)["dataContent"])
        return found

    def notice(self, event: str) -> Packet:
        return self.told(lambda text: text.get("event") == event)

    def message(self, text: str) -> Packet:
        return self.until(lambda one: one["type"] == _DATA and one["dataContent"] == text)

    def kicked(self) -> str:
        """Why; the connection has been ended."""
        why: str = json.loads(self.until(lambda one: one["type"] == _KICKED)["dataContent"])["reason"]
        return why

    def until(self, wanted: Callable[[Packet], bool]) -> Packet:
        for packet in self.heard:
            if wanted(packet):
                return packet
        while True:
            packet = self._read()
            self.heard.append(packet)
            if packet.get("QoS") and packet["type"] == _DATA:
                self._send(_ACKNOWLEDGEMENT, packet["fp"], to=packet["from"])
            if wanted(packet):
                return packet

    def _read(self) -> Packet:
        while len(self._data) < 4 or len(self._data) < 4 + struct.unpack(">I", self._data[:4])[0]:
            more = self._socket.recv(65536)
            if not more:
                raise AssertionError(f"{self.name}: the connection has ended; heard {self.heard[-3:]}")
            self._data += more
        (length,) = struct.unpack(">I", self._data[:4])
        packet: Packet = json.loads(self._data[4 : 4 + length])
        self._data = self._data[4 + length :]
        return packet
