"""Services share the notifications that are on their way."""

from __future__ import annotations

from chatd.push.places import AT_ONCE, Places


def taken(places: Places, service: str) -> int:
    """How many it gets now."""
    found = 0
    while places.take(service):
        found += 1
    return found


def test_no_service_takes_all() -> None:
    places = Places()
    assert taken(places, "slow") == 40
    assert places.full() == {"slow"}
    assert taken(places, "other") == AT_ONCE - 40
    assert (places.free(), taken(places, "third")) == (0, 0)


def test_a_service_that_does_not_answer_has_few_until_it_does() -> None:
    places = Places()
    for _ in range(taken(places, "slow")):
        places.give_back("slow", is_answered=False)
    assert (places.free(), places.full()) == (AT_ONCE, set())
    assert taken(places, "slow") == 5
    places.give_back("slow", is_answered=None)
    assert taken(places, "slow") == 1, "that nothing was to be sent says nothing of the service"
    places.give_back("slow", is_answered=True)
    assert taken(places, "slow") == 36
    assert taken(places, "other") == 10
