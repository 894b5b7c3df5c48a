"""A push service and the browsers that are subscribed to it, as RFC 8030, 8188, 8291 and 8292 describe them.

Owns: PushService, which checks who sends, and Browser, which decrypts what came for it. Neither uses chatd's code.
Fails: what is wrong with a request is noted in PushService.complaints.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import struct
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.harness.daemon import free_port

_numbers = itertools.count(1)
CURVE = ec.SECP256R1()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return hmac.digest(hmac.digest(salt, secret, sha256), info + b"\x01", sha256)[:length]


class Told(NamedTuple):
    """A request that was answered with success, or not. at: time.monotonic()."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    at: float


class Browser:
    """One subscription. service: where it is told."""

    def __init__(self, service: PushService) -> None:
        self.service = service
        self.path = f"/push/{next(_numbers)}"
        self._key = ec.generate_private_key(CURVE)
        self.auth = b"sixteen bytes of"
        self.point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.service.port}{self.path}"

    @property
    def keys(self) -> dict[str, str]:
        return {"p256dh": encoded(self.point), "auth": encoded(self.auth)}

    def read(self, body: bytes) -> dict[str, Any]:
        """What the push service could not."""
        salt, size, length = body[:16], *struct.unpack(">IB", body[16:21])
        sender, record = body[21 : 21 + length], body[21 + length :]
        assert length == 65
        assert len(record) <= size
        assert len(body) <= 4096
        shared = self._key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, sender))
        secret = hkdf(self.auth, shared, b"WebPush: info\x00" + self.point + sender, 32)
        key = hkdf(salt, secret, b"Content-Encoding: aes128gcm\x00", 16)
        nonce = hkdf(salt, secret, b"Content-Encoding: nonce\x00", 12)
        content, _, padding = AESGCM(key).decrypt(nonce, record, None).rpartition(b"\x02")
        assert padding == b""
        found: dict[str, Any] = json.loads(content)
        return found

    def notes(self, status: int = 201) -> list[dict[str, Any]]:
        """What came for it, and was answered so."""
        return [self.read(one.body) for one in self.service.came(self.path) if one.status == status]


class PushService:
    """public: the key of the only server that may send. status, delay_s, headers: of every answer from now on.
    It listens on all addresses of this host, so that a test sees what is sent to a wrong one."""

    def __init__(self, public: str) -> None:
        self.public = public
        self.port = free_port()
        self.status = 201
        self.delay_s = 0.0
        self.headers: dict[str, str] = {}
        self.complaints: list[str] = []
        self._came: list[Told] = []
        self._server = ThreadingHTTPServer(("0.0.0.0", self.port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def came(self, path: str = "") -> list[Told]:
        return [one for one in self._came if not path or one.path == path]

    def forget(self) -> None:
        self._came.clear()

    def _handler(service) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                try:
                    service._check(headers)
                    status = service.status
                except Exception as error:  # noqa: BLE001  whatever it is, the test shall see it
                    service.complaints.append(f"{type(error).__name__}: {error}")
                    status = 403
                service._came.append(Told(self.path, headers, body, status, time.monotonic()))
                time.sleep(service.delay_s)
                self.send_response(status)
                for name, value in {**service.headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler

    def _check(self, headers: dict[str, str]) -> None:
        kind, _, rest = headers["authorization"].partition(" ")
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        assert kind == "vapid"
        assert given["k"] == self.public, "another server"
        key = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, decoded(given["k"]))
        audience = f"http://127.0.0.1:{self.port}"
        claims = jwt.decode(given["t"], key, algorithms=["ES256"], audience=audience)
        assert claims["sub"] == "mailto:admin@example.org"
        assert time.time() < claims["exp"] <= time.time() + 24 * 3600
        assert headers["content-encoding"] == "aes128gcm"
        assert int(headers["ttl"]) >= 0
        assert len(headers["topic"]) <= 32
