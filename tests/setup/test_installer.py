"""`chatd-setup` into a directory: what it puts there, again and again, and that nothing is left of it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chatd.errors import Exit
from chatd.setup import __main__ as command

Tree = dict[str, tuple[int, bytes]]
"""Of each path: its mode, and the content of a file or the target of a link."""


def tree(root: Path) -> Tree:
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        content = bytes(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (mode, content)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with nothing but a list of accounts, in which chatd has one: creating it is tested in a container."""
    (tmp_path / "root" / "etc" / "logrotate.d").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "passwd").write_text(
        f"root:x:0:0::/root:/bin/sh\nchatd:x:{os.getuid()}:{os.getgid()}::/var/lib/chatd:/usr/sbin/nologin\n"
    )
    return tmp_path / "root"


def setup(root: Path, *arguments: str) -> int:
    return command.main([*arguments, "--root", str(root)])


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What was said last, by path: what happened to it."""
    lines = [line for line in capsys.readouterr().out.splitlines() if " /" in line]
    return {line[line.index(" /") :].split()[0]: line[: line.index(" /")].strip() for line in lines}


def test_everything_that_a_host_needs_is_put_in_place(root: Path) -> None:
    assert setup(root, "install") == Exit.OK
    for name in ("chatd", "chatctl", "chat", "chatd-setup"):
        assert (root / "usr/local/bin" / name).readlink() == Path(sys.prefix, "bin", name)
        assert "complete -" in (root / "usr/local/share/bash-completion/completions" / name).read_text()
        assert f"#compdef {name}" in (root / f"usr/local/share/zsh/site-functions/_{name}").read_text()
        assert f"complete -c {name}" in (root / f"usr/local/share/fish/vendor_completions.d/{name}.fish").read_text()
    for page in ("man1/chat.1", "man5/chatd.toml.5", "man8/chatd.8", "man8/chatctl.8", "man8/chatd-setup.8"):
        assert (root / "usr/local/share/man" / page).read_text().startswith(".")
    unit = (root / "etc/systemd/system/chatd.service").read_text()
    assert "ExecStart=/usr/local/bin/chatd -c /etc/chatd/chatd.toml" in unit
    assert "/usr/bin/chat" not in unit
    assert "chatd" in (root / "etc/sysusers.d/chatd.conf").read_text()
    assert "/var/log/chatd" in (root / "etc/logrotate.d/chatd").read_text()
    assert (root / "usr/local/share/doc/chatd/examples/nginx/chatd-stream.conf").is_file()
    for name in ("var/lib/chatd", "var/log/chatd"):
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o750
    assert setup(root, "check") == Exit.OK


def test_the_installed_configuration_is_valid_and_closed_to_other_hosts(root: Path) -> None:
    setup(root, "install")
    file = root / "etc/chatd/chatd.toml"
    file.write_text(file.read_text().replace('user = "chatd"', ""))  # this machine has no such account
    dumped = subprocess.run(
        [sys.executable, "-m", "chatd", "-c", file, "-T", "--no-strict", "--allow-root"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    addresses = [line for line in dumped.stdout.splitlines() if line.startswith("address = ")]
    addresses.remove('address = ""  # default')  # of [metrics]
    assert len(addresses) == 3
    assert all("://127.0.0.1:" in line for line in addresses)
    assert 'registration = "closed"' in dumped.stdout
    assert "require_tls = true" in dumped.stdout
    assert "warning" not in dumped.stderr


def test_without_logrotate_chatd_rotates_its_logs_itself(root: Path) -> None:
    (root / "etc/logrotate.d").rmdir()
    setup(root, "install")
    assert not (root / "etc/logrotate.d").exists()
    text = (root / "etc/chatd/chatd.toml").read_text()
    assert "rotate_bytes" not in text
    assert text.endswith("require_tls = true\n")


def test_installing_again_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(root, "install")
    before = tree(root)
    told(capsys)
    assert setup(root, "install") == Exit.OK
    assert set(told(capsys).values()) == {"unchanged"}
    assert tree(root) == before


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_dry_run_says_the_same_and_changes_nothing(root: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    if verb == "uninstall":
        setup(root, "install")
    before = tree(root)
    told(capsys)
    assert setup(root, verb, "--dry-run") == Exit.OK
    announced = {path: what.removeprefix("would be ") for path, what in told(capsys).items()}
    assert tree(root) == before
    assert setup(root, verb) == Exit.OK
    done = told(capsys)
    assert announced.items() <= done.items()
    assert len(announced) > 30


def test_nothing_is_left_after_removing_it(root: Path) -> None:
    before = tree(root)
    setup(root, "install")
    (root / "var/lib/chatd/chatd.db").write_text("messages")
    assert setup(root, "uninstall") == Exit.OK
    left = tree(root)
    assert left.pop("var/lib/chatd/chatd.db")[1] == b"messages"
    assert left.items() - before.items() == {(name, left[name]) for name in STAYS if name in left}
    assert setup(root, "install") == Exit.OK
    assert setup(root, "uninstall", "--purge") == Exit.OK
    assert {name for name in tree(root).keys() - before.keys() if "chatd" in name} == set()


STAYS = ("var", "var/lib", "var/log", "var/lib/chatd", "var/log/chatd", "etc/chatd")


def test_what_the_operator_edited_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(root, "install")
    file, unit = root / "etc/chatd/chatd.toml", root / "etc/systemd/system/chatd.service"
    file.write_text("# mine\n")
    unit.write_text("# mine, too\n")
    assert setup(root, "install") == Exit.OK
    assert told(capsys)["/etc/chatd/chatd.toml"] == "kept"
    assert file.read_text() == "# mine\n"
    assert setup(root, "check") == Exit.OK
    assert told(capsys)["/etc/systemd/system/chatd.service"] == "edited"
    assert setup(root, "uninstall") == Exit.OK
    assert file.read_text() == "# mine\n"
    assert unit.read_text() == "# mine, too\n"


def test_another_version_replaces_its_own_files_and_lays_its_settings_beside_edited_ones(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if another version had installed other texts: they are in the record."""
    setup(root, "install")
    record = root / "usr/local/share/chatd/installed.json"
    page, file = root / "usr/local/share/man/man8/chatd.8", root / "etc/chatd/chatd.toml"
    unit, gone = root / "etc/systemd/system/chatd.service", root / "usr/local/share/man/man8/gone.8"
    text = record.read_text()
    for path in (page, file, unit, gone):
        new = path.read_bytes() if path.exists() else b""
        path.write_text("of the version before\n")
        text = (
            text.replace(fingerprint(new), fingerprint(path.read_bytes()))
            if new
            else text.replace(
                '"fingerprints": {',
                f'"fingerprints": {{"/{path.relative_to(root)}": "{fingerprint(path.read_bytes())}",',
            )
        )
    record.write_text(text)
    file.write_text("# mine\n")
    told(capsys)
    assert setup(root, "install") == Exit.OK
    said = told(capsys)
    assert said["/usr/local/share/man/man8/chatd.8"] == "replaced"
    assert said["/etc/systemd/system/chatd.service"] == "replaced"
    assert said["/usr/local/share/man/man8/gone.8"] == "removed"
    assert not gone.exists()
    assert file.read_text() == "# mine\n"
    assert "registration" in (root / "etc/chatd/chatd.toml.new").read_text()
    assert setup(root, "check") == Exit.OK


