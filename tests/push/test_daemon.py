"""A daemon notifies users who are away, by a push service that checks who sends and browsers that decrypt: what they
are told, and what nobody is told."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd_client import Refused
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Person
from tests.harness.switches import stops, switched_off, with_switches
from tests.push.house import House, made_house, noted, subscribe
from tests.push.receiver import Browser, PushService

pytestmark = pytest.mark.xdist_group("push")


ENTRY = ("-m", "tests.push.planted", "switches")


@pytest.fixture(scope="module")
def whole_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = made_house(tmp_path_factory.mktemp("push"), workers=2, entry=ENTRY, push={"per_user": 3})
    with_switches(house.daemon).start()
    yield house
    house.daemon.expect_error("worker died")
    complaints = house.daemon.discard()
    house.service.close()
    assert complaints == []
    assert house.service.complaints == []


@pytest.fixture
def house(whole_house: House) -> House:
    whole_house.restarts_clean()
    return whole_house


def test_who_is_away_is_notified_on_every_browser(house: House) -> None:
    one, other = Browser(house.service), Browser(house.service)

    async def story() -> None:
        async with house.away("ann", one, other) as ann, house.client(await house.user("bob")) as bob:
            await bob.send(ann, "are you there?")
            for browser in (one, other):
                (note,) = await noted(browser)
                assert note == {
                    "v": 1,
                    "for": ann,
                    "count": 1,
                    "conversation": bob.me.name,
                    "sender": bob.me.name,
                    "text": "are you there?",
                }
            (told,) = house.service.came(one.path)
            assert (told.headers["ttl"], told.headers["urgency"]) == ("86400", "high")
            assert len(told.body) == 512 + 103, "the length tells nothing of the text"

    run(story(), 30)


def test_members_of_a_group_are_told_which_one_it_is(house: House) -> None:
    ann_has = Browser(house.service)

    async def story() -> None:
        async with house.away("ann", ann_has) as ann, house.client(await house.user("bob")) as bob:
            group = await bob.groups.create("rowers", join="open")
            await bob.send(f"#{group.id}", "before she is in it")
            async with house.client(ann) as client:
                await client.groups.join(group.id)
            await bob.send(f"#{group.id}", "to all")
            (note,) = await noted(ann_has)
            assert (note["conversation"], note["text"]) == (f"#{group.id}", "to all")

    run(story(), 30)


def test_nobody_is_told_of_what_they_wrote_or_what_blocked_users_write(house: House) -> None:
    ann_has, bob_has = Browser(house.service), Browser(house.service)

    async def story() -> None:
        async with (
            house.away("ann", ann_has) as ann,
            house.away("bob", bob_has) as bob,
            house.client(await house.user("eve")) as eve,
        ):
            async with house.client(bob) as client:
                group = await client.groups.create("rowers", join="open")
            await eve.groups.join(group.id)
            async with house.client(ann) as client:
                await client.groups.join(group.id)
                await client.blocks.add(eve.me.name)
                await client.send(f"#{group.id}", "by ann")
            assert [note["text"] for note in await noted(bob_has)] == ["by ann"]
            await eve.send(f"#{group.id}", "by eve")
            assert [note["text"] for note in await noted(bob_has, 2)] == ["by ann", "by eve"]
            with pytest.raises(Refused):
                await eve.send(ann, "by eve")
            async with house.client(bob) as client:
                await client.send(ann, "the last one")
            assert [note["text"] for note in await noted(ann_has)] == ["the last one"]

    run(story(), 30)


def test_who_is_online_is_not_told(house: House) -> None:
    browser, other = Browser(house.service), Browser(house.service)

    def attack() -> None:
        house.restarts_clean()

        async def story() -> None:
            async with (
                house.client(await house.user("ann")) as ann,
                house.away("carol", other) as carol,
                house.client(await house.user("bob")) as bob,
            ):
                await subscribe(ann, browser)
                await bob.send(ann.me.name, "hello")
                await bob.send(carol, "hello")
                await noted(other)
                await asyncio.sleep(0.1)  # it would have been sent before the other one
                assert browser.notes() == []

        run(story(), 30)

    attack()
    both = switched_off("anybody_is_told", house.daemon), switched_off("read_messages_are_told", house.daemon)
    with both[0], both[1], pytest.raises(AssertionError):
        attack()


def test_what_was_read_meanwhile_is_not_told(house: House) -> None:
    """The push service is away when the message comes, and there again when its recipient has been online."""
    browser, other = Browser(house.service), Browser(house.service)

    def attack() -> None:
        house.restarts_clean()
        house.service.status = 503

        async def story() -> None:
            async with (
                house.away("ann", browser) as ann,
                house.away("carol", other) as carol,
                house.client(await house.user("bob")) as bob,
            ):
                await bob.send(ann, "hello")
                await until(10, "it was tried", lambda: house.service.came(browser.path))
                async with house.client(ann) as client:
                    async for message in client.messages():
                        assert message.text == "hello"
                        break
                house.service.status = 201
                await bob.send(carol, "hello")
                await noted(other)
                await asyncio.sleep(1.5)  # after the first attempt, the second one follows within 1.25 s
                assert browser.notes() == []

        run(story(), 30)

    stops("read_messages_are_told", attack, house.daemon)


def test_a_burst_is_told_as_one_and_counted(house: House) -> None:
    browser = Browser(house.service)

    async def story() -> None:
        async with house.away("ann", browser) as ann, house.client(await house.user("bob")) as bob:
            house.service.delay_s = 0.3
            for number in range(8):
                await bob.send(ann, f"number {number}")
            house.service.delay_s = 0.0
            await until(10, "all", lambda: sum(note["count"] for note in browser.notes()) == 8, 0.02)
            assert len(browser.notes()) < 5
            assert browser.notes()[-1]["text"] == "number 7"

    run(story(), 30)


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_has_ended_is_removed(house: House, status: int) -> None:
    browser, other = Browser(house.service), Browser(house.service)

    async def story() -> None:
        async with house.away("ann", browser, other) as ann, house.client(await house.user("bob")) as bob:
            before = subscriptions(house)
            house.service.status = status
            await bob.send(ann, "hello")
            await until(10, "both are removed", lambda: subscriptions(house) == before - 2, 0.05)
            house.service.status = 201
            await bob.send(ann, "again")
        assert len(house.service.came()) == 2

    run(story(), 30)


@pytest.mark.parametrize("trouble", ["status 503", "status 429", "no answer"])
def test_what_fails_is_tried_again(house: House, trouble: str) -> None:
    browser = Browser(house.service)

    async def story() -> None:
        async with house.away("ann", browser) as ann, house.client(await house.user("bob")) as bob:
            house.service.status = {"status 503": 503, "status 429": 429}.get(trouble, 201)
            house.service.delay_s = 1.0 if trouble == "no answer" else 0.0
            await bob.send(ann, "hello")
            await until(10, "it was tried", lambda: house.service.came(browser.path), 0.02)
            house.service.status, house.service.delay_s = 201, 0.0
            await until(10, "it was tried again", lambda: len(house.service.came(browser.path)) > 1, 0.02)
            assert browser.notes()[-1]["text"] == "hello"

    run(story(), 30)


def test_a_service_that_does_not_answer_holds_nobody_else_up(tmp_path: Path) -> None:
    """It has more to be told than can be on its way at the same time."""
    house = made_house(tmp_path, workers=1, entry=ENTRY, push={"per_user": 60, "timeout_s": 6.0})
    slow = PushService(house.service.public)
    slow.delay_s = 7.0
    with_switches(house.daemon).start()

    def attack() -> None:
        browser = Browser(house.service)
        slow.forget()

        async def story() -> None:
            async with (
                house.away("eve", *(Browser(slow) for _ in range(60))) as eve,
                house.away("ann", browser) as ann,
                house.client(await house.user("bob")) as bob,
            ):
                await bob.send(eve, "hello")
                await until(15, "the slow one is asked", lambda: len(slow.came()) >= 5, 0.02)
                await bob.send(ann, "hello")
                try:
                    await noted(browser, limit_s=4.0)
                except TimeoutError as error:
                    raise AssertionError(error) from None

        run(story(), 60)

    stops("one_service_takes_all", attack, house.daemon)
    complaints = house.daemon.discard()
    for service in house.service, slow:
        service.close()
    assert complaints == []
    assert (house.service.complaints, slow.complaints) == ([], [])


def test_a_subscription_that_never_worked_does_not_stay(house: House) -> None:
    """Status 403: that of a subscription which was made with another server's key."""
    browser = Browser(house.service)

    async def story() -> None:
        async with house.away("ann", browser) as ann, house.client(await house.user("bob")) as bob:
            before = subscriptions(house)
            house.service.status = 403
            await bob.send(ann, "hello")
            await until(10, "it is removed", lambda: subscriptions(house) == before - 1, 0.05)
        assert len(house.service.came()) == 1

    run(story(), 30)


