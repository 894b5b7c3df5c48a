"""Whatever is asked of the server, at length: an answer that fits or nothing, and never a bug."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import msgspec

from chatd.errors import Disconnect, ErrorCode
from chatd.protocol import Accepted, Acknowledge, Failed, ServerMessage, ServerRequest
from tests.core.requests.test_once import check_sizes
from tests.core.stage import Peer, Stage, play
from tests.fuzz.shares import SECONDS, rounds
from tests.fuzz.texts import Writer

PEOPLE = ["alice", "bob", "carol"]
_numbers = itertools.count()


def forget(peer: Peer) -> None:
    peer.events.clear()


async def one_request(peer: Peer, body: str, fp: str) -> None:
    """Acknowledged once, answered at most once; what is told besides is a notice."""
    forget(peer)
    await peer.do(ServerRequest(body, fp, True))
    accepted = [event for event in peer.told(Accepted) if isinstance(event.command, ServerRequest)]
    assert len(accepted) == 1, body
    assert not any(isinstance(event.command, ServerRequest) for event in peer.told(Failed)), body
    texts = [msgspec.json.decode(event.body) for event in peer.told(ServerMessage)]
    answers = [text for text in texts if "event" not in text]
    assert len(answers) <= 1, body
    for found in answers:
        assert found.keys() <= {"ref", "ok", "result", "error", "more"}
        if not found["ok"]:
            assert found["error"]["code"] != ErrorCode.INTERNAL, body
            assert found["error"]["code"] in list(ErrorCode)
    check_sizes(peer)


async def talk(stage: Stage, rng: random.Random, count: int) -> None:
    """Some requests by three people on two workers, some of them given twice, with messages in between. Those who guess
    their passwords too often are sent away."""
    peers = [await stage.workers[number % 2].mobile(name) for number, name in enumerate(PEOPLE)]
    writer = Writer(stage.workers[0].core.requests.table, PEOPLE)
    for peer in peers:
        peer.text_bytes = rng.choice([600, 700, 6000])
    for _ in range(count):
        here = [peer for peer in peers if not peer.closed]
        if not here:
            break
        peer = rng.choice(here)
        body, fp = writer.text(rng), f"f{next(_numbers)}"
        for _ in range(rng.choice([1, 1, 2])):
            if not peer.closed:
                await one_request(peer, body, fp)
        assert not peer.closed or peer.reason is Disconnect.TOO_MANY_ATTEMPTS, body
        for event in peer.told(ServerMessage):
            if rng.random() < 0.8:
                await peer.do(Acknowledge(event.fp))
        if rng.random() < 0.1:
            rng.choice(here).send(rng.choice([*PEOPLE, 1, 2]), "x" * rng.choice([1, 900]))
    for peer in peers:
        peer.leave()
    await stage.settled()
    for worker in stage.workers:
        assert (worker.core.logins.count, worker.core.presence.watched) == (0, {})


def test_requests(tmp_path: Path) -> None:
    folders = itertools.count()

    def story(rng: random.Random) -> None:
        folder = tmp_path / str(next(folders))
        folder.mkdir()

        async def whole(stage: Stage) -> None:
            stage.limit(groups_per_user=5, friends_per_user=2, presence_watches=2)
            for _ in range(2):
                await stage.worker()
            for _ in range(3):
                await talk(stage, rng, 60)

        play(folder, whole)

    assert rounds("requests", story) >= SECONDS["requests"] / 15
