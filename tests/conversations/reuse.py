"""One fp used for two different messages of one user at the same moment, from two sessions.

Elsewhere: what the stores make of it (tests.store.contract_repetition).
"""

from __future__ import annotations

import uuid

from chatd.errors import ErrorCode
from tests.harness.deadline import until
from tests.harness.link import Outcome
from tests.harness.person import Person

REFUSED = Outcome(False, int(ErrorCode.FP_REUSED))


async def use_one_fp_twice(one: Person, other: Person, recipients: tuple[Person, Person], rounds: int) -> None:
    """`one` and `other` are the same user. Each round, one of two messages is stored and the other refused, then and
    whenever either is sent again, from whichever session; the recipients are shown what was stored and nothing else."""
    stored: dict[str, list[str]] = {person.name: [] for person in recipients}
    for number in range(rounds):
        fp = str(uuid.uuid4())
        writes = [(one, recipients[0], f"first {number}"), (other, recipients[number % 2], f"second {number}")]
        for sender, to, text in writes[:: -1 if number % 3 else 1]:
            sender.post(to.name, text, fp)
        outcomes = [await sender.told(fp) for sender, _, _ in writes]
        assert sorted(outcome.ok for outcome in outcomes) == [False, True], outcomes
        winner = 0 if outcomes[0].ok else 1
        assert outcomes[1 - winner].code == ErrorCode.FP_REUSED
        _, to, text = writes[winner]
        stored[to.name].append(text)
        for sender in (one, other):
            for index, (_, to, text) in enumerate(writes):
                sender.outcomes.pop(fp, None)
                again = await sender.say(to.name, text, fp)
                assert again is not None
                assert (again.ok, again.code) == ((True, outcomes[winner].code) if index == winner else (False, 1044))
    for person in recipients:
        assert await one.say(person.name, "the end") is not None
        wanted = [*stored[person.name], "the end"]
        await until(20, f"{person.name} is shown everything", lambda p=person, w=wanted: len(p.seen) >= len(w))
        assert [seen.text for seen in person.seen] == wanted