def test_whoever_had_the_account_before_is_not_told(house: House) -> None:
    """A browser of somebody who knew the password that was changed since."""
    browser, other = Browser(house.service), Browser(house.service)

    def attack() -> None:
        house.restarts_clean()

        async def story() -> None:
            async with (
                house.away("carol", other) as carol,
                house.client(await house.user("bob")) as bob,
            ):
                ann = await house.user("ann")
                async with house.client(ann) as client:
                    await subscribe(client, browser)
                    await client.account.change_password(house.town.secret, "a new password")
                before = subscriptions(house)
                await bob.send(ann, "a secret")
                await bob.send(carol, "hello")
                await noted(other)
                await until(10, "it is removed or told", lambda: subscriptions(house) < before or browser.notes(), 0.05)
                assert browser.notes() == []

        run(story(), 30)

    stops("earlier_credentials_count", attack, house.daemon)


def test_a_deleted_account_leaves_no_subscription(house: House) -> None:
    async def story() -> None:
        ann = await house.user("ann")
        async with house.client(ann) as client:
            await subscribe(client, Browser(house.service))
        before = subscriptions(house)
        code, _, said = house.daemon.ctl_said("user", "del", ann)
        assert code == 0, said
        assert subscriptions(house) == before - 1

    run(story(), 30)


