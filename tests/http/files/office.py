"""A daemon that takes files, people who send them, and requests at the addresses that they are given.

Owns: Office, Colleague (who sends and asks over the chatserver wire with requests), uploading and fetching as requests.
Elsewhere: the daemon with its API (tests.http.conftest). Fails: Refusal, for what the server refuses.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.harness import chatserver
from tests.harness.peer import Frame, NulPeer
from tests.harness.person import Town
from tests.http.conftest import House
from tests.http.raw import Raw, Said

BASE = "https://chat.example"
MAX_BYTES, QUOTA_BYTES, PER_MESSAGE, REQUEST_S = 20 * 1024 * 1024, 60 * 1024 * 1024, 3, 1.0
UPLOAD_TYPE = "application/offset+octet-stream"


class Refusal(AssertionError):
    def __init__(self, error: Frame) -> None:
        super().__init__(error)
        self.code: int = error["code"] if "code" in error else error["errno"]


def png(width: int = 3, height: int = 2) -> bytes:
    """A picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x7f" * 3 * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Office(House):
    """files: further options of [files]."""

    def __init__(self, root: Path, files: dict[str, Any] | None = None, **options: Any) -> None:
        self._files = files or {}
        listen = {"http": {"serves": ["api", "files"], "websocket_path": "/websocket"}}
        http = {"request_s": REQUEST_S, **options.pop("http", {})}
        super().__init__(root, 2, listen=listen, http=http, **options)
        self.town = Town(self.daemon)
        self._names = itertools.count()

    def more(self) -> list[dict[str, object]]:
        (self.daemon.root / "files").mkdir(mode=0o700)
        self.daemon.config["files"] = {
            "dir": "files",
            "url": BASE,
            "max_bytes": MAX_BYTES,
            "quota_bytes": QUOTA_BYTES,
            "per_message": PER_MESSAGE,
            "types": ["image/*", "text/plain", "application/octet-stream"],
            **self._files,
        }
        return []

    async def colleague(self, name: str = "") -> Colleague:
        """Somebody new, who is there."""
        one = Colleague(self, name or f"person{next(self._names)}")
        one.id = await self.town.register(one.name)
        await one.arrive()
        return one

    # ---------------------------------------------------------------- at addresses

    def ask(self, method: str, path: str, body: bytes = b"", **headers: object) -> Said:
        """One request over a connection of its own. headers: with "_" for "-"."""
        with self.connect() as raw:
            raw.send(request(method, path, body, **headers))
            return said(raw, method)

    def put(self, path: str, data: bytes, offset: int = 0, **headers: object) -> Said:
        """A part of a file."""
        fields: dict[str, object] = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": offset, **headers}
        return self.ask("PATCH", path, data, **fields)

    def offset(self, path: str) -> int:
        return int(self.ask("HEAD", path).headers["upload-offset"])

    def fetch(self, path: str, **headers: object) -> Said:
        return self.ask("GET", path.removeprefix(BASE), **headers)


def request(method: str, path: str, body: bytes = b"", **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: chat", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if (body or method == "PATCH") and "Content_Length" not in headers and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def said(raw: Raw, method: str) -> Said:
    """The answer; that to HEAD has no body, whatever its length says."""
    if method != "HEAD":
        return raw.said()
    first, *lines = raw.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Said(int(first.split()[1]), headers, raw.ended())


class Colleague:
    """id: the user's number."""

    def __init__(self, office: Office, name: str) -> None:
        self.office, self.name, self.id = office, name, 0
        self.peer = NulPeer()
        self._refs = itertools.count()

    async def arrive(self) -> None:
        self.peer = NulPeer()
        await self.peer.open(self.office.daemon.ports["chatserver"])
        options = {"framing": "nul", "acks": True, "requests": True, "takeover": True}
        self.peer.put({"msgid": chatserver.LOGIN, "name": self.name, "password": self.office.town.secret, **options})
        assert (await self.peer.find(msgid=chatserver.LOGIN_ACK))["errno"] == 0

    async def ask(self, op: str, fp: str = "", **arguments: Any) -> Any:
        """The result of a request. Raises Refusal."""
        ref = fp or f"r{next(self._refs)}"  # a repetition has the same
        if "with_" in arguments:
            arguments["with"] = arguments.pop("with_")
        self.peer.put({"msgid": 16, "op": op, "ref": ref, "fp": fp or f"{self.name}.{ref}", **arguments})
        answer = await self.peer.find(msgid=17, ref=ref)
        if not answer["ok"]:
            raise Refusal(answer["error"])
        return answer["result"]

    async def announce(self, data: bytes, name: str = "notes.txt", media_type: str = "text/plain", **more: Any) -> Any:
        return await self.ask("files.upload", name=name, size=len(data), type=media_type, **more)

    async def upload(self, data: bytes, name: str = "notes.txt", media_type: str = "text/plain") -> str:
        """The id of a file that is complete."""
        begun = await self.announce(data, name, media_type, sha256=hashlib.sha256(data).hexdigest())
        answer = self.office.put(begun["url"], data)
        assert answer.status == 200, answer
        return str(begun["file"])

    async def say(self, to: Colleague | int, text: str, files: tuple[str, ...] = (), fp: str = "") -> Frame:
        """To a user, or to a group by its number. The ACK. Raises Refusal."""
        fp = fp or f"{self.name}.m{next(self._refs)}"
        where = {"msgid": 11, "groupid": to} if isinstance(to, int) else {"msgid": 6, "toid": to.id}
        self.peer.put({**where, "id": self.id, "msg": text, "fp": fp, "files": list(files)})
        found = await self.peer.find(fp=fp)
        if found["msgid"] != chatserver.ACK:
            raise Refusal(found)
        return found

    async def hears(self) -> Frame:
        """The next message of somebody else."""
        while True:
            frame = await self.peer.find()
            if frame["msgid"] in (6, 11) and frame.get("conv"):
                self.peer.put(chatserver.received(frame))
                return frame

    async def links(self, place: str, seq: int, file: str | None = None) -> list[str]:
        more = {} if file is None else {"file": file}
        return [one["url"] for one in (await self.ask("files.link", with_=place, seq=seq, **more))["links"]]
