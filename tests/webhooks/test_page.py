"""The code on the page about webhooks verifies what chatd signs, and nothing else."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from chatd.webhooks.signature import Signer
from tests.webhooks.receiver import new_secret

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()
BODY = '{"webhook": "crm", "events": [{"text": "häßlich ☔"}]}'.encode()


def code(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def in_python(secret: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(code("python"), names)
    return bool(names["verify"](secret, headers, body))


def in_node(secret: str, headers: dict[str, str], body: bytes) -> bool:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    given = f"JSON.parse({json.dumps(json.dumps(headers))}), Buffer.from('{base64.b64encode(body).decode()}', 'base64')"
    script = f"{code('javascript')}\nconsole.log(verify({json.dumps(secret)}, {given}));"
    out = subprocess.run([node, "-e", script], capture_output=True, text=True, timeout=30, check=True).stdout
    return {"true\n": True, "false\n": False}[out]


@pytest.mark.parametrize("verify", [in_python, in_node])
def test_the_code_of_the_page_verifies_signatures(verify: Any) -> None:
    old, new = new_secret(), new_secret()
    now_s = int(time.time())
    headers = Signer([new, old]).headers("msg_1", now_s, BODY)
    assert verify(old, headers, BODY)
    assert verify(new, headers, BODY)
    assert not verify(new_secret(), headers, BODY)
    assert not verify(new, headers, BODY + b" ")
    assert not verify(new, {**headers, "webhook-id": "msg_2"}, BODY)
    assert not verify(new, Signer([new]).headers("msg_1", now_s - 400, BODY), BODY), "it is too old"


def test_the_public_library_accepts_every_secret_in_turn() -> None:
    old, new = new_secret(), new_secret()
    headers = Signer([new, old]).headers("msg_1", int(time.time()), BODY)
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)