def test_a_user_has_few_subscriptions(house: House) -> None:
    """The oldest ones go."""
    browsers = [Browser(house.service) for _ in range(5)]

    def attack() -> None:
        house.restarts_clean()

        async def story() -> None:
            async with house.away("ann", *browsers) as ann, house.client(await house.user("bob")) as bob:
                await bob.send(ann, "hello")
                await noted(browsers[-1])
                await asyncio.gather(*(noted(one) for one in browsers[-3:]))
                assert len(house.service.came()) == 3

        run(story(), 30)

    stops("any_number", attack, house.daemon)


def test_a_browser_tells_only_whoever_used_it_last(house: House) -> None:
    """Ann has logged out without a network, and bob logs in at the same computer. Eve knows the endpoint, but not the
    keys."""
    browser = Browser(house.service)

    async def story() -> None:
        async with (
            house.away("ann", browser) as ann,
            house.away("bob", browser) as bob,
            house.client(await house.user("eve")) as eve,
        ):
            with pytest.raises(Refused):
                await eve.push.subscribe(browser.endpoint, **Browser(house.service).keys)
            assert not await eve.push.unsubscribe(browser.endpoint)
            await eve.send(ann, "to ann")
            await eve.send(bob, "to bob")
            assert [note["for"] for note in await noted(browser)] == [bob]

    run(story(), 30)


