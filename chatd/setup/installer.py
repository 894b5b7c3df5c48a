"""Installing, removing and checking what the plan lists.

Owns: what happens to each file, link and directory, and the line that is printed about it; the record of what was
installed.
Elsewhere: the list (plan), the account (account), the command line (__main__).
Fails: BootError before anything is changed, if somebody else's file is in the way; OSError.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from chatd import __version__
from chatd.errors import BootError, Exit
from chatd.setup import account, record
from chatd.setup.items import Directory, File, Kind, Link, found_fingerprint
from chatd.setup.place import CONFIGURATION, LOGS, STATE, Place

Item = File | Link
NEW = ".new"
"""What is appended to the name of a file whose place is taken by one that was edited."""


class Installer(msgspec.Struct, kw_only=True):
    """Installs, removes or checks `items` and `directories` at `place`, one of them per object.

    Raises: OSError, from every method, for a file that cannot be read or written. What was done before stays done, and
    the same command continues it.
    """

    place: Place
    items: Sequence[Item]
    """Files and links of this version."""
    directories: Sequence[Directory]
    """Those of the server, and of its configuration."""
    known: record.Record
    """What earlier runs have installed; brought up to date and saved by install()."""
    say: Callable[[str, Path, str], None]
    """Is told each step: what happened, to what, and a remark."""
    dry_run: bool
    """Tell the steps, and change nothing."""

    # ------------------------------------------------------------ install

    def install(self) -> None:
        """Raises: BootError (73) before anything is changed if a file of somebody else is in the way; OSError."""
        self._refuse_files_of_others()
        self._make_directories(of_server=False)
        for item in self.items:
            self._put(item)
        wanted = {str(item.path) for item in self.items}
        for path in [Path(one) for one in self.known.fingerprints if one not in wanted]:
            self._remove(path)
        self.known.version = __version__
        self._save()

    def make_directories_of_server(self) -> None:
        """After the account exists. Raises OSError."""
        self._make_directories(of_server=True)

    def _make_directories(self, *, of_server: bool) -> None:
        for one in self.directories:
            if one.of_server is of_server:
                self._make(one)

    def _refuse_files_of_others(self) -> None:
        taken = [
            str(item.path)
            for item in self.items
            if item.kind is Kind.PROGRAM and str(item.path) not in self.known.fingerprints
            if self._found(item) not in (None, item.fingerprint)
        ]
        if taken:
            raise BootError(
                f"{', '.join(taken)}: exists, but chatd-setup did not put it there; remove it, or use another --prefix",
                Exit.CANNOT_CREATE,
            )

    def _put(self, item: Item) -> None:
        name, found = str(item.path), self._found(item)
        before = self.known.fingerprints.get(name)
        if found == item.fingerprint:
            self.say("unchanged", item.path, "")
        elif found is None:
            self._write(item, item.path)
            self.say("created", item.path, f"-> {item.target}" if isinstance(item, Link) else "")
        elif item.kind is Kind.SETTINGS and found != before:
            if before != item.fingerprint and isinstance(item, File):
                new = item.path.with_name(item.path.name + NEW)
                self._write(item, new)
                self.say("kept", item.path, f"it was edited; this version's is {new}")
            else:
                self.say("kept", item.path, "it was edited")
        else:
            self._write(item, item.path)
            self.say("replaced", item.path, "")
        self.known.fingerprints[name] = item.fingerprint

    def _write(self, item: Item, path: Path) -> None:
        if self.dry_run:
            return
        at = self.place.below(path)
        self._make_parents(at.parent)
        beside = at.with_name(at.name + ".chatd-setup")
        beside.unlink(missing_ok=True)
        if isinstance(item, Link):
            beside.symlink_to(item.target)
        else:
            beside.write_bytes(item.content)
            beside.chmod(0o644)
        beside.replace(at)

    def _make_parents(self, folder: Path) -> None:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=0o755)
            one.chmod(0o755)
            self.known.directories.append("/" + str(one.relative_to(self.place.root)))

    def _make(self, one: Directory) -> None:
        at, owner = self.place.below(one.path), self._owner(one)
        what = "unchanged" if at.is_dir() else "created"
        if what == "created" and not self.dry_run:
            at.mkdir(parents=True)
            at.chmod(one.mode)
            if owner is not None:
                os.chown(at, *owner)
        self.say(what, one.path, "" if owner is not None or not one.of_server else "its owner must become chatd")

    def _owner(self, one: Directory) -> tuple[int, int] | None:
        """uid and gid; None if they are not known or cannot be given."""
        if os.geteuid() != 0:
            return None
        return account.ids(self.place) if one.of_server else (0, 0)

    # ------------------------------------------------------------ uninstall

    def uninstall(self, *, purge: bool) -> None:
        """Remove what was installed. purge: the configuration, the messages and the logs, too. Raises OSError."""
        settings = {str(item.path) for item in self.items if item.kind is Kind.SETTINGS}
        for name in sorted(self.known.fingerprints):
            self._remove(Path(name), keep_edited=name in settings and not purge)
        for path in (CONFIGURATION, STATE, LOGS) if purge else ():
            if self.place.below(path).exists():
                if not self.dry_run:
                    shutil.rmtree(self.place.below(path))
                self.say("removed", path, "")
        if not self.dry_run:
            self.place.below(self.place.record).unlink(missing_ok=True)
            self._remove_empty_directories()

    def _remove(self, path: Path, *, keep_edited: bool = True) -> None:
        at, recorded = self.place.below(path), self.known.fingerprints[str(path)]
        found = found_fingerprint(at)
        if found is None:
            self.say("missing", path, "")
        elif found != recorded and keep_edited:
            self.say("kept", path, "it was edited")
        else:
            if not self.dry_run:
                at.unlink()
            self.say("removed", path, "")
        if not self.dry_run:
            at.with_name(at.name + NEW).unlink(missing_ok=True)
        del self.known.fingerprints[str(path)]

    def _remove_empty_directories(self) -> None:
        for name in sorted(self.known.directories, reverse=True):
            at = self.place.below(Path(name))
            if at.is_dir() and not any(at.iterdir()):
                at.rmdir()
                self.say("removed", Path(name), "")

    # ------------------------------------------------------------ check

    def check(self) -> bool:
        """Tell the state of each; whether all is as it should be. Raises OSError."""
        good = True
        for item in self.items:
            found = self._found(item)
            if found == item.fingerprint:
                self.say("good", item.path, "")
            elif found is not None and item.kind is Kind.SETTINGS:
                self.say("edited", item.path, "")
            else:
                self.say("missing" if found is None else "changed", item.path, "chatd-setup install repairs it")
                good = False
        return all([*map(self._is_good, self.directories), good])

    def _is_good(self, one: Directory) -> bool:
        at, owner = self.place.below(one.path), self._owner(one)
        if not at.is_dir():
            self.say("missing", one.path, "chatd-setup install repairs it")
            return False
        info = at.stat()
        if owner is not None and (info.st_uid, info.st_gid) != owner:
            self.say("wrong", one.path, f"run: chown {'chatd:chatd' if one.of_server else 'root:root'} {one.path}")
            return False
        if info.st_mode & 0o777 & ~one.mode:
            self.say("wrong", one.path, f"run: chmod {one.mode:04o} {one.path}")
            return False
        self.say("good", one.path, "")
        return True

    # ------------------------------------------------------------ both

    def _found(self, item: Item) -> str | None:
        return found_fingerprint(self.place.below(item.path))

    def _save(self) -> None:
        if not self.dry_run:
            at = self.place.below(self.place.record)
            self._make_parents(at.parent)
            record.write(at, self.known)
