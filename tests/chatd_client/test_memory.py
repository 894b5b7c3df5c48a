"""seen, journal and memory: what is known of yesterday."""

from __future__ import annotations

import contextlib
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.client.memory import open_memory
from chatd_client import seen
from chatd_client.address import ServerAddress
from chatd_client.chatserver.frames import Chat, shown
from chatd_client.journal import GROWTH_BYTES, Journal, Remembered, Settled, written
from chatd_client.memory import FP_KEPT_MS, Memory
from chatd_client.model import Destination, PendingMessage
from chatd_client.seen import Seen, Shown

SERVER = ServerAddress("localhost", 6000)


def message(seq: int, text: str = "", conversation: int = 1, time: str = "2024-01-01 00:00:00") -> Shown:
    return shown(Chat(conversation, "n", 9, 0, text or str(seq), time, seq), user_id=9)


def test_each_number_is_new_once() -> None:
    known = Seen()
    numbers = random.Random(1).sample(range(1, 500), 400)
    for number in numbers:
        assert not known.has(message(number))
        known.add(message(number))
        assert known.has(message(number))
        assert not known.has(message(number, conversation=2))


def test_the_window_is_bounded_and_what_is_below_it_is_old() -> None:
    known = Seen()
    for number in range(1, 3 * seen.WINDOW):
        known.add(message(number))
    assert len(list(known)) == seen.WINDOW
    assert known.has(message(5))
    assert known.has(message(3 * seen.WINDOW - 1))
    assert not known.has(message(3 * seen.WINDOW))


def test_all_conversations_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "TOTAL", 100)
    known = Seen()
    for conversation in range(1, 60):
        for number in range(1, 11):
            known.add(message(number, conversation=conversation))
    assert len(list(known)) == 100
    assert known.has(message(1, conversation=59))
    assert not known.has(message(1, conversation=1))


def test_a_conversation_that_began_anew_is_new() -> None:
    known = Seen()
    for number in range(1, seen.WINDOW + 100):
        known.add(message(number))
    assert not known.has(message(1000, "other text"))
    later = message(3, "other text", time="2024-01-02 00:00:00")
    assert not known.has(later)
    known.add(later)
    assert list(known) == [later]


def test_conversations_are_told_apart() -> None:
    to_me = shown(Chat(2, "bob", 1, 0, "x", "t", 5), 1)
    from_me = shown(Chat(1, "me", 2, 0, "x", "t", 5), 1)
    group = shown(Chat(2, "bob", 0, 2, "x", "t", 5), 1)
    assert to_me.conversation == from_me.conversation == 2
    assert group.conversation == -2


def test_unnumbered_messages_are_always_new() -> None:
    known = Seen()
    known.add(message(0))
    assert not known.has(message(0))


def pending(name: str, written_at_ms: int = 0) -> PendingMessage:
    return PendingMessage(name, Destination(user_name="bob"), f"text {name}\n\0ü", written_at_ms)


def test_the_journal_gives_back_what_is_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "1.journal")
    assert journal.load() == Remembered([], [], {})
    journal.rewrite([])
    for record in (written(pending("a")), message(1), written(pending("b")), Settled("a"), message(2)):
        assert not journal.append(record)
    journal.close()
    again = Journal(tmp_path / "a" / "1.journal")
    assert again.load() == Remembered([message(1), message(2)], [pending("b")], {})
    assert (tmp_path / "a" / "1.journal").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_torn_or_foreign_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "1.journal"
    journal = Journal(path)
    journal.rewrite([message(1), written(pending("a"))])
    journal.close()
    path.write_bytes(b'["later version",1]\n\xff\xff\n' + path.read_bytes() + b'["settled","')
    journal = Journal(path)
    assert journal.load() == Remembered([message(1)], [pending("a")], {})


def test_one_client_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path / "1.journal")
    with pytest.raises(BlockingIOError):
        Journal(tmp_path / "1.journal")
    first.close()
    Journal(tmp_path / "1.journal").close()


def notices() -> tuple[list[str], Callable[[str], None]]:
    told: list[str] = []
    return told, told.append


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    told, notice = notices()
    memory = open_memory(tmp_path, SERVER, 1, notice)
    path = tmp_path / "localhost_6000" / "1.journal"
    largest = 0
    for number in range(60):
        memory.wrote(PendingMessage(str(number), Destination(user_id=2), "x" * 50_000, 0), [])
        memory.settled(str(number), [])
        largest = max(largest, path.stat().st_size)
    assert GROWTH_BYTES / 2 < largest < GROWTH_BYTES + 200_000
    memory.close([pending("open")])
    assert path.stat().st_size < 200
    again = open_memory(tmp_path, SERVER, 1, notice)
    assert again.unsettled(0) == [pending("open")]
    assert not told


def test_users_and_servers_do_not_mix(tmp_path: Path) -> None:
    told, notice = notices()
    chat = message(5)
    open_memory(tmp_path, SERVER, 1, notice).showed(chat, [])
    assert not open_memory(tmp_path, SERVER, 3, notice).has(chat)
    assert not open_memory(tmp_path, ServerAddress("::1", 6000), 1, notice).has(chat)
    assert not told


def test_too_old_to_send_again_is_told(tmp_path: Path) -> None:
    told, notice = notices()
    memory = open_memory(tmp_path, SERVER, 1, notice)
    memory.wrote(pending("old", 0), [])
    memory.wrote(pending("new", 1000), [])
    memory.close([pending("old", 0), pending("new", 1000)])
    again = open_memory(tmp_path, SERVER, 1, notice)
    assert again.unsettled(FP_KEPT_MS + 500) == [pending("new", 1000)]
    assert len(told) == 1
    assert "too old to send again to bob: text old" in told[0]


def test_without_a_usable_file_it_remembers_in_memory_and_says_so(tmp_path: Path) -> None:
    told, notice = notices()
    (tmp_path / "localhost_6000").write_text("a file where a directory should be")
    memory = open_memory(tmp_path, SERVER, 1, notice)
    check_remembers(memory, told)


def test_a_full_disk_ends_only_the_file(tmp_path: Path) -> None:
    told, notice = notices()
    journal = Journal(tmp_path / "1.journal")
    memory = Memory(journal, notice)
    with files_limited_to(0):
        check_remembers(memory, told)


@contextlib.contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """What would make a file of this process longer fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_remembers(memory: Memory, told: list[str]) -> None:
    chats = [message(seq) for seq in range(1, 4)]
    for chat in chats:
        assert not memory.has(chat)
        memory.showed(chat, [])
    assert all(memory.has(chat) for chat in chats)
    memory.close([])
    assert len(told) == 1
    assert "remembered only until you leave" in told[0]
