"""The real fail2ban reads what a real daemon wrote under attack, and blocks the attacker and nobody else."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd import log, security_log
from chatd.config.schema import LogOptions
from chatd.errors import ErrorCode
from chatd.security_log import EVENTS, SecurityEvent
from tests.harness.daemon import TOP, Daemon
from tests.harness.deadline import run, wait_until
from tests.trail.visitors import attempt, guess, register

Make = Callable[..., Daemon]
SHIPPED = TOP / "etc" / "fail2ban"
FILTER = SHIPPED / "filter.d" / "chatd.conf"
SYSTEM = Path("/etc/fail2ban")
ATTACKER, NEIGHBOUR, VICTIM = "127.0.0.2", "127.0.0.3", "127.0.0.66"
MAX_RETRY = 5


def found(lines: Path, mode: str = "normal") -> list[str]:
    """The addresses that fail2ban-regex finds in a file, once per line."""
    command = ["fail2ban-regex", "-o", "found <ip> at <time>", str(lines), f"{FILTER}[mode={mode}]"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, 1), ended.stderr  # 1: nothing found
    assert "ERROR" not in ended.stderr, ended.stderr
    return [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("found ")]


@pytest.fixture
def put_back() -> Iterator[None]:
    yield
    log.setup(LogOptions(format="text"), "-")


Written = Callable[[], Path]


@pytest.fixture(params=["json", "text", "journal", "syslog"])
def written(
    request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str], put_back: None
) -> Written:
    """Records written from now on, as fail2ban gets them: each form in which they may come."""
    form = "text" if request.param == "text" else "json"
    log.setup(LogOptions(format=form), "-", worker=3)
    prefix = {"journal": "chat1 chatd[812]: ", "syslog": "Nov  6 09:10:11 chat1 chatd[812]: "}.get(request.param, "")

    def lines() -> Path:
        path = tmp_path / "lines"
        path.write_text("".join(f"{prefix}{line}\n" for line in capfd.readouterr().err.splitlines()))
        return path

    return lines


def failed(peer: str, **fields: Any) -> None:
    given = {"reason": "wrong_password", "wire": "mobileimsdk", "name": "alice", "user": 1} | fields
    security_log.record(SecurityEvent.LOGIN_FAILED, peer=peer, **given)


def test_ipv4_and_ipv6_are_found_in_every_form(written: Written) -> None:
    failed("192.0.2.1:5000")
    failed("[2001:db8::1]:5000", reason="unknown_user")
    failed("[2001:db8:1:2:3:4:5:6]:5000")
    changed = SecurityEvent.PASSWORD_CHANGE_FAILED
    security_log.record(changed, peer="192.0.2.2:5000", reason="wrong_password", wire="mobileimsdk")
    assert found(written()) == ["192.0.2.1", "2001:db8::1", "2001:db8:1:2:3:4:5:6", "192.0.2.2"]


def test_what_a_stranger_can_forge_or_what_is_no_guess_is_not_found(written: Written) -> None:
    failed("192.0.2.1:5000", forgeable=True)
    failed("unix")
    for event, reason in (
        (SecurityEvent.LOGIN, ""),
        (SecurityEvent.LOGIN_REFUSED, "busy"),
        (SecurityEvent.LOGIN_REFUSED, "too_many_attempts"),
        (SecurityEvent.PASSWORD_CHANGE_FAILED, "password_not_allowed"),
        (SecurityEvent.REGISTRATION_REFUSED, "name_taken"),
        (SecurityEvent.CONNECTION_REFUSED, "origin"),
    ):
        security_log.record(event, peer="192.0.2.2:5000", reason=reason, name="x")
    log.get().warning("records held back", record="login failed", client="192.0.2.3", times=9)
    path = written()
    assert found(path) == []
    assert found(path, "aggressive") == ["192.0.2.2"]  # too_many_attempts


def test_the_aggressive_mode_also_finds_who_goes_on_while_refused(written: Written) -> None:
    for event, reason in (
        (SecurityEvent.LOGIN_REFUSED, "too_many_attempts"),
        (SecurityEvent.REGISTRATION_REFUSED, "registration_closed"),
        (SecurityEvent.CONNECTION_REFUSED, "connections_per_source"),
        (SecurityEvent.CLAIMED_IDENTITY, ""),
    ):
        security_log.record(event, peer="192.0.2.2:5000", reason=reason, name="x", user=4)
        security_log.record(event, peer="192.0.2.3:5000", reason=reason, name="x", user=4, forgeable=True)
    path = written()
    assert found(path, "aggressive") == ["192.0.2.2"] * 4
    assert found(path) == []


RECORD = (
    '{"time":"2026-11-26T21:10:00.123Z","level":"WARNING","pid":1,"worker":0,"event":"login failed",'
    f'"security":"login_failed","source":"{VICTIM}","reason":"wrong_password"}}'
)
TEXT = (
    f"[WARNING][2026-11-26T21:10:00.123Z][1] login failed security=login_failed source={VICTIM} reason=wrong_password "
)
HOSTILE = [
    f'x","source":"{VICTIM}","reason":"wrong_password"',
    f'"source":"{VICTIM}"',
    f" source={VICTIM} reason=wrong_password ",
    RECORD, f"\n{RECORD}\n", f"\r{RECORD}\r", f"\u2028{RECORD}", f"\x85{RECORD}", f"\0{RECORD}",
    TEXT, f"\n{TEXT}\n", f"\r\n{TEXT}", f"\x0b{TEXT}\x0c", f"\x1c{TEXT}\x1e",
    f"chat1 chatd[812]: {RECORD}", f"'{TEXT}'", "\\", f'\\",{RECORD}', "\ud800" + RECORD, "é" * 199 + '"',
]  # fmt: skip
"""Names that contain what the filter looks for."""


def test_a_name_cannot_block_somebody_else(written: Written) -> None:
    for number, name in enumerate(HOSTILE):
        failed(f"198.51.100.{number}:1", name=name)
    log.get().warning("connection failed", peer="192.0.2.9:1", why=RECORD, hold=None)
    try:
        raise ValueError(f"{TEXT}\n{TEXT}\n{RECORD}")
    except ValueError:
        log.get().exception("unexpected exception while serving a command", name=f"\n{TEXT}")
    path = written()
    for mode in ("normal", "aggressive"):
        assert found(path, mode) == [f"198.51.100.{number}" for number in range(len(HOSTILE))]


def test_what_the_filter_names_exists() -> None:
    """A misspelt event or reason would match nothing, unnoticed."""
    text = FILTER.read_text()
    events = set("|".join(re.findall(r'security(?:=|":")(?:\(\?:)?([a-z_|]+)', text)).split("|"))
    assert {"login_failed", "login_refused", "claimed_identity"} <= events <= {str(event) for event in SecurityEvent}
    assert all(EVENTS[SecurityEvent(event)].level == "warning" for event in events)
    (refused,) = re.findall(r"_why = \(\?:([a-z_|]+)\)", text)
    sources = "".join(path.read_text() for path in (TOP / "chatd" / "net").rglob("*.py"))
    codes = {code.name.lower() for code in ErrorCode}
    assert [why for why in refused.split("|") if why not in codes and f'"{why}"' not in sources] == []


# ---------------------------------------------------------------- a jail, and a daemon under attack


class Jail:
    """fail2ban with the shipped filter and jail, and an action that writes down whom it bans."""

    def __init__(self, root: Path, log_file: Path) -> None:
        self.root = root
        self.banned_file = root / "banned"
        config = root / "config"
        shutil.copytree(SYSTEM, config)
        for left in (config / "jail.d").iterdir():
            left.unlink()
        shutil.copy(FILTER, config / "filter.d")
        shutil.copy(SHIPPED / "jail.d" / "chatd.conf", config / "jail.d")
        (config / "action.d" / "writes.conf").write_text(
            f"[Definition]\nactionban = echo <ip> >> {self.banned_file}\nactionunban =\n"
        )
        (config / "jail.local").write_text(
            f"[chatd]\nlogpath = {log_file}\naction = writes\nignoreself = false\nignoreip =\nbackend = polling\n"
        )
        (config / "fail2ban.local").write_text(
            f"[DEFAULT]\nlogtarget = {root / 'fail2ban.log'}\ndbfile = :memory:\nsyslogsocket = auto\n"
        )
        self.options = ["-c", str(config), "-s", str(root / "socket"), "-p", str(root / "pid")]
        self.process: subprocess.Popen[bytes] | None = None

    def client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["fail2ban-client", *self.options, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["fail2ban-server", *self.options, "-f", "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(30, "fail2ban serves", lambda: self.client("status", "chatd").returncode == 0, 0.2)

    def banned(self) -> list[str]:
        return self.banned_file.read_text().split() if self.banned_file.exists() else []

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)


def test_the_jail_is_valid(tmp_path: Path) -> None:
    (tmp_path / "normal.log").touch()
    jail = Jail(tmp_path, tmp_path / "normal.log")
    checked = jail.client("-t")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    orders = jail.client("-d").stdout
    assert f"['set', 'chatd', 'maxretry', {MAX_RETRY}]" in orders
    assert "_SYSTEMD_UNIT=chatd.service" in FILTER.read_text()
    assert orders.count("login_failed") == 2
    assert log.CLIENT_LIMITS.per_source >= MAX_RETRY


def test_an_attacker_is_blocked_and_its_neighbours_are_not(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(workers=2, penalties={"allow": ["127.0.0.0/8"]}).start()
    jail = Jail(tmp_path, daemon.root / "log" / "normal.log")
    jail.start()

    async def attack() -> None:
        assert await register(daemon, "alice", "open-Sesame-1") == 0
        for name in HOSTILE[:8]:
            assert await attempt(daemon, "chatserver", name, "wrong", "127.0.0.70") != 0
        for _ in range(MAX_RETRY - 1):
            await attempt(daemon, "mobileimsdk", "alice", "wrong", NEIGHBOUR)
        await guess(daemon, VICTIM, 20, "mobileimsdk-udp")  # forged, for all that the server knows
        await guess(daemon, ATTACKER, 40)

    try:
        run(attack(), 60)
        wait_until(20, "the attacker is blocked", lambda: ATTACKER in jail.banned(), 0.2)
        assert set(jail.banned()) <= {ATTACKER, "127.0.0.70"}
        assert VICTIM not in jail.banned()
        assert NEIGHBOUR not in jail.banned()
    finally:
        jail.stop()


def test_every_record_of_an_attack_is_found(make_daemon: Make) -> None:
    """With the fields that a real daemon writes, in its order."""
    daemon = make_daemon(penalties={"allow": ["127.0.0.0/8"]}).start()

    async def attack() -> None:
        for wire, source in (
            ("chatserver", "127.0.0.4"),
            ("mobileimsdk", "127.0.0.5"),
            ("mobileimsdk-ws", "127.0.0.6"),
        ):
            for name in HOSTILE[:3]:
                assert await attempt(daemon, wire, name, "wrong", source) != 0

    run(attack(), 60)
    path = daemon.root / "log" / "normal.log"
    assert found(path) == ["127.0.0.4"] * 3 + ["127.0.0.5"] * 3 + ["127.0.0.6"] * 3
    failed = [json.loads(line) for line in path.read_text().splitlines() if "login_failed" in line]
    assert len(failed) == 9
