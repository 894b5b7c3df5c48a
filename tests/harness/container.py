"""A booted container: systemd as process 1, on a copy-on-write view of this machine's own file system.

Owns: making the root (an overlay of `/`, so nothing is downloaded and nothing of this machine changes), booting it with
systemd-nspawn in a network namespace of its own, running commands in it, waiting for the states of units, its journal,
and the end of it all.
Elsewhere: the network (network), what is installed in it (tests/systemd/conftest.py and whoever boots one).
Fails: ContainerError with the end of the console or of the command's output; also when not root.

    with Network(hosts=1) as network, Container(network.hosts[0]) as container:
        container.run("systemctl", "start", "chatd.service")
        container.wait_active("chatd.service")

The overlay exists in the mount namespace of systemd-nspawn alone, and systemd-nspawn is the first process of a pid
namespace, so the kernel ends it and everything in the container with the test run. A run that was killed leaves only
empty cgroups, a small directory and a network namespace behind; the next run removes them.

chatd and its dependencies are those of this checkout, bound read-only: /opt/chatd is a virtual environment, in which
/opt/chatd/bin/python finds them, and /usr/bin/chatd, chatctl and chat are its scripts. With `bare=True` there is no
chatd at all, for tests that install a package.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.harness.deadline import wait_until
from tests.harness.network import Host

TOP = Path(__file__).resolve().parents[2]
BOOT_S = 60.0
"""A boot takes a second or two; on a loaded machine several."""
COMMAND_S = 60.0
STEP_S = 0.2
"""Between two looks at the state of a unit, each of which is a process or two."""
TARGET = "container.target"
"""What is booted: the basics of a system, and none of the services that this machine has enabled."""
PYTHON, DEPENDENCIES, SOURCE, VENV = "/opt/python", "/opt/dependencies", "/opt/source", "/opt/chatd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FOLDER = "chatd-container-"
CGROUPS = Path("/sys/fs/cgroup")
_starter = ThreadPoolExecutor(1, "container-starter")
"""The kernel ends a container with the thread that started it: this one ends with the test run."""

_MAKE_ROOT = """
set -e
mount -t tmpfs -o size=4g,mode=0755 chatd-test "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" chatd-test "$1/root"
cd "$1/root"
# Nothing that this machine has enabled, and nothing that it keeps, is the container's.
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires var/log/journal run/* etc/fstab
cp -r --no-preserve=ownership "$2/." .
# A Python with a shared library looks for it where it was installed, perhaps in a home that the service must not see.
for library in "$3"/lib/libpython*.so*; do
    [ ! -e "$library" ] || cp -P "$library" usr/local/lib/
done
ldconfig -r .
shift 3
exec "$@"
"""
"""$1: a directory for the root, $2: files to put into it, $3: where Python is; then the command that boots it."""


class ContainerError(AssertionError):
    pass


class Container:
    """host: the network namespace it lives in; `host.address` is where clients of the test reach it. bare: without the
    chatd of this checkout. binds: further directories, outside -> inside, read-only."""

    def __init__(self, host: Host, *, bare: bool = False, binds: Mapping[str, str] | None = None) -> None:
        if os.geteuid() != 0:
            raise ContainerError("these tests boot a container: run them as root")
        if shutil.which("systemd-nspawn") is None:
            raise ContainerError("systemd-nspawn is missing: make tools")
        self.host = host
        self.address = host.address
        self.name = f"chatd-test-{os.getpid()}-{secrets.token_hex(3)}"
        self.leader = 0
        """Process 1 of the container, as this machine numbers it."""
        self._bare, self._binds = bare, dict(binds or {})
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
        self._console = self._folder / "console.txt"
        self._process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------ its life

    def __enter__(self) -> Container:
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def boot(self) -> None:
        """Returns when its systemd has reached TARGET."""
        clear_left_behind()
        files = self._folder / "files"
        self._write_files(files)
        (self._folder / "mount").mkdir()
        command = [
            "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private",
            "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--",
            "sh", "-c", _MAKE_ROOT, "sh", str(self._folder / "mount"), str(files),
            "" if self._bare else sys.base_prefix, *self._nspawn(),
        ]  # fmt: skip
        with self._console.open("wb") as console:
            self._process = _starter.submit(
                subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                preexec_fn=self._enter_cgroups, env={"PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": "warning"},
            ).result()  # fmt: skip
        self.leader = self._wait("its process 1", self._find_leader)
        self._wait("booted", lambda: self.run("systemctl", "is-active", TARGET, check=False).stdout == "active\n")

    def _nspawn(self) -> list[str]:
        root = self._folder / "mount" / "root"
        binds = dict(self._binds)
        if not self._bare:
            binds |= {sys.base_prefix: PYTHON, sysconfig.get_path("purelib"): DEPENDENCIES, str(TOP): SOURCE}
        return [
            "systemd-nspawn", "--quiet", "--boot", f"--directory={root}", f"--machine={self.name}", "--register=no",
            "--keep-unit", "--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            f"--network-namespace-path=/run/netns/{self.host.name}",
            *(f"--bind-ro={outside}:{inside}" for outside, inside in binds.items()),
            f"systemd.unit={TARGET}",
        ]  # fmt: skip

    def _write_files(self, files: Path) -> None:
        """What the root has besides the files of this machine."""
        made = {
            "etc/machine-id": f"{secrets.token_hex(16)}\n",
            "etc/hostname": "container\n",
            "etc/systemd/journald.conf.d/test.conf": "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n",
            f"etc/systemd/system/{TARGET}": (
                "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\nDefaultDependencies=no\n"
            ),
        }
        if not self._bare:
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            made[f"{VENV}/pyvenv.cfg"] = f"home = {PYTHON}/bin\ninclude-system-site-packages = false\n"
            made[f"{VENV}/lib/{version}/site-packages/checkout.pth"] = f"{DEPENDENCIES}\n{SOURCE}\n"
            (files / VENV[1:] / "bin").mkdir(parents=True)
            (files / VENV[1:] / "bin/python").symlink_to(f"{PYTHON}/bin/{version}")
            for command, module in (("chatd", "chatd"), ("chatctl", "chatd.chatctl"), ("chat", "chatd.client")):
                made[f"usr/bin/{command}"] = (
                    f"#!{VENV}/bin/python\nimport sys\nfrom {module}.__main__ import main\nsys.exit(main())\n"
                )
        for name, text in made.items():
            path = files / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)

    def _enter_cgroups(self) -> None:
        """In the child: a cgroup of its own in every hierarchy, which a later run can find and remove."""
        for root in _roots():
            folder = root / self.name
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                (folder / "cgroup.procs").write_text("0")

    def _find_leader(self) -> int:
        process = self._running()
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a step of the boot, over by now
                    if _pids_of(child.pid)[-1] == 1 and Path(f"/proc/{child.pid}/comm").read_text() == "systemd\n":
                        return child.pid
        return 0

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ContainerError(f"the container ended ({self._process.returncode}):\n{self.console()}")
        return self._process

    def _wait(self, what: str, state: Callable[[], Any]) -> Any:
        try:
            return wait_until(BOOT_S, f"the container is {what}", lambda: self._running() and state(), 0.1)
        except TimeoutError as error:
            raise ContainerError(f"{error}\n{self.console()}") from None

    def close(self) -> None:
        """Ends everything in it, and removes what it consisted of."""
        if self._process is not None and self._process.poll() is None:
            if self.leader:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, 9)  # the kernel ends every process of the namespace with it
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)
        _remove_cgroups(self.name)

    def console(self, limit: int = 4000) -> str:
        """The end of what the boot wrote."""
        return self._console.read_text(errors="replace")[-limit:]

    # ------------------------------------------------------------ commands

    def inside(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs a command as root in the container, from outside."""
        variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(env or {})}
        return [
            "nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd=/",
            "setpriv", "--pdeathsig", "KILL", "env", "--ignore-environment", "--chdir=/",
            *(f"{name}={value}" for name, value in variables.items()), *command,
        ]  # fmt: skip

    def run(
        self,
        *command: str,
        check: bool = True,
        input: str = "",
        limit_s: float = COMMAND_S,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. check: raise ContainerError unless it succeeds."""
        self._running()
        try:
            done = subprocess.run(
                self.inside(*command, env=env), input=input, capture_output=True, text=True, timeout=limit_s,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise ContainerError(f"{' '.join(command)}: not within {limit_s:g} s\n{late.output!r}") from None
        if check and done.returncode != 0:
            raise ContainerError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def python(self, program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program with the chatd of this checkout importable."""
        return self.run(f"{VENV}/bin/python", "-c", program, *arguments, **options)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command. It ends with the container at the latest; the caller ends it sooner."""
        self._running()
        return subprocess.Popen(self.inside(*command), text=True, **options)

    # ------------------------------------------------------------ files

    def path(self, inside: str) -> Path:
        """A file of the container as this process can open it. Symbolic links in it lead outside: not for those."""
        return Path(f"/proc/{self.leader}/root", inside.lstrip("/"))

    def write(self, name: str, text: str, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """A file, with the directories that lead to it."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        if owner != "root:root":
            self.run("chown", owner, name)

    def read(self, name: str) -> str:
        return self.path(name).read_text()

    # ------------------------------------------------------------ units

    def systemctl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", "--no-pager", *arguments, **options)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        told = self.systemctl("show", unit, f"--property={','.join(properties)}").stdout
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def state(self, unit: str) -> str:
        """active, activating, reloading, deactivating, inactive, failed."""
        return self.show(unit, "ActiveState")["ActiveState"]

    def wait_state(self, unit: str, *states: str, limit_s: float = 30.0) -> None:
        def reached() -> bool:
            return self.state(unit) in states

        try:
            wait_until(limit_s, f"{unit} is {' or '.join(states)}", reached, STEP_S)
        except TimeoutError as error:
            raise ContainerError(f"{error}, but {self.state(unit)}\n{self.journal_text(unit)}") from None

    def wait_active(self, unit: str, limit_s: float = 30.0) -> None:
        self.wait_state(unit, "active", limit_s=limit_s)

    def main_pid(self, unit: str) -> int:
        """As the container numbers it; 0 = it does not run."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def outside_pid(self, inside: int) -> int:
        """The number that this machine has for a process of the container. Raises ContainerError if there is none."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                if _pids_of(process.pid)[-1] == inside and self._is_ours(process.pid):
                    return process.pid
        raise ContainerError(f"no process {inside} in the container")

    def _is_ours(self, pid: int) -> bool:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.leader}/ns/pid")

    def signal(self, pid: int, name: str) -> None:
        """pid: as the container numbers it. name: KILL, STOP …"""
        self.run("kill", f"-{name}", str(pid))

    # ------------------------------------------------------------ the journal

    def cursor(self) -> str:
        """Now, for journal(since=…)."""
        told = self.run("journalctl", "--quiet", "--lines=1", "--output=json", "--output-fields=MESSAGE").stdout
        return str(json.loads(told)["__CURSOR"]) if told else ""

    def journal(self, unit: str = "", *, since: str = "", options: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Entries, oldest first, with the fields of journald. unit: also what systemd says about it."""
        command = ["journalctl", "--quiet", "--output=json", "--no-pager", "--all", *options]
        command += [f"--unit={unit}"] if unit else []
        command += [f"--after-cursor={since}"] if since else []
        return [json.loads(line) for line in self.run(*command).stdout.splitlines()]

    def journal_text(self, unit: str = "", lines: int = 40) -> str:
        command = ["journalctl", "--quiet", "--no-pager", f"--lines={lines}", "--output=short-monotonic"]
        return self.run(*command, *([f"--unit={unit}"] if unit else [])).stdout


def _pids_of(pid: int) -> list[int]:
    """Its number on this machine, then in each namespace further in."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(number) for number in line.split()[1:]]
    return [pid]


def _roots() -> list[Path]:
    """The root of each hierarchy of cgroups: of version 2, of each of version 1, or of both."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return [folder for folder in CGROUPS.iterdir() if (folder / "cgroup.procs").exists() and not folder.is_symlink()]


def _remove_cgroups(name: str) -> None:
    ends = time.monotonic() + 5
    for root in _roots():
        folders = [Path(folder) for folder, _, _ in os.walk(root / name, topdown=False)]  # another run may remove them
        for folder in folders:
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:  # its last process is about to end
                    if time.monotonic() < ends:
                        time.sleep(0.02)
                        continue
                break


def clear_left_behind() -> None:
    """Of runs that were killed."""
    for root in _roots():
        for folder in root.glob("chatd-test-*"):
            owner = folder.name.removeprefix("chatd-test-").partition("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                _remove_cgroups(folder.name)
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        owner = folder.name.removeprefix(FOLDER).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
