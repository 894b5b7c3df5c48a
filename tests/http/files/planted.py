"""`python -m tests.http.files.planted switches -c FILE …` is chatd in whose workers the guards of files can be switched
off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted), the attacks (tests.http.files.test_guards).
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def signatures_are_not_checked() -> Planted:
    from chatd.core.file_addresses import FileAddresses

    return FileAddresses, "expiry", lambda guard, self, allows, file_id, expires, signature: int(expires)


def addresses_never_expire() -> Planted:
    from chatd.core.file_addresses import FileAddresses

    def expiry(guard: Any, self: Any, allows: Any, file_id: str, expires: str, signature: str) -> int | None:
        genuine = signature == self._signature(allows, file_id, int(expires))
        return 2_000_000_000 if genuine else None

    return FileAddresses, "expiry", expiry


def any_address_uploads() -> Planted:
    """An address for downloading is taken for one for uploading."""
    from chatd.core.file_addresses import Allows, FileAddresses

    def expiry(guard: Any, self: Any, allows: Any, *asked: str) -> Any:
        return guard(self, Allows.UPLOAD, *asked) or guard(self, Allows.DOWNLOAD, *asked)

    return FileAddresses, "expiry", expiry


def files_of_others_are_sent() -> Planted:
    from chatd.store.sql.files import SqlFiles

    def waiting(guard: Any, self: Any, owner: int, file_ids: Any) -> Any:
        found = self.find(file_ids[0])
        return guard(self, found.owner if found else owner, file_ids)

    return SqlFiles, "waiting", waiting


def files_of_others_are_resumed() -> Planted:
    from chatd.core.requests import files

    return files, "_own", lambda guard, tables, session, file_id: tables.files.find(file_id)


def links_are_for_everybody() -> Planted:
    """The message is read as the system reads it."""
    from chatd.core.requests import files
    from chatd.model import SYSTEM

    return files, "own_messages", lambda guard, tables, user_id, *where: guard(tables, SYSTEM.id, *where)


def locked_people_upload() -> Planted:
    from chatd.http.files import routes

    async def found(guard: Any, request: Any) -> Any:
        return await request.uploads.find(request.file_id)

    return routes, "_to_upload", found


def bodies_may_take_for_ever() -> Planted:
    """Every byte counts as progress."""
    from chatd.http.parser import RequestParser

    def count(guard: Any, self: Any, size: int) -> None:
        guard(self, 1 << 20)

    return RequestParser, "_count_upload", count


def bodies_have_no_limit() -> Planted:
    from chatd.http.parser import RequestParser

    return RequestParser, "_check_body", lambda guard, self, size: None


def one_user_may_take_all_uploads() -> Planted:
    from chatd.http.transfers import Transfers

    return Transfers, "upload_of", lambda guard, self, owner: contextlib.nullcontext()


def names_go_into_headers_as_they_are() -> Planted:
    from chatd.http.files import routes

    def disposition(guard: Any, kind: str, name: str) -> bytes:
        return f'{kind}; filename="{name}"'.encode()

    return routes, "disposition", disposition


def types_are_believed() -> Planted:
    """Whatever the sender says is shown by the browser."""
    from chatd.http.files import routes

    return routes, "is_shown", lambda guard, file: True


BUGS = {
    one.__name__: one
    for one in (
        signatures_are_not_checked,
        addresses_never_expire,
        any_address_uploads,
        files_of_others_are_sent,
        files_of_others_are_resumed,
        links_are_for_everybody,
        locked_people_upload,
        bodies_may_take_for_ever,
        bodies_have_no_limit,
        one_user_may_take_all_uploads,
        names_go_into_headers_as_they_are,
        types_are_believed,
    )
}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
