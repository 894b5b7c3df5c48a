"""Everything that chatd-setup puts in place.

Owns: the list, with the place of each file and what is changed in it: the path of the commands.
Elsewhere: the files themselves (chatd/share, in the repository etc/, man/ and systemd/), completions, doing it
(installer).
Fails: FileNotFoundError if the distribution is not complete.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from chatd.setup.completions import COMMANDS, Parsers, completions
from chatd.setup.items import Directory, File, Kind, Link
from chatd.setup.place import CONFIGURATION, LOGS, STATE, SYSTEM_COMMANDS, Place

SHARE = Path(str(resources.files("chatd"))) / "share"
"""Files that come with the Python package."""
UNITS = Path("/etc/systemd/system")
ROTATED_BY_OTHERS = b"[log]\n"
"""The last section of installed.toml, for a host with logrotate. Others are rotated by chatd."""

DIRECTORIES = (
    Directory(path=CONFIGURATION, mode=0o755, of_server=False),
    Directory(path=STATE, mode=0o750, of_server=True),
    Directory(path=LOGS, mode=0o750, of_server=True),
)


def items(place: Place, setup: Parsers) -> list[File | Link]:
    """What is installed at `place`. setup: the parser of chatd-setup itself, by its name."""
    commands = [*COMMANDS, *setup]
    return [
        *_links(place, commands),
        *_settings(place),
        *_fail2ban(place),
        *_manuals(place),
        *(
            File(path=place.prefix / where, content=text.encode())
            for where, text in completions({**COMMANDS, **setup}).items()
        ),
        *_examples(place),
    ]


def _links(place: Place, commands: list[str]) -> list[Link]:
    """None if the commands are where they can be called already."""
    if place.commands == place.bin:
        return []
    return [Link(path=place.bin / name, target=place.commands / name) for name in commands]


def _settings(place: Place) -> list[File]:
    systemd, etc = SHARE / "systemd", SHARE / "etc"
    configuration = (etc / "installed.toml").read_bytes()
    found = [
        File(
            path=UNITS / "chatd.service", content=_with_commands(place, systemd / "chatd.service"), kind=Kind.SETTINGS
        ),
        File(path=UNITS / "chatd.socket", content=_on_this_host(systemd / "chatd.socket"), kind=Kind.SETTINGS),
        _setting(Path("/etc/sysusers.d/chatd.conf"), systemd / "chatd.sysusers"),
        _setting(Path("/etc/tmpfiles.d/chatd.conf"), systemd / "chatd.tmpfiles"),
    ]
    if place.below(Path("/etc/logrotate.d")).is_dir():
        found.append(_setting(Path("/etc/logrotate.d/chatd"), etc / "logrotate" / "chatd"))
    else:
        configuration = configuration.partition(ROTATED_BY_OTHERS)[0].rstrip() + b"\n"
    return [*found, File(path=CONFIGURATION / "chatd.toml", content=configuration, kind=Kind.SETTINGS)]


def _setting(path: Path, source: Path) -> File:
    return File(path=path, content=source.read_bytes(), kind=Kind.SETTINGS)


def _with_commands(place: Place, unit: Path) -> bytes:
    """The unit with the commands where they are at `place`."""
    content = unit.read_bytes()
    for name in COMMANDS:
        content = content.replace(bytes(SYSTEM_COMMANDS / name) + b" ", bytes(place.bin / name) + b" ")
    return content


def _on_this_host(unit: Path) -> bytes:
    """The socket unit with the addresses of installed.toml."""
    return unit.read_bytes().replace(b"=0.0.0.0:", b"=127.0.0.1:")


def _fail2ban(place: Place) -> list[File]:
    """The jail is off: fail2ban does not start if a log that it watches does not exist yet."""
    if not place.below(Path("/etc/fail2ban")).is_dir():
        return []
    return [
        File(path=Path("/etc/fail2ban/filter.d/chatd.conf"), content=_fail2ban_file("filter.d"), kind=Kind.SETTINGS),
        File(
            path=Path("/etc/fail2ban/jail.d/chatd.conf"),
            content=_fail2ban_file("jail.d").replace(b"enabled = true", b"enabled = false"),
            kind=Kind.SETTINGS,
        ),
    ]


def _fail2ban_file(folder: str) -> bytes:
    return (SHARE / "etc" / "fail2ban" / folder / "chatd.conf").read_bytes()


def _manuals(place: Place) -> list[File]:
    pages = sorted((SHARE / "man").glob("*.[1-8]"))
    where = place.prefix / "share" / "man"
    return [File(path=where / f"man{page.suffix[1:]}" / page.name, content=page.read_bytes()) for page in pages]


def _examples(place: Place) -> list[File]:
    where = place.prefix / "share" / "doc" / "chatd" / "examples"
    etc = [path for path in (SHARE / "etc").rglob("*") if path.name != "installed.toml"]
    drop_ins = (SHARE / "systemd" / "chatd.service.d").glob("*.conf")
    found = sorted((path.relative_to(SHARE).parts[1:], path) for path in (*etc, *drop_ins) if path.is_file())
    return [File(path=where.joinpath(*name), content=path.read_bytes()) for name, path in found]
