"""Other gateways than Web Push: a plug-in delivers, and says what became of it. And the command line."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.web_push.vapid import VapidKey
from chatd_client import Refused
from tests.chatd_client.people import People
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.push.receiver import Browser, PushService

pytestmark = pytest.mark.xdist_group("push")


class House(People):
    journal: Path

    def told(self) -> list[list[Any]]:
        """Token, user, text and count of each call."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("gateway")
    site = root / "site"
    info = site / "gateway-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chatd.hooks]\napns = tests.push.gateway:Gateway\n")
    journal = root / "journal"
    hook = {"name": "apns", "options.journal": str(journal)}
    push = {"gateways": ["apns", "other"], "delay_s": 0, "pause_s": 0}
    daemon = Daemon(root / "daemon", hook=[hook], push=push)
    daemon.env["PYTHONPATH"] += f":{site}"
    daemon.expect_error("plug-in failed")
    house = House(daemon.start())
    house.journal = journal
    yield house
    assert daemon.discard() == []


def test_a_plug_in_delivers_and_says_what_became_of_it(house: House) -> None:
    async def story() -> None:
        ann = await house.user("ann")
        async with house.client(ann) as client:
            assert (await client.push.key()).gateways == ("apns", "other")
            for token in ("one", "gone", "fails"):
                await client.push.subscribe_gateway("apns", token)
        async with house.client(await house.user("bob")) as bob:
            await bob.send(ann, "hello")
            await until(10, "all were tried, one of them again", lambda: len(house.told()) > 3)
            assert {tuple(told) for told in house.told()} == {
                (token, ann, "hello", 1) for token in ("one", "gone", "fails")
            }
            await bob.send(ann, "again")
            await until(10, "the good one came", lambda: ["one", ann, "again", 1] in house.told())
        async with house.client(ann) as client:
            assert not await client.push.unsubscribe_gateway("apns", "gone")
            assert await client.push.unsubscribe_gateway("apns", "one")
            assert await client.push.unsubscribe_all()
            assert not await client.push.unsubscribe_all()
        assert [told[0] for told in house.told()].count("gone") == 1

    run(story(), 40)


def test_what_the_configuration_does_not_have_is_refused(house: House) -> None:
    service = PushService("")

    async def story() -> None:
        async with house.client(await house.user("ann")) as ann:
            assert (await ann.push.key()).key == ""
            with pytest.raises(Refused, match="no Web Push"):
                await ann.push.subscribe("https://fcm.googleapis.com/x", **Browser(service).keys)
            with pytest.raises(Refused, match="no such gateway"):
                await ann.push.subscribe_gateway("fcm", "token")
            for wrong in ("APNS", "", "a b", "x" * 65):
                with pytest.raises(Refused):
                    await ann.push.subscribe_gateway(wrong, "token")
            for token in ("", "a b", "x" * 1025, "é"):
                with pytest.raises(Refused):
                    await ann.push.subscribe_gateway("apns", token)

    try:
        run(story(), 30)
    finally:
        service.close()


def test_the_operator_makes_a_key_once(house: House, tmp_path: Path) -> None:
    ctl, file = house.daemon.ctl_said, tmp_path / "push.pem"
    code, out, _ = ctl("push", "key", str(file), "--json")
    assert code == 0
    assert json.loads(out) == {"v": 1, "file": str(file), "public_key": VapidKey(file.read_text()).public}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    code, _, said = ctl("push", "key", str(file))
    assert (code, file.read_text()) == (73, before)
    assert "cannot make" in said
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    assert ctl("push", "key", str(link))[0] == 73
    code, out, _ = ctl("push", "show")
    assert code == 0
    assert out.split()[:3] == ["KEY", "SUBSCRIPTIONS", "NOTIFIER"]


@pytest.mark.parametrize(
    ("push", "said"),
    [
        ({"subject": "admin"}, "push.subject"),
        ({"subject": "mailto:a@example.org"}, "push.key: needed"),
        ({"subject": "mailto:a@example.org", "key": "secret"}, "push.key: is not a key"),
        ({"subject": "mailto:a@example.org", "key": "-----BEGIN PRIVATE KEY-----"}, "push.key: is not a private key"),
        ({"services": ["https://x"]}, "push.services"),
        ({"allow_private": ["x"]}, "push.allow_private"),
        ({"gateways": ["A"]}, "push.gateways"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, push: dict[str, Any], said: str) -> None:
    daemon = Daemon(tmp_path, push=push)
    tested = daemon.test()
    assert tested.returncode == 78
    assert said in tested.stderr