def fingerprint(content: bytes) -> str:
    return subprocess.run(["sha256sum"], input=content, capture_output=True, check=True).stdout.split()[0].decode()


def test_a_file_of_somebody_else_is_not_replaced(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/chat").write_text("another program")
    before = tree(root)
    assert setup(root, "install") == Exit.CANNOT_CREATE
    assert "/usr/local/bin/chat: exists" in capsys.readouterr().err
    assert tree(root) == before


def test_beside_the_package_nothing_is_installed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = root / "usr/lib/systemd/system/chatd.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("")
    before = tree(root)
    assert setup(root, "install") == Exit.TRY_AGAIN
    assert "a package has installed chatd here" in capsys.readouterr().err
    assert tree(root) == before


def test_check_tells_what_is_missing_changed_or_open(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup(root, "check") == command.WRONG
    assert set(told(capsys).values()) == {"missing"}
    setup(root, "install")
    (root / "usr/local/bin/chatctl").unlink()
    (root / "usr/local/share/man/man1/chat.1").write_text("changed")
    (root / "var/lib/chatd").chmod(0o777)
    told(capsys)
    assert setup(root, "check") == command.WRONG
    said = told(capsys)
    assert said["/usr/local/bin/chatctl"] == "missing"
    assert said["/usr/local/share/man/man1/chat.1"] == "changed"
    assert said["/var/lib/chatd"] == "wrong"
    assert sum(what not in ("good", "edited") for what in said.values()) == 3


def test_nothing_is_removed_where_nothing_was_installed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup(root, "uninstall") == Exit.CANNOT_CREATE
    assert "nothing was installed here" in capsys.readouterr().err


def test_fail2ban_gets_a_filter_and_a_jail_that_is_off(root: Path) -> None:
    (root / "etc/fail2ban/jail.d").mkdir(parents=True)
    setup(root, "install")
    assert (root / "etc/fail2ban/filter.d/chatd.conf").is_file()
    jail = (root / "etc/fail2ban/jail.d/chatd.conf").read_text()
    assert "enabled = false" in jail
    assert "enabled = true" not in jail


@pytest.mark.parametrize("arguments", [("install", "--prefix", "usr"), ("install", "--root", "/nonexistent")])
def test_wrong_directories_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert command.main(list(arguments)) == Exit.USAGE
