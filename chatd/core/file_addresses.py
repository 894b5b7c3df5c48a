"""Addresses of files: paths at which whoever has one may upload or download one file, until it expires.

Owns: FileAddresses: making addresses, and whether one is genuine and counts still.
Elsewhere: who is given one (core.requests.files, core.delivery), what is served there (http.files), the store's secret,
from which the key is derived (core.passes).
Fails: Unavailable while the store's secret has not been read.

Nothing is kept on the server, so every worker and host takes the addresses of all. What an address allows is signed
together with the file and the moment of its expiry: one for downloading uploads nothing. It does not outlive its file,
which is looked up at every request.

A link for downloading is the same text for half of its life, because a browser keeps what it has loaded by its address.
"""

from __future__ import annotations

import base64
import enum
import hmac
import re
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from chatd.core.accounts import Accounts
from chatd.core.passes import Purpose, key_of
from chatd.core.services import Services
from chatd.errors import Unavailable
from chatd.model import Attachment, FileId, Message

PATH = "/files/"
_NAME_BYTES = 100
"""Of the name in an address; a longer one is replaced, since it means nothing to the server."""
_ENDING = re.compile(r"(\.[A-Za-z0-9]{1,8})?\Z")


class Allows(enum.Enum):
    """What an address is for."""

    UPLOAD = "upload"
    DOWNLOAD = "download"


class Address(NamedTuple):
    """path: begins with PATH. expires_at: epoch, seconds."""

    path: str
    expires_at: int


class FileAddresses:
    def __init__(self, services: Services, accounts: Accounts, now_s: Callable[[], float] = time.time) -> None:
        self._config = services.config
        self._accounts = accounts
        self._now_s = now_s

    def upload(self, file_id: FileId) -> Address:
        """Raises Unavailable."""
        expires_at = int(self._now_s()) + self._config().files.link_s
        return Address(f"{PATH}{file_id}?{self._query(Allows.UPLOAD, file_id, expires_at)}", expires_at)

    def download(self, one: Attachment) -> Address:
        """Raises Unavailable."""
        return self._download(one, self._config().files.link_s)

    def links(self, message: Message) -> tuple[str, ...]:
        """Whole addresses of a message's files, for stock clients; () if the configuration does not say where browsers
        reach this server."""
        options = self._config().files
        base = self.base
        if not base or not self._accounts.secret:
            return ()
        lifetime_s = options.stock_link_s
        return tuple(base + self._download(one, lifetime_s).path for one in message.attachments)

    @property
    def base(self) -> str:
        """What is put before a path; "" = that is not known."""
        return self._config().files.url.rstrip("/")

    def expiry(self, allows: Allows, file_id: FileId, expires: str, signature: str) -> int | None:
        """When the address with this query expires (epoch, seconds); None: it is not one of this server's, or has
        expired. Raises Unavailable."""
        if not (expires.isascii() and expires.isdigit() and len(expires) < 12):
            return None
        genuine = self._signature(allows, file_id, int(expires))
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), genuine.encode()):
            return None
        return int(expires) if self._now_s() < int(expires) else None

    def _download(self, one: Attachment, lifetime_s: int) -> Address:
        """Good for between a half of `lifetime_s` and all of it."""
        half = max(1, lifetime_s // 2)
        expires_at = (int(self._now_s()) // half + 2) * half
        name = quote(one.name, safe="")
        if len(name) > _NAME_BYTES:
            name = "file" + _ENDING.search(one.name)[0]  # type: ignore[index]
        return Address(f"{PATH}{one.id}/{name}?{self._query(Allows.DOWNLOAD, one.id, expires_at)}", expires_at)

    def _query(self, allows: Allows, file_id: FileId, expires_at: int) -> str:
        return f"expires={expires_at}&signature={self._signature(allows, file_id, expires_at)}"

    def _signature(self, allows: Allows, file_id: FileId, expires_at: int) -> str:
        try:
            key = key_of(self._accounts.secret, Purpose.FILES)
        except ValueError as error:
            raise Unavailable(str(error)) from None
        text = f"{allows.value} {file_id} {expires_at}"
        return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")
