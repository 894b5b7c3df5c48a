"""The code on the page about webhooks verifies what chatd signs, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from chatd.config.webhook_options import WebhookOptions
from chatd.webhooks.sender import Sender
from chatd.webhooks.signature import Signer
from tests.test_outbound import served
from tests.webhooks.receiver import new_secret

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()
BODY = '{"webhook": "crm", "events": [{"text": "häßlich ☔"}]}'.encode()
OLD, NEW, OTHER = new_secret(), new_secret(), new_secret()


class Case(NamedTuple):
    """A request, and whether it is to be believed."""

    what: str
    secret: str
    headers: dict[str, str]
    body: bytes
    good: bool = False


def code(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def received() -> tuple[dict[str, str], bytes]:
    """Headers and body of a request that a webhook with two secrets sends."""
    requests: list[tuple[dict[str, str], bytes]] = []

    async def serve(request: web.BaseRequest) -> web.Response:
        requests.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response()

    async def run() -> None:
        async with served(serve) as port:
            url, allowed = f"http://127.0.0.1:{port}/", ("127.0.0.1",)
            sender = Sender(WebhookOptions(name="crm", url=url, secrets=(NEW, OLD), allow_private=allowed))
            assert not (await sender.send("msg_1", BODY)).error
            await sender.close()

    asyncio.run(run())
    return requests[0]


def cases() -> list[Case]:
    headers, body = received()
    assert body == BODY
    signatures, now_s = headers["webhook-signature"], int(time.time())
    first, second = signatures.split(" ")

    def signed_at(sent_at: float) -> dict[str, str]:
        return Signer([NEW]).headers("msg_1", int(sent_at), body)

    def with_signature(text: str) -> Case:
        return Case(f"signature {text!r}", NEW, {**headers, "webhook-signature": text}, body)

    def without(name: str) -> Case:
        return Case(f"no {name}", NEW, {key: value for key, value in headers.items() if key != name}, body)

    unknown = {**headers, "webhook-signature": f"v2,x {second} {first}"}
    flipped = first[:5] + ("A" if first[5] != "A" else "B") + first[6:]
    return [
        Case("the new secret", NEW, headers, body, good=True),
        Case("the old secret", OLD, headers, body, good=True),
        Case("a secret without its prefix", NEW.removeprefix("whsec_"), headers, body, good=True),
        Case("unknown signatures besides", NEW, unknown, body, good=True),
        Case("a little old", NEW, signed_at(now_s - 200), body, good=True),
        Case("another secret", OTHER, headers, body),
        Case("another body", NEW, headers, body + b" "),
        Case("no body", NEW, headers, b""),
        Case("another id", NEW, {**headers, "webhook-id": "msg_2"}, body),
        Case("another time", NEW, {**headers, "webhook-timestamp": str(now_s + 7)}, body),
        Case("too old", NEW, signed_at(now_s - 400), body),
        Case("too new", NEW, signed_at(now_s + 400), body),
        *(
            Case(f"time {text!r}", NEW, {**headers, "webhook-timestamp": text}, body)
            for text in ("", "x", "-1", f"{now_s}x", f" {now_s}", f"{now_s}.0", "9" * 40)
        ),
        *map(with_signature, ("", " ", "v1,", "v1", flipped, first[3:], f"v2,{first[3:]}", first[:-1])),
        *map(with_signature, (f"{first}=", "v1,é")),
        *map(without, ("webhook-id", "webhook-timestamp", "webhook-signature")),
    ]  # fmt: skip


Verdicts = list[bool]


def in_python(asked: Sequence[Case], _folder: Path) -> Verdicts:
    names: dict[str, Any] = {}
    exec(code("python"), names)
    return [names["verify"](one.secret, one.headers, one.body) for one in asked]


def ask(program: Sequence[str], asked: Sequence[Case]) -> Verdicts:
    """Run it with the cases as JSON; it prints a line for each."""
    given = [[one.secret, one.headers, base64.b64encode(one.body).decode()] for one in asked]
    done = subprocess.run(program, input=json.dumps(given).encode(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return [{"true": True, "false": False}[line] for line in done.stdout.decode().split()]


def needed(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        pytest.skip(f"there is no {command} here")
    return found


def in_node(asked: Sequence[Case], _folder: Path) -> Verdicts:
    rest = """
for (const [secret, headers, body] of JSON.parse(require("node:fs").readFileSync(0)))
  console.log(verify(secret, headers, Buffer.from(body, "base64")));
"""
    return ask([needed("node"), "-e", code("javascript") + rest], asked)


def in_php(asked: Sequence[Case], folder: Path) -> Verdicts:
    rest = """
foreach (json_decode(file_get_contents("php://stdin"), true) as [$secret, $headers, $body]) {
    echo verify($secret, $headers, base64_decode($body)) ? "true" : "false", "\\n";
}
"""
    file = folder / "verify.php"
    file.write_text(code("php") + rest)
    return ask([needed("php"), "-d", "display_errors=stderr", "-d", "error_reporting=-1", str(file)], asked)


def in_java(asked: Sequence[Case], folder: Path) -> Verdicts:
    """The cases are written into the program: Java reads no JSON."""

    def text(value: str) -> str:
        return json.dumps(value)

    calls = "\n".join(
        f"System.out.println(Webhooks.verify({text(one.secret)}, Map.of("
        + ", ".join(f"{text(key)}, {text(value)}" for key, value in one.headers.items() if key.startswith("webhook-"))
        + f'), Base64.getDecoder().decode("{base64.b64encode(one.body).decode()}")));'
        for one in asked
    )
    imports, separator, rest = code("java").partition("final class")
    main = f"class Main {{ public static void main(String[] none) throws Exception {{\n{calls}\n}} }}\n"
    file = folder / "Main.java"
    file.write_text(imports + main + separator + rest)
    return ask([needed("java"), "-XX:TieredStopAtLevel=1", "-Xshare:auto", str(file)], asked)


@pytest.mark.parametrize("language", [in_python, in_node, in_php, in_java])
def test_the_code_of_the_page_believes_what_is_signed_and_nothing_else(language: Any, tmp_path: Path) -> None:
    asked = cases()
    verdicts = language(asked, tmp_path)
    assert len(verdicts) == len(asked)
    assert [one.what for one, verdict in zip(asked, verdicts, strict=True) if verdict is not one.good] == []


@pytest.mark.parametrize(
    ("language", "comparison"),
    [
        ("python", "hmac.compare_digest("),
        ("javascript", "crypto.timingSafeEqual("),
        ("php", "hash_equals("),
        ("java", "MessageDigest.isEqual("),
    ],
)
def test_the_code_of_the_page_compares_in_constant_time(language: str, comparison: str) -> None:
    assert comparison in code(language)


def test_the_public_library_accepts_every_secret_in_turn() -> None:
    headers = Signer([NEW, OLD]).headers("msg_1", int(time.time()), BODY)
    for secret in (OLD, NEW):
        Webhook(secret).verify(BODY, headers)
