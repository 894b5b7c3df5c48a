"""`chatctl user` and `chatctl invite`: what each asks, changes and prints.

Owns: one function per verb, which returns the exit code; ending the sessions of an account whose credentials changed;
what is recorded of it.
Elsewhere: changing the store (chatctl.accounts, chatctl.bulk), records (chatctl.trail), the command line
(chatctl.__main__), how results look (chatctl.render).
Fails: the exceptions of control_client, ConfigError, BootError, Refused and Unavailable, which __main__ reports.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import sys
import time
from collections.abc import Callable

import msgspec

from chatd.chatctl import bulk, erasing, export, render
from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.control_client import ControlClient, NotAllowed, RequestFailed, ServerUnreachable, note
from chatd.chatctl.progress import Progress
from chatd.chatctl.show import account as show_account
from chatd.chatctl.store_command import begin
from chatd.chatctl.trail import StoreTrail
from chatd.config import load as config_load
from chatd.config.schema import Config
from chatd.core.account_changes import DELETED, LOCKED, PASSWORD_CHANGED, Changed
from chatd.errors import ConfigError, Exit
from chatd.files.open import open_blobs
from chatd.master.replies import KickReply, SessionsReply
from chatd.master.requests import REASON_CHARS, KickRequest, SessionsRequest
from chatd.model import User
from chatd.security_log import SecurityEvent

SOME_REFUSED = 1
"""Exit code if some lines of a file, but not all, were added."""
DAY_MS = 24 * 3600 * 1000


class AccountCommands:
    """The commands on one configured store. Made as the user who owns it."""

    def __init__(self, client: ControlClient, config: Config, trail: StoreTrail, options: argparse.Namespace) -> None:
        self._client = client
        self._config = config
        self._trail = trail
        self._options = options
        creates = options.command == "user" and options.what == "add"
        self._accounts = StoredAccounts(
            config, create=creates, force=getattr(options, "force", False), reserved=getattr(options, "reserved", False)
        )

    def run(self) -> int:
        verbs: dict[tuple[str, str], Callable[[], int]] = {
            ("user", "add"): self._add,
            ("user", "passwd"): self._passwd,
            ("user", "lock"): self._lock,
            ("user", "unlock"): self._unlock,
            ("user", "del"): self._delete,
            ("user", "export"): self._export,
            ("user", "erase"): self._erase,
            ("user", "show"): self._show,
            ("user", "sessions"): self._sessions,
            ("user", "list"): self._list,
            ("invite", "add"): self._invite,
            ("invite", "list"): self._list_invites,
            ("invite", "revoke"): self._revoke,
        }
        return verbs[self._options.command, self._options.what]()

    # ---------------------------------------------------------------- accounts

    def _add(self) -> int:
        if self._options.file:
            return self._add_all()
        added = self._accounts.add(self._options.name, read_password())
        print(f"{added.name} has the id {added.id}")
        self._record(SecurityEvent.ACCOUNT_CREATED, added)
        return Exit.OK

    def _add_all(self) -> int:
        added = failed = 0
        lines = bulk.read_lines(self._options.file, as_csv=self._options.csv)
        try:
            for result in bulk.add_all(self._accounts, lines):
                added, failed = added + len(result.added), failed + len(result.failures)
                for failure in result.failures:
                    note(f"line {failure.number}: {failure.name}: {failure.why}")
                for user in result.added:
                    self._record(SecurityEvent.ACCOUNT_CREATED, user)
        finally:
            print(f"added: {added}, failed: {failed}")
        return SOME_REFUSED if failed else Exit.OK

    def _passwd(self) -> int:
        changed = self._accounts.set_password(self._options.name, read_password())
        self._record(SecurityEvent.PASSWORD_CHANGED, changed.user)
        return self._end_sessions(changed, PASSWORD_CHANGED)

    def _lock(self) -> int:
        changed = self._accounts.lock(self._options.name, self._options.reason)
        self._record(SecurityEvent.ACCOUNT_LOCKED, changed.user, self._options.reason)
        told = f": {self._options.reason}" if self._options.tell and self._options.reason else ""
        return self._end_sessions(changed, f"{LOCKED}{told}"[:REASON_CHARS])

    def _unlock(self) -> int:
        user, was_locked = self._accounts.unlock(self._options.name)
        if not was_locked:
            print(f"{user.name} was not locked")
            return Exit.OK
        self._record(SecurityEvent.ACCOUNT_UNLOCKED, user)
        return Exit.OK

    def _delete(self) -> int:
        changed = self._accounts.delete(self._options.name)
        self._record(SecurityEvent.ACCOUNT_DELETED, changed.user)
        number = changed.user.id
        note(f"user {number} is deleted; its messages stay: `chatctl user erase --id {number}` erases them, too")
        return self._end_sessions(changed, DELETED)

    def _export(self) -> int:
        options = self._options
        with contextlib.closing(self._accounts.open()) as tables, Progress("export") as progress:
            blobs = open_blobs(self._config.files)
            made = export.write(tables, options.name, options.target, progress.watch, blobs)
        what = f"{made.messages} messages of {made.conversations} conversations"
        note(f"{options.target.name}: everything of {made.user.name}: {what}")
        self._record(SecurityEvent.ACCOUNT_EXPORTED, made.user, what)
        return Exit.OK

    def _erase(self) -> int:
        """The trail has the id only: the name is what is to be forgotten."""
        name, number = self._options.name, self._options.id
        code = Exit.OK
        if name or number is not None:
            user, details = self._accounts.show(name) if name else self._accounts.ever(number)
            erasing.confirm(user, details, yes=self._options.yes)
            changed = self._accounts.erase(user)
            self._record(SecurityEvent.ACCOUNT_ERASED, User(changed.user.id, ""))
            print(f"user {changed.user.id} is erased; now its messages lose their text", flush=True)
            code = Exit(self._end_sessions(changed, DELETED))
        pending = erasing.finish(self._accounts)
        for one in pending:
            note(
                f"user {one.user_id}: every message stored until now is blanked; what a session sent in its last second"
                " is looked for in a minute, by a running server or `chatctl user erase --resume`"
            )
        if not pending:
            print("no erasure is pending")
        return code

    def _end_sessions(self, changed: Changed, reason: str) -> int:
        """Those with earlier credentials end anyway, within a second, also where the message bus does not reach; asked,
        the server ends them at once and says how many there were. The change is done, so the exit code is OK whatever
        the server says."""
        request = KickRequest(user_id=changed.user.id, reason=reason, credentials=changed.version)
        try:
            print(f"sessions ended: {self._client.ask(request, KickReply).sessions}")
        except (ServerUnreachable, NotAllowed) as error:
            if isinstance(error, ServerUnreachable) and not self._client.running()[0]:
                return Exit.OK
            note(f"done; the server cannot be asked ({error}), its workers end the sessions within a second")
        except RequestFailed as error:
            note(f"done; {error}. Workers that have not answered end the sessions within a second")
        return Exit.OK

    def _show(self) -> int:
        account = show_account.look_up(self._accounts, self._client, self._options.name)
        render.print_json(account) if self._options.json else print(show_account.text(account))
        return Exit.OK

    def _sessions(self) -> int:
        user, _ = self._accounts.show(self._options.name)
        found = self._ask_sessions(user)
        if self._options.json:
            render.print_json({"v": 1, **msgspec.to_builtins(found)})
        else:
            print(render.sessions(found))
        if not found.complete:
            note("some workers or hosts have not answered in time: there may be more sessions")
        return Exit.OK if found.complete else Exit.TRY_AGAIN

    def _ask_sessions(self, user: User) -> SessionsReply:
        return self._client.ask(SessionsRequest(user_id=user.id), SessionsReply)

    def _list(self) -> int:
        found = self._accounts.all()
        if self._options.json:
            rows = [{"id": number, "name": name, "created_at_ms": at_ms} for number, name, at_ms in found]
            render.print_json({"v": 1, "users": rows})
        else:
            print(render.users(found))
        return Exit.OK

    # ---------------------------------------------------------------- invite codes

    def _invite(self) -> int:
        options = self._options
        expires_at_ms = int(time.time() * 1000) + options.days * DAY_MS
        number, code = self._accounts.invite(options.uses, expires_at_ms, options.note)
        print(code)
        note(f"invite {number}: for {options.uses} account(s), until {render.at(expires_at_ms)}")
        if self._config.accounts.registration != "invite":
            note(
                f'it is of use once accounts.registration is "invite"; now it is "{self._config.accounts.registration}"'
            )
        self._record(SecurityEvent.INVITE_ADDED, detail=f"invite {number}")
        return Exit.OK

    def _list_invites(self) -> int:
        found, now_ms = self._accounts.invites(), int(time.time() * 1000)
        if self._options.json:
            rows = [{**one._asdict(), "state": render.state_of(one, now_ms)} for one in found]
            render.print_json({"v": 1, "invites": rows})
        else:
            print(render.invites(found, now_ms))
        return Exit.OK

    def _revoke(self) -> int:
        number = self._options.invite
        if not self._accounts.revoke_invite(number):
            note(f"there is no invite {number}, or it was revoked before")
            return SOME_REFUSED
        self._record(SecurityEvent.INVITE_REVOKED, detail=f"invite {number}")
        return Exit.OK

    # ---------------------------------------------------------------- the security trail

    def _record(self, event: SecurityEvent, user: User | None = None, detail: str = "") -> None:
        self._trail.record(event, name=user.name if user else "", user=user.id if user else 0, detail=detail)


def accounts(client: ControlClient, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    config = config_load.load(options.config).config
    if options.what == "export":  # before privileges are dropped: the archive belongs to whoever asked for it
        options.target = export.Target(options.to or export.default_name(options.name))
    trail = begin(config, client, create=options.command == "user" and options.what == "add")
    return AccountCommands(client, config, trail, options).run()


def read_password() -> str:
    """Read it from the terminal, twice and without echo, or from the first line of standard input. Never from an
    argument, which others on the host can see. Raises ConfigError when the two differ."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise ConfigError("the two passwords differ")
    return password
