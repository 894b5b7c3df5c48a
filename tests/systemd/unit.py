"""chatd.service in a container: installed from systemd/, configured, watched.

Owns: where the files go, the configuration, and putting everything back.
Elsewhere: the container (harness.container).
Fails: ContainerError.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatd.chatctl.control_client import ControlClient, ServerUnreachable
from tests.harness.container import Container
from tests.harness.daemon import toml
from tests.harness.deadline import wait_until

TOP = Path(__file__).resolve().parents[2]
UNITS = TOP / "systemd"
UNIT, SOCKET = "chatd.service", "chatd.socket"
CONFIG = "/etc/chatd/chatd.toml"
PORTS = {"echo": 6001, "chatserver": 6000, "mobileimsdk": 8901, "mobileimsdk-udp": 8902, "mobileimsdk-ws": 3000}
STEP_S = 0.2
"""Between two looks at systemd, each of which is a process or two."""
ANSWER_S = 15.0
TRANSPORTS = {"mobileimsdk-udp": "udp://0.0.0.0:{}", "mobileimsdk-ws": "ws://0.0.0.0:{}/websocket"}


class Service:
    def __init__(self, container: Container) -> None:
        self.container = container
        self.config: dict[str, Any] = {}

    # ------------------------------------------------------------ installing

    def install(self) -> None:
        """As docs/operations.md says. The options of the tests: anybody may register, and hashing is cheap."""
        box = self.container
        box.write("/usr/lib/sysusers.d/chatd.conf", (UNITS / "chatd.sysusers").read_text())
        box.write("/usr/lib/tmpfiles.d/chatd.conf", (UNITS / "chatd.tmpfiles").read_text())
        for unit in (UNIT, SOCKET):
            box.write(f"/etc/systemd/system/{unit}", (UNITS / unit).read_text())
        box.run("systemd-sysusers")
        box.run("systemd-tmpfiles", "--create", "chatd.conf")
        box.systemctl("daemon-reload")
        self.configure()

    def configure(self, workers: int = 2, **tables: Mapping[str, Any]) -> None:
        """tables: merged over the tables of the tests, option by option. Nothing is reloaded."""
        self.config = {
            "server": {"workers": workers, "user": "chatd"},
            "accounts": {
                "argon2_memory_kib": 1024,
                "argon2_passes": 1,
                "registration": "open",
                "min_password_chars": 1,
            },
            "penalties": {"allow": ["10.96.0.0/11", "127.0.0.1"]},
            "timeouts": {"boot_wait_s": 0, "drain_spread_s": 1},
        }
        for name, table in tables.items():
            self.config.setdefault(name, {}).update(table)
        self.config["listen"] = [
            {"protocol": name.split("-")[0], "address": TRANSPORTS.get(name, "tcp://0.0.0.0:{}").format(port)}
            for name, port in PORTS.items()
        ]
        self.write_config(toml(self.config))

    def write_config(self, text: str) -> None:
        self.container.write(CONFIG, text, mode=0o640, owner="root:chatd")

    def drop_in(self, name: str, text: str, unit: str = UNIT) -> None:
        """Settings of the unit for this test."""
        self.container.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text)
        self.container.systemctl("daemon-reload")

    def remove(self) -> None:
        box = self.container
        box.systemctl("stop", SOCKET, UNIT, check=False)
        box.systemctl("kill", "--signal=KILL", UNIT, check=False)
        box.systemctl("reset-failed", SOCKET, UNIT, check=False)
        box.run(
            "rm",
            "-rf",
            *(f"/etc/systemd/system/{unit}.d" for unit in (UNIT, SOCKET)),
            "/etc/chatd",
            "/var/lib/chatd",
            "/var/log/chatd",
            "/run/chatd",
        )
        box.systemctl("daemon-reload")

    # ------------------------------------------------------------ running

    def start(self, limit_s: float = 60.0) -> None:
        """Returns when clients can connect."""
        started = self.container.systemctl("start", UNIT, check=False, limit_s=limit_s)
        assert started.returncode == 0, f"{started.stderr}\n{self.container.journal_text(UNIT)}\n{self.log()}"

    def log(self) -> str:
        return self.container.run("sh", "-c", "tail -n 20 /var/log/chatd/*.log", check=False).stdout

    @property
    def pid(self) -> int:
        """Of the master, as the container numbers it."""
        return self.container.main_pid(UNIT)

    def ctl(self, *arguments: str) -> Any:
        return self.container.run("chatctl", *arguments, check=False)

    def status(self) -> dict[str, Any]:
        """Asked from outside, which is quicker than chatctl inside."""
        client = ControlClient(str(self.container.path("/run/chatd")))
        ends = time.monotonic() + ANSWER_S
        while True:
            try:
                found: dict[str, Any] = json.loads(client.status_json())
            except ServerUnreachable:  # it is being upgraded or restarted, or the machine is busy
                if time.monotonic() > ends:
                    raise
                time.sleep(STEP_S)
            else:
                return found

    def workers(self) -> list[int]:
        return [one["pid"] for one in self.status()["workers"] if one["state"] == "ready"]

    def status_text(self) -> str:
        """STATUS=, as systemd shows it."""
        return self.container.show(UNIT, "StatusText")["StatusText"]

    def wait_status_text(self, text: str, limit_s: float = 30.0) -> str:
        def told() -> str:
            found = self.status_text()
            return found if text in found else ""

        return wait_until(limit_s, f"STATUS has {text!r}, last: {self.status_text()!r}", told, STEP_S)

    def wait_started_again(self, before: int, limit_s: float = 60.0) -> None:
        """systemd has started it again. before: the process that ended."""

        def started() -> bool:
            return self.restarts() > 0 and self.container.state(UNIT) == "active" and self.pid not in (0, before)

        try:
            wait_until(limit_s, "started again", started, STEP_S)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.container.journal_text(UNIT)}\n{self.log()}") from None

    def restarts(self) -> int:
        return int(self.container.show(UNIT, "NRestarts")["NRestarts"])

    def connect(self, name: str = "echo", limit_s: float = 5.0) -> socket.socket:
        made = socket.create_connection((self.container.address, PORTS[name]), limit_s)
        made.settimeout(limit_s)
        return made

    def answers(self) -> bool:
        try:
            with self.connect(limit_s=1.0) as client:
                client.sendall(b"ready?\n")
                return b"ready?" in client.recv(100)
        except OSError:
            return False
