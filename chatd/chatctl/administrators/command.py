"""What `chatctl admin` does: adding, listing, resetting and revoking administrators of the operator's page.

Owns: the change in the store, what is printed, what is recorded.
Elsewhere: the second factor (totp), the rows (store.administrator_contract), the command line
(chatctl.administrators.arguments).
Fails: the exceptions of ControlClient, ConfigError, BootError, Refused and Unavailable, which chatctl.__main__ reports.

The server is not told: each call of the page reads the store.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import socket
from collections.abc import Callable, Mapping

import segno

from chatd import totp, wall_clock
from chatd.chatctl import render
from chatd.chatctl.control_client import ControlClient, note
from chatd.chatctl.store_command import StoreCommands, begin
from chatd.config import load as config_load
from chatd.core.account_changes import named_or_numbered
from chatd.errors import ErrorCode, Exit, Refused
from chatd.model import User
from chatd.security_log import SecurityEvent
from chatd.store.contract import AdminRole, NewAdministrator, Tables

NOT_DONE = 1
"""Exit code: the account is no administrator."""
_NO_PASSWORD = "this account has no password, with which administrators log in: chatctl user passwd"


def administrators(client: ControlClient, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    config = config_load.load(options.config).config
    trail = begin(config, client)
    return AdministratorCommands(config, trail, options).run()


class AdministratorCommands(StoreCommands):
    def verbs(self) -> Mapping[str, Callable[[], int]]:
        return {
            "add": self._add,
            "list": self._list,
            "reset": self._reset,
            "revoke": self._revoke,
        }

    def _add(self) -> int:
        role = AdminRole(self._options.role)
        return self._put(lambda tables, user: _not_yet(tables, user, role))

    def _reset(self) -> int:
        return self._put(_role_of)

    def _put(self, role_of: Callable[[Tables, User], AdminRole]) -> int:
        """role_of: called in the transaction; raises Refused."""
        secret, now_ms, by = totp.new_secret(), wall_clock.now_ms(), self._trail.by

        def put(tables: Tables) -> tuple[User, AdminRole]:
            account = named_or_numbered(self._options.user)(tables)
            role = role_of(tables, account.user)
            if not account.password:
                raise Refused(ErrorCode.NOT_ALLOWED, _NO_PASSWORD)
            new = NewAdministrator(user_id=account.user.id, role=role, totp_secret=secret, by=by)
            tables.administrators.put(new, now_ms)
            return account.user, role

        user, role = self._store.change(put)
        self._trail.record(SecurityEvent.ADMIN_ADDED, name=user.name, user=user.id, detail=role)
        address = totp.address(secret, user.name, socket.gethostname())
        if self._options.json:
            fields = {"name": user.name, "id": user.id, "role": role, "secret": secret, "address": address}
            render.print_json({"v": 1, **fields})
            return Exit.OK
        picture = io.StringIO()
        segno.make(address, error="l").terminal(picture, compact=True)
        print(picture.getvalue(), end="")
        print(address)
        note(f"let the app for codes of {user.name} read the picture; it is shown this once")
        if not any("admin" in one.serves for one in self._config.listen):
            note('it is of use once a [[listen]] with protocol = "http" has serves = ["admin"]')
        return Exit.OK

    def _revoke(self) -> int:
        def revoke(tables: Tables) -> tuple[User, bool]:
            user = named_or_numbered(self._options.user)(tables).user
            return user, tables.administrators.remove(user.id)

        user, was = self._store.change(revoke)
        if was:
            self._trail.record(SecurityEvent.ADMIN_REVOKED, name=user.name, user=user.id)
        if self._options.json:
            render.print_json({"v": 1, "name": user.name, "revoked": was})
        elif not was:
            note(f"{user.name} is no administrator")
        return Exit.OK if was else NOT_DONE

    def _list(self) -> int:
        with contextlib.closing(self._store.open()) as tables:
            found = tables.administrators.all()
        if self._options.json:
            shown = [
                {
                    "id": one.user.id,
                    "name": one.user.name,
                    "role": one.role,
                    "by": one.by,
                    "created_at_ms": one.created_at_ms,
                    "used_at_ms": one.used_at_ms,
                }
                for one in found
            ]
            render.print_json({"v": 1, "administrators": shown})
        elif not found:
            print("there are no administrators")
        else:
            rows = [
                [
                    str(one.user.id),
                    one.user.name,
                    one.role,
                    render.at(one.created_at_ms),
                    one.by or "?",
                    render.at(one.used_at_ms) if one.used_at_ms else "-",
                ]
                for one in found
            ]
            print(render.table(["ID", "NAME", "ROLE", "SINCE", "BY", "USED"], rows))
        return Exit.OK


def _not_yet(tables: Tables, user: User, role: AdminRole) -> AdminRole:
    """Raises Refused."""
    if tables.administrators.find(user.id) is not None:
        text = f"{user.name} is an administrator: `chatctl admin reset` gives a new second factor, `revoke` ends it"
        raise Refused(ErrorCode.NOT_ALLOWED, text)
    return role


def _role_of(tables: Tables, user: User) -> AdminRole:
    """Raises Refused."""
    found = tables.administrators.find(user.id)
    if found is None:
        raise Refused(ErrorCode.NOT_ALLOWED, f"{user.name} is no administrator")
    return found.role
