"""Files that people upload and send, in the SQL of both twins.

Owns: the tables `file` and `doomed_blob`; forget(), by which everything that removes messages or people removes their
files in the same transaction.
Elsewhere: the contract (store.file_contract), which messages may have which files (store.sql.extras), the content
(chatd.files).
Fails: Refused before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatd.errors import ErrorCode, Refused
from chatd.model import Attachment, FileId, Message, UserId
from chatd.store.file_contract import (
    AGAIN_MS,
    CHARGED_BYTES,
    Content,
    FileRow,
    FileState,
    FileTotals,
    NewFile,
)
from chatd.store.sql.database import Backend, Database

_COLUMNS = "id, owner, name, size, media_type, sha256, `blob`, width, height, state, created_at_ms, conversation, seq"
_CHARGED = f"CASE WHEN size < {CHARGED_BYTES} THEN {CHARGED_BYTES} ELSE size END"
_CONTENT = "CASE WHEN `blob` = '' THEN id ELSE `blob` END"


class SqlFiles:
    """store.contract.FileTables. for_update: appended to a SELECT whose rows must not change until the commit."""

    def __init__(self, db: Database, backend: Backend, for_update: str = "") -> None:
        self._db = db
        self._backend = backend
        self._for_update = for_update

    # ---------------------------------------------------------------- one file

    def begin(self, new: NewFile, quota_bytes: int, now_ms: int) -> FileRow:
        self._backend.lock_users(new.owner)
        if (begun := self.find(new.id)) is not None and begun.owner == new.owner:
            return begun
        charged = max(new.size, CHARGED_BYTES)
        if quota_bytes and self.used(new.owner) + charged > quota_bytes:
            raise Refused(ErrorCode.QUOTA_REACHED)
        self._db.execute(
            "INSERT INTO file (id, owner, name, size, media_type, sha256, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (new.id, new.owner, new.name, new.size, new.media_type, new.sha256, now_ms),
        )
        return self._existing(new.id)

    def find(self, file_id: FileId) -> FileRow | None:
        return self._find(file_id, "")

    def _find(self, file_id: FileId, lock: str) -> FileRow | None:
        """lock: _for_update, or nothing."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM file WHERE id = ?{lock}", (file_id,)).fetchone()
        return None if row is None else _file(row)

    def _existing(self, file_id: FileId) -> FileRow:
        found = self.find(file_id)
        assert found is not None
        return found

    def complete(self, file_id: FileId, content: Content) -> FileRow:
        self._db.execute(f"SELECT value FROM meta WHERE `key` = 'files'{self._for_update}").fetchone()
        found = self._find(file_id, self._for_update)
        if found is None:
            raise Refused(ErrorCode.UNKNOWN_FILE)
        if found.state is not FileState.UPLOADING:
            return found
        earlier = self._db.execute(
            f"SELECT `blob` FROM file WHERE sha256 = ? AND state > {int(FileState.UPLOADING)}"
            f" LIMIT 1{self._for_update}",
            (content.sha256,),
        ).fetchone()
        blob = content.blob if earlier is None else str(earlier[0])
        if blob != content.blob:
            self._db.execute("REPLACE INTO doomed_blob (name, due_ms) VALUES (?, 0)", (content.blob,))
        self._db.execute(
            "UPDATE file SET state = ?, sha256 = ?, `blob` = ?, width = ?, height = ? WHERE id = ?",
            (int(FileState.COMPLETE), content.sha256, blob, content.width, content.height, file_id),
        )
        return self._existing(file_id)

    def cancel(self, file_id: FileId, owner: UserId | None = None) -> bool:
        found = self._find(file_id, self._for_update)
        if found is None or found.state is FileState.SENT or owner not in (None, found.owner):
            return False
        forget(self._db, "id = ?", (file_id,))
        return True

    # ---------------------------------------------------------------- with a message

    def waiting(self, owner: UserId, file_ids: Sequence[FileId]) -> tuple[Attachment, ...] | None:
        """As what these files are sent, in this order; None: one of them is not the owner's, not complete, sent already
        or named twice."""
        marks = ",".join("?" * len(file_ids))
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM file WHERE id IN ({marks}){self._for_update}", tuple(file_ids)
        ).fetchall()
        found = {row[0]: _file(row) for row in rows}
        if len(found) != len(file_ids):
            return None
        if any(one.owner != owner or one.state is not FileState.COMPLETE for one in found.values()):
            return None
        return tuple(found[file_id].attachment for file_id in file_ids)

    def send(self, message: Message) -> None:
        """The message, which was just inserted, has its files."""
        for one in message.attachments:
            self._db.execute(
                "UPDATE file SET state = ?, conversation = ?, seq = ? WHERE id = ?",
                (int(FileState.SENT), message.conversation, message.seq, one.id),
            )

    # ---------------------------------------------------------------- many

    def used(self, owner: UserId) -> int:
        return int(self._db.execute(f"SELECT sum({_CHARGED}) FROM file WHERE owner = ?", (owner,)).fetchone()[0] or 0)

    def owned(self, owner: UserId, after: FileId, limit: int) -> list[FileRow]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM file WHERE owner = ? AND id > ? ORDER BY id LIMIT ?", (owner, after, limit)
        )
        return [_file(row) for row in rows]

    def expire(self, before_ms: int, limit: int) -> int:
        old: list[str] = []
        for state in (FileState.UPLOADING, FileState.COMPLETE):
            rows = self._db.execute(
                f"SELECT id FROM file WHERE state = ? AND created_at_ms < ? LIMIT ?{self._for_update}",
                (int(state), before_ms, limit - len(old)),
            )
            old += [str(row[0]) for row in rows]
        if old:
            forget(self._db, f"id IN ({','.join('?' * len(old))})", old)
        return len(old)

    def has_upkeep(self, before_ms: int, now_ms: int) -> bool:
        old = "SELECT 1 FROM file WHERE state = {} AND created_at_ms < ? LIMIT 1"
        questions = (
            (old.format(int(FileState.UPLOADING)), before_ms),
            (old.format(int(FileState.COMPLETE)), before_ms),
            ("SELECT 1 FROM doomed_blob WHERE due_ms <= ? LIMIT 1", now_ms),
        )
        return any(self._db.execute(query, (at_ms,)).fetchone() is not None for query, at_ms in questions)

    def doomed(self, now_ms: int, limit: int) -> list[str]:
        rows = self._db.execute(
            f"SELECT name FROM doomed_blob WHERE due_ms <= ? ORDER BY name LIMIT ?{self._for_update}", (now_ms, limit)
        ).fetchall()
        names = []
        for (name,) in rows:
            if self._is_in_use(str(name)):
                self._db.execute("DELETE FROM doomed_blob WHERE name = ?", (name,))
            else:
                names.append(str(name))
        return names

    def _is_in_use(self, name: str) -> bool:
        _, is_blob, sha256 = name.partition(".")
        found = self._db.execute("SELECT 1 FROM file WHERE sha256 = ? AND `blob` = ? LIMIT 1", (sha256, name))
        return bool(is_blob) and found.fetchone() is not None

    def deleted(self, names: Sequence[str], now_ms: int) -> None:
        for name in names:
            if "." not in name:
                self._db.execute(
                    "UPDATE doomed_blob SET due_ms = ? WHERE name = ? AND due_ms = 0", (now_ms + AGAIN_MS, name)
                )
            self._db.execute("DELETE FROM doomed_blob WHERE name = ? AND due_ms <= ?", (name, now_ms))

    def following(self, after: FileId, limit: int) -> list[FileRow]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM file WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [_file(row) for row in rows]

    def all_doomed(self) -> set[str]:
        return {str(name) for (name,) in self._db.execute("SELECT name FROM doomed_blob")}

    def totals(self) -> FileTotals:
        ready = f"state > {int(FileState.UPLOADING)}"
        (uploading,) = self._db.execute(f"SELECT count(*) FROM file WHERE NOT {ready}").fetchone()
        files, file_bytes = self._db.execute(f"SELECT count(*), sum(size) FROM file WHERE {ready}").fetchone()
        blobs, blob_bytes = self._db.execute(
            f"SELECT count(*), sum(size) FROM (SELECT DISTINCT sha256, size FROM file WHERE {ready}) AS f"
        ).fetchone()
        (doomed,) = self._db.execute("SELECT count(*) FROM doomed_blob").fetchone()
        return FileTotals(files, int(file_bytes or 0), blobs, int(blob_bytes or 0), uploading, doomed)


def forget(db: Database, condition: str, values: Sequence[Any]) -> None:
    """Forget all files with this condition, and doom their content."""
    db.execute(f"REPLACE INTO doomed_blob (name, due_ms) SELECT {_CONTENT}, 0 FROM file WHERE {condition}", values)
    db.execute(f"DELETE FROM file WHERE {condition}", values)


def _file(row: Sequence[Any]) -> FileRow:
    number, owner, name, size, media_type, sha256, blob, width, height, state, created_at_ms, conversation, seq = row
    return FileRow(
        id=number,
        owner=owner,
        name=name,
        size=size,
        media_type=media_type,
        sha256=sha256,
        blob=blob,
        width=width,
        height=height,
        state=FileState(state),
        created_at_ms=created_at_ms,
        conversation=conversation,
        seq=seq,
    )
