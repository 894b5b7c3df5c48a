"""The content of files in an object store that speaks S3.

Owns: the names of the objects, and making one object of what came in pieces.
Elsewhere: the contract (files.contract); requests, their repetition and signing (obstore).
Fails: Unavailable for everything that the object store refuses, or does not answer; BootError 78 for settings that
cannot be.

    PREFIX/uploads/ID/OFFSET    a piece of an upload, by the offset of its first byte
    PREFIX/content/ID.SHA256    a blob

An object cannot be appended to, so each piece is an object. Of two writers at one offset, one creates the piece and the
other is refused. When all pieces are there, they are copied into one object, which appears when it is whole, and are
deleted after that: what is interrupted is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from chatd.config.file_checks import S3
from chatd.errors import BootError, Exit, Unavailable
from chatd.files.contract import PIECE_BYTES, Kept, OffsetMismatch, checked
from chatd.model import FileId
from chatd.store.file_contract import blob_name

if TYPE_CHECKING:
    from obstore.store import S3Config

UPLOADS, CONTENT = "uploads", "content"
PART_BYTES = 5 * 1024 * 1024
"""Of a multipart upload: the least that S3 takes."""
_RETRY_FOR = timedelta(seconds=15)
_DIGITS = 12
"""Of an offset in a name, so that names sort as offsets do."""


class _Piece(NamedTuple):
    offset: int
    size: int
    path: str


def store_of(url: str, settings: str) -> S3Store:
    """settings: NAME=VALUE, one per line. Raises: BootError."""
    found = S3.fullmatch(url)
    assert found is not None, url
    bucket, prefix = found.groups()
    options: S3Config = {}
    for line in filter(None, map(str.strip, settings.splitlines())):
        name, is_setting, value = line.partition("=")
        if not line.startswith("#"):
            if not is_setting:
                raise BootError("files.s3_settings: every line must be NAME=VALUE", Exit.CONFIG)
            options[name.strip().lower()] = value.strip()  # type: ignore[literal-required]  # checked by S3Store
    try:
        return S3Store(
            bucket,
            prefix=(prefix or "").strip("/") or None,
            config=options,
            client_options={"timeout": "30s", "connect_timeout": "5s", "allow_http": True},
            retry_config={"max_retries": 3, "retry_timeout": _RETRY_FOR},
        )
    except (BaseError, TypeError, ValueError) as error:
        raise BootError(f"files.s3: {error}", Exit.CONFIG) from None


class S3Blobs:
    """files.contract.Blobs."""

    def __init__(self, url: str, settings: str) -> None:
        """Reads and writes nothing. Raises: BootError."""
        self._store = store_of(url, settings)
        self._url = url

    def check(self) -> None:
        with self._failing():
            next(iter(obstore.list(self._store, UPLOADS, chunk_size=1)), None)

    def received(self, upload: FileId) -> int:
        with self._failing():
            return self._received(upload)

    def _received(self, upload: FileId) -> int:
        blob = self._blob_of(upload)
        return blob.size if blob is not None else sum(piece.size for piece in self._pieces(upload))

    def append(self, upload: FileId, offset: int, data: bytes) -> int:
        with self._failing():
            pieces = self._pieces(upload)
            kept = None if pieces else self._blob_of(upload)
            received = sum(piece.size for piece in pieces) if kept is None else kept.size
            if received != offset or kept is not None:
                raise OffsetMismatch(received)
            path = f"{UPLOADS}/{checked(upload)}/{offset:0{_DIGITS}d}"
            try:
                obstore.put(self._store, path, data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                raise OffsetMismatch(self._received(upload)) from None
            return offset + len(data)

    def digest(self, upload: FileId) -> str:
        found = hashlib.sha256()
        with self._failing():
            for part in self._whole(upload):
                found.update(part)
        return found.hexdigest()

    def keep(self, upload: FileId, sha256: str) -> str:
        name = checked(blob_name(upload, sha256))
        with self._failing():
            blob = self._blob_of(upload)
            if blob is None and not self._pieces(upload):
                raise Unavailable(f"files: {self._url}: the upload is gone")
            if blob is None:
                self._put_whole(f"{CONTENT}/{name}", self._whole(upload))
            elif blob.path != f"{CONTENT}/{name}":
                raise Unavailable(f"files: {self._url}: an upload has two contents")
            for piece in self._pieces(upload):
                self._delete(piece.path)
        return name

    def _put_whole(self, path: str, parts: Iterator[bytes]) -> None:
        """It is there when it is whole: at close(), which is not called after an error."""
        writer = obstore.open_writer(self._store, path, buffer_size=PART_BYTES)
        for part in parts:
            writer.write(part)
        writer.close()

    def read(self, name: str, start: int, length: int) -> bytes:
        with self._failing(missing_is_told=True):
            if "." in checked(name):
                return self._range(f"{CONTENT}/{name}", start, min(length, PIECE_BYTES))
            blob = self._blob_of(name)
            if blob is not None:
                return self._range(blob.path, start, min(length, PIECE_BYTES))
            return self._read_pieces(name, start, min(length, PIECE_BYTES))

    def _read_pieces(self, upload: FileId, start: int, length: int) -> bytes:
        parts = []
        for piece in self._pieces(upload):
            begin, end = max(start, piece.offset), min(start + length, piece.offset + piece.size)
            if begin < end:
                parts.append(self._range(piece.path, begin - piece.offset, end - begin))
        return b"".join(parts)

    def delete(self, name: str) -> None:
        with self._failing():
            if "." in checked(name):
                self._delete(f"{CONTENT}/{name}")
                return
            for piece in self._listed(f"{UPLOADS}/{name}/"):
                self._delete(piece.path)
            blob = self._blob_of(name)
            if blob is not None:
                self._delete(blob.path)

    def kept(self) -> Iterator[Kept]:
        with self._failing():
            for page in obstore.list(self._store, f"{CONTENT}/"):
                for one in page:
                    with contextlib.suppress(ValueError):
                        name = checked(one["path"].rpartition("/")[2])
                        yield Kept(name, one["size"], one["last_modified"].timestamp())
            pieces: dict[str, Kept] = {}
            for page in obstore.list(self._store, f"{UPLOADS}/"):
                for one in page:
                    with contextlib.suppress(ValueError, IndexError):
                        name = checked(one["path"].split("/")[-2])
                        before = pieces.get(name, Kept(name, 0, 0.0))
                        written = max(before.modified_s, one["last_modified"].timestamp())
                        pieces[name] = Kept(name, before.size + one["size"], written)
            yield from pieces.values()

    def close(self) -> None:
        pass

    # ---------------------------------------------------------------- objects

    def _listed(self, start: str) -> list[_Piece]:
        """Objects whose names begin so, in their order. offset: of a piece, and 0 otherwise."""
        found = []
        for page in obstore.list(self._store, start):
            for one in page:
                last = one["path"].rpartition("/")[2]
                found.append(_Piece(int(last) if last.isdigit() else 0, one["size"], one["path"]))
        return sorted(found)

    def _pieces(self, upload: FileId) -> list[_Piece]:
        """Those that continue each other."""
        pieces, end = [], 0
        for piece in self._listed(f"{UPLOADS}/{checked(upload)}/"):
            if piece.offset != end:
                break
            pieces.append(piece)
            end += piece.size
        return pieces

    def _blob_of(self, upload: FileId) -> _Piece | None:
        start = f"{CONTENT}/{checked(upload)}."
        # A prefix ends at a slash, so the names of all files that begin alike are asked for by their first key.
        for page in obstore.list(self._store, CONTENT, offset=start, chunk_size=1):
            for one in page:
                return _Piece(0, one["size"], one["path"]) if one["path"].startswith(start) else None
        return None

    def _whole(self, upload: FileId) -> Iterator[bytes]:
        blob = self._blob_of(upload)
        for piece in [blob] if blob is not None else self._pieces(upload):
            at = 0
            while at < piece.size:
                part = self._range(piece.path, at, PART_BYTES)
                yield part
                at += len(part)

    def _range(self, path: str, start: int, length: int) -> bytes:
        """Fewer bytes at its end."""
        try:
            return bytes(obstore.get(self._store, path, options={"range": (start, start + length)}).bytes())
        except (NotFoundError, FileNotFoundError):
            raise
        except BaseError:
            if start < int(obstore.head(self._store, path)["size"]):
                raise
            return b""

    def _delete(self, path: str) -> None:
        with contextlib.suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, path)

    @contextlib.contextmanager
    def _failing(self, *, missing_is_told: bool = False) -> Iterator[None]:
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if missing_is_told:
                raise FileNotFoundError(str(error)) from None
            raise Unavailable(f"files: {self._url}: {_first_line(error)}") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"files: {self._url}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
