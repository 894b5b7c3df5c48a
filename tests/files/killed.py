"""A file's whole life, killed with SIGKILL before each step that reaches the disk, and what is found then.

usage: python -m tests.files.killed FOLDER [BUG]. It kills children of its own, one for each step, and checks after each
that no complete file is without its content, that the same client comes to its end by repeating what it did, and that
nothing is left on the disk afterwards. Prints how many steps there were; exits with 1 and says why if a check fails.
BUG: of tests.files.planted; with it, a check must fail.

The steps: system calls by which content comes and goes, and the commits of the store.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chatd import wall_clock
from chatd.files.directory import DirectoryBlobs
from chatd.model import User
from chatd.store.contract import FileRow, FileState, Stored, Tables
from chatd.store.file_contract import AGAIN_MS
from chatd.store.open import StoreLocation, open_tables
from chatd.store.revision_contract import HAS_TEXT
from chatd.store.sqlite.tables import SqliteTables
from tests.files.contract import OTHER, names, sha256
from tests.files.place import ID, Host, on_host
from tests.files.planted import BUGS
from tests.store.steps import make

CONTENT = b"0123456789"
LONG_MS = 1 << 50
CALLS = ((os, "pwrite"), (os, "fsync"), (os, "rename"), (os, "unlink"), (os, "mkdir"), (SqliteTables, "commit"))


def open_store(folder: Path) -> Tables:
    return open_tables(StoreLocation(path=folder / "chatd.db"), 2.0, create=True)


def kill_at(step: int) -> list[int]:
    """Before this one; after it is before the next one. Returns a list whose length counts the steps."""
    steps: list[int] = []

    def passed() -> None:
        steps.append(1)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            passed()
            return real(*arguments, **named)

        return call

    for owner, name in CALLS:
        setattr(owner, name, wrapped(getattr(owner, name)))
    return steps


async def life(host: Host, alice: User, bob: User) -> None:
    """Every step may have been done before, by a process that was killed."""
    file = await host.store.read(lambda tables: tables.files.find(ID))
    file = file or await host.begin(alice, CONTENT, sha256=sha256(CONTENT))
    if file.state is not FileState.SENT:
        file = await host.send_rest(file, CONTENT)
    assert await host.read_whole(file) == CONTENT
    other = await host.store.read(lambda tables: tables.files.find(OTHER))
    if other is None or other.state is FileState.UPLOADING:
        await host.upload(bob, CONTENT, OTHER)
    sent = await host.send(alice, bob, file)
    assert isinstance(sent, Stored), sent
    await host.sweep()
    message = sent.message
    if message.state in HAS_TEXT:
        await host.store.write(
            lambda tables: tables.revisions.recall(alice.id, message.conversation, message.seq, LONG_MS, 9)
        )
    await host.sweep()
    await host.uploads.cancel(OTHER)
    await host.sweep()


def owned(owner: User, tables: Tables) -> list[FileRow]:
    return tables.files.owned(owner.id, "", 99)


async def check_content(host: Host, owners: list[User]) -> None:
    for owner in owners:
        rows = await host.store.read(partial(owned, owner))
        for row in rows:
            if row.state is not FileState.UPLOADING:
                assert await host.read_whole(row) == CONTENT, f"{row.id} has lost its content"


def recover(folder: Path) -> None:
    alice, bob = people(folder)

    async def story(host: Host) -> None:
        await check_content(host, [alice, bob])
        await life(host, alice, bob)
        for ahead_ms in (AGAIN_MS, 3 * AGAIN_MS):
            wall_clock.now_ms = lambda ahead_ms=ahead_ms: int(real_now()) + ahead_ms  # type: ignore[misc]
            await host.sweep()
        wall_clock.now_ms = real_now
        totals = await host.store.read(lambda tables: tables.files.totals())
        assert not any(totals), f"left in the store: {totals}"
        assert names(DirectoryBlobs(folder / "files")) == {}, "left on the disk"

    real_now = wall_clock.now_ms
    on_host(open_store(folder), folder / "files", story, unfinished_s=600)


def people(folder: Path) -> tuple[User, User]:
    tables = open_store(folder)
    found = [tables.accounts.find(name, 0) for name in ("alice", "bob")]
    tables.close()
    assert all(found)
    return found[0].user, found[1].user  # type: ignore[union-attr]


def child(work: Callable[[], None]) -> int:
    """The status of a child that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  the child ends here, whatever happens
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(folder: Path, step: int) -> None:
    alice, bob = people(folder)
    steps = kill_at(step)
    on_host(open_store(folder), folder / "files", lambda host: life(host, alice, bob), unfinished_s=600)
    (folder / "steps").write_text(str(len(steps)))


def main(root: Path) -> int:
    step = 0
    while True:
        step += 1
        folder = root / str(step)
        (folder / "files").mkdir(parents=True)
        tables = open_store(folder)
        make(tables, "alice", "bob")
        tables.close()
        status = child(lambda folder=folder, step=step: killed_at(folder, step))  # type: ignore[misc]
        if status not in (0, -signal.SIGKILL):
            return 1
        if child(lambda folder=folder: recover(folder)):  # type: ignore[misc]
            print(f"killed at step {step}")
            return 1
        if status == 0:
            print(f"{step - 1} steps")
            return 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        BUGS[sys.argv[2]]()
    sys.exit(main(Path(sys.argv[1])))
