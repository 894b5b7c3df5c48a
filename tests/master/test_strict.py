"""A server whose files another user of the host could change does not start, and says what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.config import load as config_load
from chatd.config import strict
from chatd.errors import Exit
from tests.harness.redis import Certificates
from tests.master.conftest import Server, open_way

Make = Callable[..., Server]
KEY = "a key of thirty-two characters, at least"


def complaints(server: Server, *arguments: str) -> list[str]:
    """Paths that are complained of, in order. The last line says how to start nevertheless."""
    ended = server.run(*arguments)
    assert ended.returncode == Exit.CONFIG, ended
    *lines, last = ended.stderr.splitlines()
    assert "--no-strict" in last
    assert all(line.startswith("chatd: /") and "; run: ch" in line for line in lines)
    return [line.removeprefix("chatd: ").partition(":")[0] for line in lines]


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_made(make: Make, tmp_path: Path) -> None:
    open_way(tmp_path)
    key = tmp_path / "bus.key"
    key.write_text(KEY)
    key.chmod(0o644)
    server = make(tables=f'[bus]\nkeys = ["file:{key}"]')
    server.root.chmod(0o755)
    server.file.chmod(0o666)
    (server.root / "state").mkdir(mode=0o750)
    database = server.root / "state/chatd.db"
    database.touch(mode=0o600)
    database.chmod(0o646)
    (server.root / "state").chmod(0o777)
    wrong = [str(path) for path in (server.file, key, server.root / "state", database)]
    for arguments in (["-t"], ["-T"], []):
        assert complaints(server, *arguments) == [*wrong, str(database)]
    assert not (server.root / "run").exists()
    assert server.run("-t", "--no-strict").returncode == Exit.OK


def test_it_starts_when_that_is_mended_as_the_lines_say(make: Make, tmp_path: Path) -> None:
    open_way(tmp_path)
    server = make(workers=1)
    server.root.chmod(0o777)
    server.file.chmod(0o666)
    told = server.run("-t").stderr
    commands = [line.partition("; run: ")[2] for line in told.splitlines() if "; run: " in line]
    assert commands == [f"chmod o-w {server.root}", f"chmod o-w {server.file}"]
    for command in commands:
        assert os.system(command) == 0
    server.start()


def test_a_container_may_start_nevertheless(make: Make, tmp_path: Path) -> None:
    server = make(workers=1)
    server.file.chmod(0o666)
    assert complaints(server) == [str(server.file)]
    server.start("--no-strict")


VALID = "the configuration is valid"


@pytest.mark.parametrize(
    ("tables", "mended"),
    [
        ('[store]\nurl = "mysql://chatd:hush@127.0.0.1:1/chatd"', VALID),
        ('[bus]\nurl = "redis://:hush@127.0.0.1:1"\ninsecure_unsigned = true', VALID),
        (f'[bus]\nkeys = ["{KEY}"]', VALID),
        (
            '[[hook]]\nname = "echo"\noptions = {password = "hush"}',
            "cannot load echo: ValueError: unknown option: password",
        ),
    ],
)
def test_a_configuration_with_a_secret_in_it_is_for_us_alone(
    make: Make, tmp_path: Path, tables: str, mended: str
) -> None:
    """mended: what is said last when the mode is right."""
    open_way(tmp_path)
    server = make(tables=tables)
    server.root.chmod(0o755)
    server.file.chmod(0o644)
    assert complaints(server, "-t") == [str(server.file)]
    server.file.chmod(0o600)
    assert server.run("-t").stderr.strip().endswith(mended)


@pytest.mark.parametrize("pair", ['{certificate = "tls.pem", key = "tls.key"}', '{certificate = "tls.key"}'])
def test_a_key_of_a_listener_is_for_us_alone_and_its_certificate_is_not_for_others_to_write(
    make: Make, tmp_path: Path, pair: str
) -> None:
    open_way(tmp_path)
    server = make()
    server.root.chmod(0o755)
    server.listen = f'[[listen]]\nprotocol = "mobileimsdk"\naddress = "tls://127.0.0.1:0"\ncertificates = [{pair}]\n'
    server.write()
    made = Certificates.make(server.root)
    text = made.key.read_text() + made.certificate.read_text()
    for name in ("tls.pem", "tls.key"):
        (server.root / name).write_text(text)
        (server.root / name).chmod(0o644)
    loaded = config_load.load(server.file)
    assert [line.partition(":")[0] for line in strict.problems(loaded)] == [f"{server.root}/tls.key"]
    (server.root / "tls.key").chmod(0o600)
    assert strict.problems(loaded) == ()
    (server.root / "tls.pem").chmod(0o646)
    assert bool(strict.problems(loaded)) == ("tls.pem" in pair)


def test_a_configuration_without_a_secret_may_be_read_by_everybody(make: Make, tmp_path: Path) -> None:
    open_way(tmp_path)
    key = tmp_path / "bus.key"
    key.write_text(KEY)
    key.chmod(0o600)
    server = make(tables=f'[bus]\nkeys = ["file:{key}"]')
    server.root.chmod(0o755)
    server.file.chmod(0o644)
    assert server.run("-t").returncode == Exit.OK


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_of_the_user_the_server_becomes_are_its_own(make: Make, tmp_path: Path) -> None:
    open_way(tmp_path)
    server = make(server='user = "nobody"', workers=1).start()
    assert server.ctl("stop").returncode == Exit.OK
    assert server.wait() == Exit.OK
    assert (server.root / "state").stat().st_uid != 0
    assert server.run("-t").returncode == Exit.OK
    server.head = server.head.replace('user = "nobody"', "")
    server.write()
    assert complaints(server, "-t")[:1] == [f"{server.root}/state"]
