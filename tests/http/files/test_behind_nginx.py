"""Files through nginx, as the shipped file has it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.balancers.test_tls import Website
from tests.harness.certificates import Certificate
from tests.http.files.office import UPLOAD_TYPE, Office, request
from tests.http.raw import Raw, Said


def test_files_are_uploaded_and_downloaded_through_nginx(on_sqlite: Office, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    nginx = Website(tmp_path / "balancer", [on_sqlite.daemon, on_sqlite.daemon], certificate)
    data = bytes(range(256)) * 12_000

    def ask(method: str, path: str, body: bytes = b"", **headers: object) -> Said:
        context = certificate.client()
        context.check_hostname = False
        (port,) = nginx.ports.values()
        with Raw(port, tls=context) as raw:
            return raw.ask(request(method, path, body, **headers))

    async def scene() -> None:
        ann, bob = await on_sqlite.colleague(), await on_sqlite.colleague()
        begun = await ann.announce(data)
        fields: dict[str, object] = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": 0}
        assert ask("PATCH", begun["url"], data[:2_000_000], **fields).status == 204
        answer = ask("PATCH", begun["url"], data[2_000_000:], **{**fields, "Upload_Offset": 2_000_000})
        assert answer.status == 200
        sent = await ann.say(bob, "", (begun["file"],))
        (link,) = await bob.links(ann.name, sent["seq"])
        assert ask("GET", link).body == data
        assert ask("GET", link, Range="bytes=5-9").body == data[5:10]
        assert ask("GET", link[:-4]).status == 403

    try:
        done = nginx.check(nginx.file)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"warn|alert|emerg", done.stderr.lower()), done.stderr
        nginx.start()
        asyncio.run(scene())
    finally:
        nginx.kill()