ELSEWHERE = ("http://127.0.0.2:{port}/x", "http://[::1]:{port}/x", "https://10.1.2.3/x")


@pytest.mark.parametrize("endpoint", ELSEWHERE, ids=range(len(ELSEWHERE)))
def test_nobody_makes_the_server_send_elsewhere(house: House, endpoint: str) -> None:
    """Not even where the list of services is open to everybody: what is not public is never reached."""
    place = endpoint.format(port=house.service.port)

    async def story() -> None:
        async with house.client(await house.user("ann")) as ann:
            with pytest.raises(Refused):
                await ann.push.subscribe(place, **Browser(house.service).keys)
            with switched_off("public_services_only", house.daemon):
                await ann.push.subscribe(place, **Browser(house.service).keys)
        before = subscriptions(house)
        with switched_off("public_services_only", house.daemon):
            async with house.client(await house.user("bob")) as bob:
                await bob.send(ann.me.name, "hello")
            await until(10, "it is removed", lambda: subscriptions(house) < before, 0.05)
        assert house.service.came() == []

    run(story(), 30)


def test_without_the_guards_it_would_be_sent_elsewhere(house: House) -> None:
    async def story() -> None:
        with switched_off("any_endpoint", house.daemon):
            async with house.client(await house.user("ann")) as ann:
                keys = Browser(house.service).keys
                await ann.push.subscribe(f"http://127.0.0.2:{house.service.port}/x", **keys)
            async with house.client(await house.user("bob")) as bob:
                await bob.send(ann.me.name, "hello")
            await until(10, "it comes", lambda: house.service.came("/x"), 0.05)

    run(story(), 30)
    house.service.complaints.clear()  # it was signed for 127.0.0.2


@pytest.mark.parametrize("bug", ["", pytest.param("recorded_before_it_is_sent", marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_loses_no_notification(house: House, bug: str) -> None:
    """With some on their way, and more to come. Those that come twice replace each other (Topic)."""
    browsers = [Browser(house.service) for _ in range(8)]

    async def story() -> None:
        users = []
        for browser in browsers:
            users.append(await house.user("ann"))
            async with house.client(users[-1]) as client:
                await subscribe(client, browser)
        house.service.delay_s, house.service.status = 0.4, 503
        async with house.client(await house.user("bob")) as bob:
            for user in users:
                await bob.send(user, "hello")
                if user == users[3]:
                    await until(10, "all are on their way", lambda: len(house.service.came()) >= 4, 0.01)
                    for pid in house.daemon.workers():
                        os.kill(pid, signal.SIGKILL)
                    house.service.delay_s, house.service.status = 0.0, 201
            for browser in browsers:
                await noted(browser, limit_s=10)
        for browser in browsers:
            assert len({one.headers["topic"] for one in house.service.came(browser.path)}) == 1

    if bug:
        with switched_off(bug, house.daemon), pytest.raises(TimeoutError, match="notifications"):
            run(story(), 60)
    else:
        run(story(), 60)


def subscriptions(house: House) -> int:
    with sqlite3.connect(house.daemon.root / "state" / "chatd.db") as db:
        return int(db.execute("SELECT count(*) FROM push_subscription").fetchone()[0])


def test_a_client_that_is_gone_is_noticed(house: House) -> None:
    """Its session is there when the message comes, and ends without it."""
    browser = Browser(house.service)

    async def story() -> None:
        ann = Person(house.town, await house.user("ann"), "mobile")
        async with house.client(ann.name) as client:
            await subscribe(client, browser)
        await ann.arrive()
        assert isinstance(ann.link, StockLink)
        assert ann.link.transport is not None
        ann.link.transport.pause_reading()  # type: ignore[attr-defined]
        async with house.client(await house.user("bob")) as bob:
            await bob.send(ann.name, "hello")
            await ann.vanish()
            (note,) = await noted(browser, limit_s=15)
            assert note["text"] == "hello"

    run(story(), 40)
