"""`chatd-setup`: puts chatd in its place on a host without the Debian package, and removes it.

Owns: the command line, the checks before anything is changed, the order of the steps, and what to do next.
Elsewhere: the steps (installer, account), what is installed (plan).
Fails: exit codes of sysexits; `check` has 1 if something is missing or wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from chatd import __version__, completion
from chatd.arguments import Parser
from chatd.errors import BootError, ConfigError, Exit
from chatd.setup import account, plan, record
from chatd.setup.installer import Installer
from chatd.setup.place import CONFIGURATION, PACKAGED_UNITS, Place

WRONG = 1
"""Exit code of `check` if something is missing or wrong."""
HIDDEN_BY_THE_UNIT = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))
"""Directories that the unit hides from the server (ProtectHome, PrivateTmp)."""
LIMIT_S = 90
"""Most that systemctl may take."""
NEXT = """\
installed. Next:
  chatd -t                              test {configuration}
  systemctl enable --now chatd          start it, now and at boot
  chatctl user add NAME                 create the first account"""
UPGRADED = """\
installed. A server that runs has its old code until `chatctl upgrade`: sessions over plain TCP, UDP and WebSocket
move to the new code, TLS sessions reconnect"""


def parser() -> argparse.ArgumentParser:
    """The whole command line; also the source of its manual page and completions."""
    made = Parser(
        prog="chatd-setup", description="Install chatd on this host, or remove it; for hosts without the package."
    )
    made.add_argument("--version", action="version", version=f"chatd-setup {__version__}")
    completion.add_option(made)
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def verb(name: str, text: str, example: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=f"example: {example}")
        folder = one.add_argument("--root", metavar="DIR", default="/", help="directory that stands for / (default: /)")
        folder.complete = completion.FOLDER  # type: ignore[attr-defined]
        text = "where commands, manual pages and completions go (default: %(default)s)"
        folder = one.add_argument("--prefix", metavar="DIR", default="/usr/local", help=text)
        folder.complete = completion.FOLDER  # type: ignore[attr-defined]
        return one

    dry = "print the steps and change nothing"
    text = "put the account, unit, configuration, manual pages, completions and links to the commands in place"
    verb("install", text, "chatd-setup install --dry-run").add_argument("--dry-run", action="store_true", help=dry)
    gone = verb("uninstall", "remove what install put in place; data and edited files stay", "chatd-setup uninstall")
    gone.add_argument("--dry-run", action="store_true", help=dry)
    text = "also remove the configuration, the messages and the logs"
    gone.add_argument("--purge", action="store_true", help=text)
    verb("check", "show what is missing, edited or wrong; exit code 0 = good, 1 = not", "chatd-setup check")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, and return its exit code. arguments: None = those of this process."""
    options = parser().parse_args(arguments)
    place = Place(
        root=Path(options.root).absolute(),
        prefix=Path(options.prefix),
        commands=Path(sys.prefix) / "bin",
    )
    try:
        return _run(options, place)
    except (BootError, ConfigError) as error:
        _note(str(error))
        return error.exit_code if isinstance(error, BootError) else Exit.CONFIG
    except PermissionError as error:
        _note(f"permission denied: {error.filename or error}")
        return Exit.PERMISSION
    except OSError as error:
        _note(f"{error.filename}: {error.strerror}")
        return Exit.CANNOT_CREATE


def _run(options: argparse.Namespace, place: Place) -> int:
    dry_run = options.verb != "check" and options.dry_run
    _check_place(place, changes=options.verb != "check" and not dry_run)
    installer = Installer(
        place=place,
        items=plan.items(place, {"chatd-setup": parser}),
        directories=plan.DIRECTORIES,
        known=record.read(place.below(place.record)),
        say=_say_would if dry_run else _say,
        dry_run=dry_run,
    )
    if options.verb == "check":
        return _check(installer)
    if options.verb == "install":
        _install(installer)
    else:
        _uninstall(installer, purge=options.purge)
    return Exit.OK


