"""Which key has the most, against counting all of them anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatd.ranking import Ranking


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=200))
def test_the_most_and_who_has_it_are_always_known(steps: list[tuple[str, bool]]) -> None:
    ranking: Ranking[str] = Ranking()
    counts: dict[str, int] = {}
    reached: list[str] = []
    """Keys in the order in which they came to the count that they have."""
    for key, is_more in steps:
        before = counts.get(key, 0)
        now = before + 1 if is_more else max(0, before - 1)
        if now == before:
            continue
        counts[key] = now
        ranking.move(key, before, now)
        reached = [one for one in reached if one != key] + [key]
        most = max(counts.values())
        assert ranking.most == most
        if most:
            leaders = [one for one in reached if counts[one] == most]
            assert (ranking.first(), ranking.last()) == (leaders[0], leaders[-1])
