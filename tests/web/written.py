"""A server on which people have written before anybody looks, for tests of what is long.

Owns: Sent, written_to(). Fails: AssertionError if the server refuses a message.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.harness.api import make_keys
from tests.http.raw import Raw, post
from tests.web.desk import Site

_AT_ONCE = 16


class Sent(NamedTuple):
    sender: str
    to: str
    text: str


def written_to(root: Path, people: Sequence[str], messages: Sequence[Sent]) -> Site:
    """It runs, with these accounts, and these messages are stored in this order."""
    site = Site(root, http={"requests_per_s": 0})
    key = make_keys(site, all="admin")["all"]
    site.people(*people)
    site.start()
    bodies = [json.dumps({"from": one.sender, "to": one.to, "text": one.text}).encode() for one in messages]
    with Raw(site.ports["http"]) as raw:
        for start in range(0, len(bodies), _AT_ONCE):
            some = bodies[start : start + _AT_ONCE]
            raw.send(b"".join(post(key, body) for body in some))
            assert {raw.said().status for _ in some} == {201}
    return site
