"""One worker's part in files, without a worker: a real store, a real directory, and what is between them.

Owns: Host, on which a test uploads, sends and deletes as wires and upkeep do.
Elsewhere: the rows alone (tests.store.contract_files), the content alone (tests.files.contract).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec

from chatd import log
from chatd.background import BackgroundTasks
from chatd.config.files_options import FilesOptions
from chatd.config.schema import Config
from chatd.core.file_upkeep import EVERY_ROUNDS, FileUpkeep
from chatd.core.uploads import Uploads
from chatd.errors import ErrorCode
from chatd.files.content import FileContent
from chatd.files.contract import Blobs
from chatd.files.directory import DirectoryBlobs
from chatd.model import FileId, User
from chatd.protocol import Extras
from chatd.scoreboard import ROW_BYTES, Row
from chatd.store.contract import Draft, FileRow, NewFile, Stored, Tables
from chatd.store.group_commit import Connections, GroupCommit
from tests.store.steps import to

T = TypeVar("T")
DEADLINE_S = 20.0
ID = "A1-b2_C3d4E5f6G7h8I9j0"


class Host:
    """blobs: where the content is. results: of the messages that were sent."""

    def __init__(self, tables: Tables, blobs: Blobs, options: FilesOptions) -> None:
        loop = asyncio.get_running_loop()
        self.blobs = blobs
        self.options = options
        self.leads = True
        self.row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        self.results: list[Stored | ErrorCode] = []
        self.store = GroupCommit(
            Connections(tables), loop, self.row, lambda drafts, origins, results: self.results.extend(results)
        )
        self.background = BackgroundTasks(loop)
        self._content = FileContent(blobs)
        services: Any = SimpleNamespace(
            store=self.store,
            config=lambda: Config(files=self.options),
            log=log.get(),
            background=self.background,
            row=self.row,
            leads=lambda: self.leads,
        )
        self._services = services
        self.uploads = Uploads(services, self._content)
        self._upkeep = FileUpkeep(services, self.row, self._content)

    def turn_off(self) -> None:
        """As a server without a place for files."""
        self.uploads = Uploads(self._services, None)

    async def begin(self, owner: User, content: bytes, file_id: FileId = ID, **fields: str) -> FileRow:
        """fields: others of NewFile."""
        given = {"name": "a.txt", "media_type": "text/plain", **fields}
        new = NewFile(id=file_id, owner=owner.id, size=len(content), **given)
        return await self.store.write(lambda tables: self.uploads.begin(tables, new))

    async def send_rest(self, file: FileRow, content: bytes, piece: int = 4) -> FileRow:
        """What a client does after any failure: ask, go on, finish."""
        at = await self.uploads.received(file)
        while at < len(content):
            at = await self.uploads.append(file, at, content[at : at + piece])
        return await self.uploads.finish(file)

    async def upload(self, owner: User, content: bytes, file_id: FileId = ID, **fields: str) -> FileRow:
        return await self.send_rest(await self.begin(owner, content, file_id, **fields), content)

    async def send(self, sender: User, to_user: User, *files: FileRow, fp: str = "fp") -> Stored | ErrorCode:
        """A message with these files."""
        command = msgspec.structs.replace(to(to_user, "", fp), extras=Extras(files=tuple(one.id for one in files)))
        self.results.clear()
        self.store.append(Draft(sender, command), None)
        await self.store.settle()
        (result,) = self.results
        return result

    async def read_whole(self, file: FileRow) -> bytes:
        return await self.uploads.read(file, 0, 1 << 20)

    async def sweep(self) -> None:
        """Upkeep looks once, and does what is to do."""
        for _ in range(EVERY_ROUNDS):
            self._upkeep.round()
        await asyncio.wait_for(self.background.settle(), DEADLINE_S)

    async def close(self) -> None:
        await self.store.settle()
        self.store.close()
        self._content.close()


def on_host(tables: Tables, place: Path | Blobs, story: Callable[[Host], Coroutine[Any, Any, T]], **options: Any) -> T:
    """place: of the content. options: of [files]."""
    blobs: Blobs = DirectoryBlobs(place) if isinstance(place, Path) else place

    async def whole() -> T:
        host = Host(tables, blobs, FilesOptions(dir="/somewhere", **options))
        try:
            return await asyncio.wait_for(story(host), DEADLINE_S)
        finally:
            await host.close()

    return asyncio.run(whole())
