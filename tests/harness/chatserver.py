"""Clients of the chatserver wire.

Owns: OldLink, an exact model of the deployed C++ client with all its fragility, and StreamingLink, a client that
splits the stream and is told what became of its messages.
Fails: OldClientDied where the deployed client would have crashed. That is a defect of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import threading
import time
from typing import Any, ClassVar

from tests.harness.deadline import within
from tests.harness.link import ConnectionGone, Ears, LoginRefused, Outcome, Seen, reset
from tests.harness.peer import WAIT_S, Frame, NulPeer

LOGIN, LOGIN_ACK, LOGOUT, REGISTER, REGISTER_ACK, ONE_CHAT = 1, 2, 3, 4, 5, 6
FRIEND_REQUEST, FRIEND_ANSWER, CREATE_GROUP, JOIN_GROUP, GROUP_CHAT = 7, 8, 9, 10, 11
ERROR, ACK, GROUP_ACK, RECEIVED = 12, 13, 14, 15
REQUEST = 16


def now_text() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def chat(user_id: int, name: str, to: str, to_id: int, text: str) -> Frame:
    """A msgid 6 or 11 as the deployed client makes it."""
    if to.startswith("#"):
        whom: Frame = {"msgid": GROUP_CHAT, "groupid": int(to[1:])}
    else:
        whom = {"msgid": ONE_CHAT, "toid": to_id} if to_id else {"msgid": ONE_CHAT, "toname": to}
    return {**whom, "id": user_id, "name": name, "msg": text, "time": now_text()}


class OldClientDied(AssertionError):
    """The deployed client would have thrown on this."""


TICK_MS = 15
LATE_S = 0.03
"""Less than the shortest pause that a paced listener of these tests makes between two frames (a few make shorter ones:
there a client may be late)."""


def received_in_time(data: bytes, pause_s: float) -> list[bytes]:
    """What recv(1024) would have given a client that never waits for a processor. data: what one recv gave. pause_s:
    how long it did not look before. Frames that came together because it stood still are taken apart, at most one for
    each LATE_S."""
    frames = [frame + b"\0" for frame in data.split(b"\0")[:-1]]
    if data.endswith(b"\0") and 1 < len(frames) <= 1 + pause_s / LATE_S:
        return [frame[:1024] for frame in frames]
    return [data[:1024]]


class OldClient:
    """The deployed client: recv(1024) into a zeroed buffer, one JSON object up to the first NUL, the rest forgotten.

    `shown` are the 6 and 11 it displayed, `requests` the 7 of its offlinemsg. Raises nothing from its reading task:
    `death` holds why it died; check() raises it.
    """

    def __init__(self, ears: Ears | None = None) -> None:
        self.ears = ears
        self.sock = socket.socket()
        self.id, self.name = 0, ""
        self.shown: list[Frame] = []
        self.requests: list[Frame] = []
        self.friends: list[Frame] = []
        self.groups: list[Frame] = []
        self.answers: asyncio.Queue[Frame] = asyncio.Queue()
        self.ignored: list[Frame] = []
        self.death: OldClientDied | None = None
        self.gone = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def open(self, port: int, host: str = "127.0.0.1") -> None:
        if ":" in host:
            self.sock.close()
            self.sock = socket.socket(socket.AF_INET6)
        self.sock.setblocking(False)
        self.loop = asyncio.get_running_loop()
        try:
            await within(WAIT_S, f"connect to {port}", self.loop.sock_connect(self.sock, (host, port)))
        except (OSError, TimeoutError) as error:
            self.sock.close()
            raise ConnectionGone(str(error)) from None
        self.sock.setblocking(True)
        threading.Thread(target=self._receive, name="old client", daemon=True).start()

    def _receive(self) -> None:
        """In a thread of its own, as the deployed client has: a busy loop must not make it look late."""
        assert self.loop is not None
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        data, returned_at = b"-", time.monotonic()
        while data:
            try:
                if not poller.poll(TICK_MS):
                    returned_at = time.monotonic()
                    continue
                data = self.sock.recv(65536)
            except OSError:
                data = b""  # the server went away: the deployed client just stops
            now = time.monotonic()
            for read in received_in_time(data, now - returned_at):
                try:
                    self.loop.call_soon_threadsafe(self._received, read)
                except RuntimeError:  # the loop has ended, and the test with it
                    return
            returned_at = now

    def _received(self, data: bytes) -> None:
        if self.gone.is_set():
            return
        try:
            if data:
                self.understand(self.parse(data))
        except OldClientDied as death:
            self.death = death
        if not data or self.death is not None:
            self._wake_receiver()
            self.sock.close()
            self.gone.set()
            if self.ears is not None:
                self.ears.closed()

    def _wake_receiver(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)

    def parse(self, data: bytes) -> Frame:
        if b"\0" not in data:
            raise OldClientDied(f"no NUL in what one recv gave ({len(data)} bytes): {data[:80]!r}…")
        text, rest = data.split(b"\0", 1)
        try:
            frame = json.loads(text)
        except ValueError as error:
            raise OldClientDied(f"cannot parse {text[:200]!r}: {error}") from None
        if rest:
            raise OldClientDied(f"glued to another frame, which it would not see: {rest[:80]!r}…")
        if not isinstance(frame, dict):
            raise OldClientDied(f"not an object: {text[:80]!r}")
        return frame

    def _field(self, frame: Frame, name: str, kind: type) -> Any:
        value = frame.get(name)
        if type(value) is not kind:
            raise OldClientDied(f"{name} is {value!r}, no {kind.__name__}: {frame}")
        return value

    def understand(self, frame: Frame) -> None:
        match self._field(frame, "msgid", int):
            case 2:
                self._login_answer(frame)
                self.answers.put_nowait(frame)
            case 5:
                if self._field(frame, "errno", int) == 0:
                    self._field(frame, "id", int)
                self.answers.put_nowait(frame)
            case 6 | 11:
                self._show(frame)
            case _:
                self.ignored.append(frame)
                if self.ears is not None and frame["msgid"] == ERROR:
                    self.ears.outcome("", Outcome(False, frame["errno"]))

    def _show(self, frame: Frame) -> None:
        for name, kind in (("time", str), ("id", int), ("name", str), ("msg", str)):
            self._field(frame, name, kind)
        group = self._field(frame, "groupid", int) if frame["msgid"] == GROUP_CHAT else 0
        self.shown.append(frame)
        if self.ears is not None:
            self.ears.message(Seen(frame["name"], frame["msg"], group))

    def inner(self, text: object) -> Frame:
        if not isinstance(text, str):
            raise OldClientDied(f"not a string that holds JSON: {text!r}")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise OldClientDied(f"cannot parse {text[:200]!r}: {error}") from None
        if not isinstance(found, dict):
            raise OldClientDied(f"not an object: {text[:80]!r}")
        return found

    def _login_answer(self, frame: Frame) -> None:
        if self._field(frame, "errno", int) != 0:
            self._field(frame, "errmsg", str)
            return
        self.id, self.name = self._field(frame, "id", int), self._field(frame, "name", str)
        self.friends = [self.inner(text) for text in frame.get("friends", [])]
        for friend in self.friends:
            self._field(friend, "id", int), self._field(friend, "name", str), self._field(friend, "state", str)
        self.groups = [self.inner(text) for text in frame.get("groups", [])]
        for group in self.groups:
            self._field(group, "id", int), self._field(group, "groupname", str), self._field(group, "groupdesc", str)
            for member in map(self.inner, self._field(group, "users", list)):
                self._field(member, "id", int), self._field(member, "name", str)
                self._field(member, "state", str), self._field(member, "role", str)
        for waiting in map(self.inner, frame.get("offlinemsg", [])):
            if self._field(waiting, "msgid", int) == FRIEND_REQUEST:
                self._field(waiting, "msg", str), self._field(waiting, "from", int)
                self.requests.append(waiting)
            elif waiting["msgid"] in (ONE_CHAT, GROUP_CHAT):
                self._show(waiting)

    # ------------------------------------------------------------ what its user does

    def put(self, frame: Frame) -> None:
        """One frame with its NUL, as the deployed client's blocking send does."""
        try:
            self.sock.send(json.dumps(frame, ensure_ascii=False).encode() + b"\0")
        except OSError:
            self.gone.set()

    async def answer(self, limit_s: float = WAIT_S) -> Frame:
        """The next LOGIN_ACK or REGISTER_ACK. Raises what it died of, or ConnectionGone."""
        waiting = asyncio.ensure_future(self.answers.get())
        leaving = asyncio.ensure_future(self.gone.wait())
        done, _ = await asyncio.wait({waiting, leaving}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        leaving.cancel()
        self.check()
        if waiting in done:
            return waiting.result()
        raise ConnectionGone("closed before an answer") if done else TimeoutError("no answer to the old client")

    def check(self) -> None:
        if self.death is not None:
            raise self.death

    def close(self) -> None:
        self._wake_receiver()

    def abort(self) -> None:
        if self.sock.fileno() >= 0:
            reset(self.sock)
        self._wake_receiver()


class OldLink(OldClient):
    """The deployed client behind the Link contract: numbers only, no acknowledgement, no duplicate removal."""

    removes_duplicates = False
    acknowledges = False

    async def login(self, name: str, user_id: int, secret: str) -> int:
        self.put({"msgid": LOGIN, "id": user_id, "password": secret})
        answer = await self.answer()
        if answer["errno"] != 0:
            raise LoginRefused(answer["errno"], answer.get("errmsg", ""))
        return self.id

    def send(self, to: str, to_id: int, text: str, fp: str) -> None:
        self.put(chat(self.id, self.name, to, to_id, text))


class StreamingLink(NulPeer):
    """`"framing":"nul"`: splits on NUL, gives each message an fp, hears ACK and ERROR.

    A message that arrives with an fp (or a seq) it has seen from that sender is dropped, as the terminal client does.
    """

    removes_duplicates = True
    acknowledges = True
    login_options: ClassVar[Frame] = {"framing": "nul"}

    def __init__(self, ears: Ears, known: set[tuple[object, ...]] | None = None) -> None:
        super().__init__()
        self.ears = ears
        self.id, self.name = 0, ""
        self.known = set() if known is None else known
        self.under_way: dict[str, None] = {}
        self.on_gone = ears.closed

    async def login(self, name: str, user_id: int, secret: str) -> int:
        whom: Frame = {"id": user_id} if user_id else {"name": name}
        self.put({"msgid": LOGIN, **whom, "password": secret, **self.login_options})
        answer = await self.find(msgid=LOGIN_ACK)
        if answer["errno"] != 0:
            raise LoginRefused(answer["errno"], answer.get("errmsg", ""))
        self.id, self.name = answer["id"], answer["name"]
        for text in answer.get("offlinemsg", []):
            self._hear(json.loads(text))
        self.on_frame = self._hear
        while self.frames:
            self._hear(self.frames.popleft())
        return self.id

    def send(self, to: str, to_id: int, text: str, fp: str) -> None:
        self.under_way[fp] = None
        self.put({**chat(self.id, self.name, to, to_id, text), "fp": fp})

    def _hear(self, frame: Frame) -> None:
        match frame["msgid"]:
            case 6 | 11:
                self._message(frame)
            case 13:
                self.under_way.pop(frame["fp"], None)
                self.ears.outcome(frame["fp"], Outcome(True, 0, frame["seq"]))
            case 12 if frame.get("ref") in (ONE_CHAT, GROUP_CHAT):
                fp = frame.get("fp") or next(iter(self.under_way), "")
                self.under_way.pop(fp, None)
                self.ears.outcome(fp, Outcome(False, frame["errno"]))
            case _:
                self.frames.append(frame)

    def _message(self, frame: Frame) -> None:
        group, seq = frame.get("groupid", 0), frame.get("seq", 0)
        mark = (group, frame["id"], frame["fp"]) if frame.get("fp") else (group, "" if group else frame["id"], seq)
        if frame.get("fp") or seq:
            if mark in self.known:
                return
            self.known.add(mark)
        self.ears.message(Seen(frame["name"], frame["msg"], group, seq, frame.get("fp", "")))


class AckingLink(StreamingLink):
    """Acknowledges each message it has shown, as the terminal client does."""

    login_options: ClassVar[Frame] = {"framing": "nul", "acks": True}

    def _message(self, frame: Frame) -> None:
        super()._message(frame)
        if "conv" in frame:  # the text that tells of a change has none
            self.put(received(frame))


class AskingLink(AckingLink):
    """Also has requests, their answers and notices, as the terminal client does."""

    login_options: ClassVar[Frame] = {"framing": "nul", "acks": True, "requests": True}

    def __init__(self, ears: Ears, known: set[tuple[object, ...]] | None = None) -> None:
        super().__init__(ears, known)
        self.answers: dict[str, Frame] = {}
        """By their ref."""
        self.notices: list[Frame] = []

    def request(self, op: str, ref: str, arguments: Frame) -> None:
        self.put({"msgid": REQUEST, "op": op, "ref": ref, "fp": ref, **arguments})

    def _hear(self, frame: Frame) -> None:
        match frame["msgid"]:
            case 17:
                self.answers[frame["ref"]] = frame
                self.ears.notice(frame)
            case 18:
                self.notices.append(frame)
                self.ears.notice(frame)
            case _:
                super()._hear(frame)


def received(frame: Frame) -> Frame:
    """The acknowledgement of a message, and of all before it in its conversation."""
    return {"msgid": RECEIVED, "conv": frame["conv"], "seq": frame["seq"]}
