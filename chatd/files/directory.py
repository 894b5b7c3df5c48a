"""The content of files in a directory.

Owns: the names in it, and that what was kept is on the disk.
Elsewhere: the contract (files.contract), making the directory itself (master.directories), who may read it
(config.strict).
Fails: Unavailable for every error of the file system; the log and the sender are told which.

    uploads/ID            what has come of an upload
    content/AB/ID.SHA256  a blob; AB: the first two characters of the id

Several hosts may share the directory, if its file system has locks (flock) that all of them see: NFS 4 has. Uploads
are appended to under a lock, so of two writers at one offset one is refused. A blob comes by a rename, whole or not at
all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from chatd import safe_files
from chatd.errors import Unavailable
from chatd.files.contract import PIECE_BYTES, Kept, OffsetMismatch, checked
from chatd.model import FileId
from chatd.store.file_contract import blob_name

UPLOADS, CONTENT = "uploads", "content"
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class DirectoryBlobs:
    """files.contract.Blobs."""

    def __init__(self, path: Path) -> None:
        """path: an existing directory."""
        self._path = path
        self._uploads = path / UPLOADS
        self._content = path / CONTENT

    def check(self) -> None:
        with self._failing():
            for folder in (self._path, self._uploads, self._content):
                if folder is self._path or folder.exists():
                    os.close(safe_files.open_directory(folder))
                    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    def received(self, upload: FileId) -> int:
        with self._failing():
            path = self._path_of(upload)
            return 0 if path is None else path.stat().st_size

    def append(self, upload: FileId, offset: int, data: bytes) -> int:
        with self._failing():
            kept = self._blob_of(upload)
            if kept is not None:
                raise OffsetMismatch(kept.stat().st_size)
            descriptor = self._open_upload(upload)
            try:
                return _append(descriptor, offset, data)
            finally:
                os.close(descriptor)

    def _open_upload(self, upload: FileId) -> int:
        """For writing, locked. It may be renamed, or deleted, while another writer has the lock."""
        path = self._uploads / checked(upload)
        while True:
            try:
                descriptor = safe_files.open_file(path, os.O_RDWR | os.O_CREAT, _FILE_MODE)
            except FileNotFoundError:
                self._uploads.mkdir(_FOLDER_MODE, exist_ok=True)
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                    return descriptor
            os.close(descriptor)
            if self._blob_of(upload) is not None:
                raise OffsetMismatch(self.received(upload))

    def digest(self, upload: FileId) -> str:
        found = hashlib.sha256()
        with self._failing():
            path = self._path_of(upload)
            if path is None:
                return found.hexdigest()
            descriptor = safe_files.open_file(path, os.O_RDONLY)
            with open(descriptor, "rb", buffering=0) as file:
                os.fsync(descriptor)  # before it is read: what is hashed is what is on the disk
                while piece := file.read(PIECE_BYTES):
                    found.update(piece)
        return found.hexdigest()

    def keep(self, upload: FileId, sha256: str) -> str:
        name = checked(blob_name(upload, sha256))
        with self._failing():
            target = self._place(name)
            for folder in (self._content, target.parent):
                folder.mkdir(_FOLDER_MODE, exist_ok=True)
            _sync_folder(self._content)
            descriptor = self._open_kept(upload, target)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):  # it was kept before
                os.rename(self._uploads / upload, target)
            _sync_folder(target.parent)
            _sync_folder(self._uploads)
            if not target.exists():
                raise FileNotFoundError(errno.ENOENT, "the upload is gone", str(target))
        return name

    def _open_kept(self, upload: FileId, target: Path) -> int:
        """The upload, or its blob. Raises: OSError."""
        try:
            return safe_files.open_file(self._uploads / upload, os.O_RDWR)
        except FileNotFoundError:
            return safe_files.open_file(target, os.O_RDWR)

    def read(self, name: str, start: int, length: int) -> bytes:
        path = self._place(name) if "." in checked(name) else self._path_of(name)
        if path is None:
            raise FileNotFoundError(name)
        with self._failing(missing_is_told=True):
            descriptor = safe_files.open_file(path, os.O_RDONLY)
            try:
                return _read(descriptor, start, min(length, PIECE_BYTES))
            finally:
                os.close(descriptor)

    def delete(self, name: str) -> None:
        with self._failing():
            if "." in checked(name):
                _unlink(self._place(name))
                return
            _unlink(self._uploads / name)
            while (kept := self._blob_of(name)) is not None:
                _unlink(kept)

    def kept(self) -> Iterator[Kept]:
        with self._failing():
            folders = [self._uploads, *(sorted(self._content.iterdir()) if self._content.exists() else ())]
            for folder in filter(Path.exists, folders):
                for path in folder.iterdir():
                    with contextlib.suppress(FileNotFoundError, ValueError):
                        info = path.lstat()
                        if stat.S_ISREG(info.st_mode):
                            yield Kept(checked(path.name), info.st_size, info.st_mtime)

    def close(self) -> None:
        pass

    # ---------------------------------------------------------------- names

    def _place(self, name: str) -> Path:
        return self._content / name[:2] / checked(name)

    def _path_of(self, upload: FileId) -> Path | None:
        """Where what has come of it is."""
        path = self._uploads / checked(upload)
        return path if path.exists() else self._blob_of(upload)

    def _blob_of(self, upload: FileId) -> Path | None:
        """The blob that came with this file. Cost: reads one of the folders of `content`."""
        start = f"{checked(upload)}."
        try:
            with os.scandir(self._content / upload[:2]) as entries:
                return next((Path(entry.path) for entry in entries if entry.name.startswith(start)), None)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _failing(self, *, missing_is_told: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if missing_is_told:
                raise
            raise Unavailable(f"files: {error.filename}: {error.strerror}") from error
        except OSError as error:
            raise Unavailable(f"files: {error.filename or self._path}: {error.strerror}") from error


def _append(descriptor: int, offset: int, data: bytes) -> int:
    """Under the lock. A write that fails leaves nothing."""
    size = os.fstat(descriptor).st_size
    if size != offset:
        raise OffsetMismatch(size)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.pwrite(descriptor, rest, offset + len(data) - len(rest)) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, offset)
        raise
    return offset + len(data)


def _read(descriptor: int, start: int, length: int) -> bytes:
    parts = []
    while length and (part := os.pread(descriptor, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return b"".join(parts)


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
