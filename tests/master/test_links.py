"""Another user of the host plants links where the server will write: nothing is written through them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd import safe_files
from chatd.errors import BootError, Exit
from chatd.store.sqlite.tables import open_tables
from tests.master.conftest import Server, open_way, wait_for

Make = Callable[..., Server]
PRECIOUS = b"what belongs to somebody else\n"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_bytes(PRECIOUS)
    path.chmod(0o600)
    return path


def with_directories(make: Make, **options: str) -> Server:
    server = make(workers=1, **options)
    for name in ("state", "run", "log"):
        (server.root / name).mkdir(mode=0o750)
    return server


def unharmed(precious: Path) -> bool:
    return precious.read_bytes() == PRECIOUS and precious.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe"])
@pytest.mark.parametrize("name", ["run/chatd.pid", "state/lock", "log/normal.log", "log/error.log"])
def test_a_file_that_the_master_opens(make: Make, precious: Path, name: str, kind: str) -> None:
    server = with_directories(make)
    plant(server.root / name, precious, kind)
    ended = server.run()
    assert ended.returncode == Exit.CANNOT_CREATE
    assert str(server.root / name) in ended.stderr
    assert unharmed(precious)


def plant(path: Path, precious: Path, kind: str) -> None:
    match kind:
        case "symbolic link":
            path.symlink_to(precious)
        case "hard link":
            path.hardlink_to(precious)
        case _:
            os.mkfifo(path, 0o666)


@pytest.mark.parametrize("name", ["run/bus", "run/claims"])
def test_a_directory_of_the_workers(make: Make, tmp_path: Path, name: str) -> None:
    """Its sockets would be removed, and its mode and owner changed."""
    server = with_directories(make)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "file").write_text("stays")
    (server.root / name).symlink_to(elsewhere)
    ended = server.run()
    assert ended.returncode == Exit.CANNOT_CREATE
    assert ended.stderr.strip() == f"chatd: cannot create {server.root / name}: is a symbolic link"
    assert (elsewhere / "file").read_text() == "stays"
    assert elsewhere.stat().st_mode & 0o777 == 0o755


def test_loose_directories_of_the_workers_are_closed(make: Make) -> None:
    server = with_directories(make)
    for name in ("bus", "claims"):
        (server.root / "run" / name).mkdir(mode=0o777)
        (server.root / "run" / name).chmod(0o777)
    server.start()
    for name in ("bus", "claims"):
        assert (server.root / "run" / name).stat().st_mode & 0o777 == 0o700


def test_a_link_in_place_of_the_control_socket_is_removed_and_its_target_stays(make: Make, precious: Path) -> None:
    server = with_directories(make)
    (server.root / "run/control.sock").symlink_to(precious)
    server.start()
    assert (server.root / "run/control.sock").is_socket()
    assert (server.root / "run/control.sock").stat().st_mode & 0o777 == 0o660
    assert unharmed(precious)


def test_a_link_in_place_of_a_unix_listener_is_not_followed(make: Make, precious: Path) -> None:
    server = with_directories(make)
    server.listen = '[[listen]]\nprotocol = "echo"\naddress = "unix:echo.sock"\n'
    server.write()
    (server.root / "run/echo.sock").symlink_to(precious)
    ended = server.run()
    assert ended.returncode == Exit.OS
    assert "cannot listen on unix:" in ended.stderr
    assert unharmed(precious)
    (server.root / "run/echo.sock").unlink()
    server.start()
    assert (server.root / "run/echo.sock").stat().st_mode & 0o777 == 0o666


def test_a_log_that_is_swapped_for_a_link_is_not_written_after_a_reopen(make: Make, precious: Path) -> None:
    """The open file stays in use, and the failure is counted."""
    server = with_directories(make).start()
    log = server.root / "log/normal.log"
    log.rename(log.with_suffix(".old"))
    log.symlink_to(precious)
    server.ctl("reopen")
    server.ctl("log-level", "DEBUG")
    wait_for("it is counted", lambda: server.status()["log_dropped"] > 0)
    assert server.ctl("stop").returncode == Exit.OK
    assert unharmed(precious)


def test_rotation_renames_a_link_and_writes_into_a_new_file(make: Make, precious: Path) -> None:
    """As if somebody had planted the name that the file is given."""
    server = with_directories(make)
    server.write("[log]\nrotate_bytes = 1\nrotate_keep = 2")
    (server.root / "log/normal.log.1").symlink_to(precious)
    server.start()
    wait_for("it is rotated", lambda: (server.root / "log/normal.log.1").is_file()
             and not (server.root / "log/normal.log.1").is_symlink())  # fmt: skip
    assert unharmed(precious)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_directory_of_the_server_that_is_another_users_link_is_refused(make: Make, tmp_path: Path) -> None:
    """Its target would be given to server.user: with /etc as the target, that is the host."""
    open_way(tmp_path)
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    server = make(server='user = "nobody"', workers=1)
    (server.root / "state").symlink_to(victim)
    os.lchown(server.root / "state", 4711, 0)
    for arguments in ((), ("--no-strict",)):
        ended = server.run(*arguments)
        assert ended.returncode == (Exit.CANNOT_CREATE if arguments else Exit.CONFIG)
        assert "symbolic link" in ended.stderr
        assert victim.stat().st_uid == 0


@pytest.mark.parametrize("beside", ["", "-wal", "-shm", ".lock"])
@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
def test_the_database_and_the_files_beside_it(tmp_path: Path, precious: Path, kind: str, beside: str) -> None:
    path = tmp_path / "chatd.db"
    open_tables(path, create=True).close()
    (tmp_path / f"chatd.db{beside}").unlink(missing_ok=True)
    plant(tmp_path / f"chatd.db{beside}", precious, kind)
    with pytest.raises(BootError, match=r"is a symbolic link|has 2 names \(hard links\)"):
        open_tables(path, create=True)
    assert unharmed(precious)


def test_a_directory_that_is_swapped_for_a_link_between_the_check_and_the_use(tmp_path: Path) -> None:
    """What is opened is a directory that was not reached through somebody's link."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    descriptor = safe_files.open_directory(mine)
    mine.rmdir()
    mine.symlink_to(theirs)
    try:
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    assert theirs.stat().st_mode & 0o777 == 0o755