def _check_place(place: Place, *, changes: bool) -> None:
    """Raises: BootError."""
    if not place.prefix.is_absolute():
        raise BootError(f"--prefix {place.prefix}: must begin with /", Exit.USAGE)
    if not place.root.is_dir():
        raise BootError(f"--root {place.root}: not a directory", Exit.USAGE)
    packaged = [one for one in PACKAGED_UNITS if place.below(one).exists()]
    if packaged:
        raise BootError(
            f"{packaged[0]}: a package has installed chatd here; remove it first, or use it instead", Exit.TRY_AGAIN
        )
    if place.is_this_host and changes and os.geteuid() != 0:
        raise BootError(
            "only root can do this; --dry-run shows the steps, --root DIR installs elsewhere", Exit.PERMISSION
        )
    hidden = [one for one in HIDDEN_BY_THE_UNIT if place.commands.is_relative_to(one)]
    if place.is_this_host and changes and hidden:
        raise BootError(
            f"{place.commands}: the service cannot see {hidden[0]} (ProtectHome and PrivateTmp of the unit); make the "
            "virtual environment elsewhere, for example in /opt/chatd",
            Exit.CONFIG,
        )


def _install(installer: Installer) -> None:
    known = bool(installer.known.version)
    installer.install()
    _make_account(installer)
    installer.make_directories_of_server()
    _systemctl(installer, "daemon-reload")
    if installer.place.is_this_host and not installer.dry_run:
        print(UPGRADED if known else NEXT.format(configuration=CONFIGURATION / "chatd.toml"))


def _make_account(installer: Installer) -> None:
    where = Path("/etc/passwd")
    if account.ids(installer.place) is not None:
        installer.say("unchanged", where, f"account {account.NAME}")
    elif installer.dry_run or account.can_create():
        if not installer.dry_run:
            account.create(installer.place)
        installer.say("created", where, f"account {account.NAME}")
    else:
        _note(f"account {account.NAME}: only root can create it; /etc/sysusers.d/chatd.conf does so at boot")


def _uninstall(installer: Installer, *, purge: bool) -> None:
    if not installer.known.version:
        raise BootError(f"{installer.place.record}: does not exist: nothing was installed here", Exit.CANNOT_CREATE)
    _systemctl(installer, "disable", "--now", "chatd.service")
    installer.uninstall(purge=purge)
    _systemctl(installer, "daemon-reload")
    if not installer.dry_run:
        _note(f"the account {account.NAME} stays" + ("" if purge else f"; so do {CONFIGURATION}, messages and logs"))


def _check(installer: Installer) -> int:
    good = installer.check()
    if account.ids(installer.place) is None:
        _say("missing", Path("/etc/passwd"), f"account {account.NAME}; chatd-setup install creates it")
        good = False
    if installer.known.version not in ("", __version__):
        _note(f"installed was version {installer.known.version}, this is {__version__}: run chatd-setup install")
        good = False
    return Exit.OK if good else WRONG


def _systemctl(installer: Installer, *arguments: str) -> None:
    """On a host that systemd runs. A failure is told, and ends nothing: the service may be unknown."""
    if not installer.place.is_this_host or not Path("/run/systemd/system").is_dir():
        return
    command = f"systemctl {' '.join(arguments)}"
    if installer.dry_run:
        print(f"would run        {command}")
        return
    ended = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    print(f"run         {command}" + (f": {ended.stderr.strip()}" if ended.returncode else ""))


def _say(what: str, path: Path, remark: str) -> None:
    print(f"{what:11} {path}{'  ' + remark if remark else ''}")


def _say_would(what: str, path: Path, remark: str) -> None:
    _say(what if what in ("unchanged", "kept", "missing") else f"would be {what}", path, remark)


def _note(text: str) -> None:
    sys.stderr.write(f"chatd-setup: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
