"""Workers leave, for new secrets, an upgrade or the end, also while a receiver lets them wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.deadline import run, until
from tests.webhooks.house import House, cleared, made_house
from tests.webhooks.receiver import new_secret

IN_TIME_S = 15.0
"""For an order to be done; the receiver would need much longer to answer."""
HANGS_S = 120.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("webhooks")
    late = root / "late"
    late.mkdir()
    house = made_house(
        root, timeout_s=HANGS_S, entry=("-m", "tests.upgrade.late_imports"), env={"LATE": str(late)}, workers=2
    )
    try:
        house.daemon.start()
        yield house
    finally:
        cleared(house)


def ordered(house: House, *order: str) -> None:
    """Done, and in time."""
    begun = time.monotonic()
    done = house.daemon.ctl(*order, limit_s=90)
    assert done.returncode == 0, done
    assert time.monotonic() - begun < IN_TIME_S


def use(house: House, *secrets: str) -> None:
    house.daemon.config["webhook"][0]["secrets"] = list(secrets)
    house.daemon.write_config()
    ordered(house, "reload")
    ordered(house, "restart-workers")


def test_a_secret_is_changed_while_a_receiver_knows_one_of_both(house: House) -> None:
    """Workers that are started after the reload sign with both, then only with the new one. Nothing is imported after
    the fork: the files on the disk may be those of another version by then."""
    old, new = house.receiver.secret, new_secret()

    async def signed(text: str) -> list[bool]:
        ann, bob = await house.pair()
        house.receiver.behave(secrets=[old, new])
        await ann.say(bob.name, text)
        found: list[bool] = (await house.came(text))["signed"]
        return found

    assert run(signed("by the old one")) == [True, False]
    use(house, new, old)
    assert run(signed("by both")) == [True, True]
    house.receiver.secret = new
    use(house, new)
    assert run(signed("by the new one")) == [False, True]
    late = [file for file in Path(house.daemon.env["LATE"]).iterdir() if file.name.startswith("worker-")]
    assert len(late) == 4
    assert [file.read_text().split() for file in late] == [[]] * 4


@pytest.mark.parametrize(
    "order",
    [pytest.param("restart-workers", marks=pytest.mark.slow), pytest.param("upgrade", marks=pytest.mark.slow), "stop"],
)
def test_a_delivery_that_hangs_holds_nobody_up(house: House, order: str) -> None:
    """The same request comes again, from whoever goes on."""

    async def begun() -> str:
        ann, bob = await house.pair()
        begun = house.receiver.begun  # what tells of the pair's logins may hang as well, and then counts
        house.receiver.behave(secrets=[house.receiver.secret], delay_s=HANGS_S)
        await ann.say(bob.name, f"before {order}")
        await until(10, "it was sent", lambda: house.receiver.begun > begun)
        return f"before {order}"

    text = run(begun())
    if order == "stop":
        before = time.monotonic()
        assert house.daemon.stop() == 0
        assert time.monotonic() - before < IN_TIME_S
        house.receiver.behave(secrets=[house.receiver.secret])
        house.daemon.start()
    else:
        ordered(house, order)
        house.receiver.behave(secrets=[house.receiver.secret])
    house.receiver.kill()  # with the requests that it has not answered
    house.receiver.start()
    run(house.came(text, 30))
