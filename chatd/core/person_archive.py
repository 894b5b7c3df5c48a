"""Everything of one person as one archive.

Owns: the files of the archive, their text form, and the page of explanations in it.
Elsewhere: the rows (store.contract), the files of the person (core.person_files), where the archive is written to
(chatctl.export).
Fails: Refused and Unavailable as the store.

The store is read in pages, beside a running server. Memory does not depend on how much the person has written. Messages
that are stored after the export began are left out.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Protocol, TypeVar

import msgspec

from chatd import __version__
from chatd.core import person_files
from chatd.files.contract import Blobs
from chatd.model import Attachment, ConversationId, Group, Message, Seq, User, UserId
from chatd.store.contract import Head, OwnView, Person, Scanned, Tables

T = TypeVar("T")

PAGE = 500
"""Messages read at once."""
_FIRST = -(1 << 62)
"""Below the id of every conversation."""

Watch = Callable[[str, int, int], None]
"""chatctl.progress.Progress.watch."""


class Reading(Protocol):
    """Runs one read of the store, and returns its result."""

    def __call__(self, work: Callable[[Tables], T], /) -> T: ...


README = """\
Everything that the chat server has stored about {name} (user {id})
{rule}

Written on {now} UTC by chatd {version}.

account.json        the account: name, profile, settings; friends and friend requests, blocked users, groups and
                    invitations, networks from which the user logged in (hashed: the server does not know the
                    addresses). Passwords are stored as a hash only, which is left out.
conversations.json  one entry per conversation: with whom, how many messages there are, how far they were delivered to
                    the user and read by them, and the name of its file.
conversations/      one file per conversation. Each line is one message, as a JSON object.
files.json          the files that the user uploaded: name, size, type, when, and in which message they were sent.
files/              their contents, as far as they could be read.
left-groups.jsonl   what the user wrote to groups that they are not in any more.

A message has:

seq       its number in the conversation; a missing number is a message that the user has deleted from their own
          history, that was deleted by the server's retention, or that was sent before the user joined the group
at        when the server stored it, UTC
from, to  who sent it, and to whom; "#7" is the group with the number 7
text      what it says; "" for one whose text was removed
state     sent, edited, recalled (by its sender), removed (by an admin of the group), erased (with its sender's account)
version   how often it was changed; only the present text is stored
fp        the id that the user's own client gave it
files     what was sent with it: name, size in bytes, type. Contents of files that others sent are not in here.

Messages of other people are in here as far as the user can read them in the chat, because a conversation cannot be
understood without them. They are those people's personal data too: do not publish them.

All files are UTF-8. Times that end in _ms are milliseconds since 1970-01-01 UTC.
"""


class Line(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}, omit_defaults=True):
    """One message in the archive."""

    seq: Seq
    at: str
    sender: str
    to: str
    text: str
    state: str
    version: int = 0
    reply_to: Seq = 0
    fp: str = ""
    files: tuple[Attachment, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename={"other": "with"}):
    """One conversation in conversations.json."""

    other: str
    other_id: int
    file: str
    messages: int
    last_seq: Seq
    delivered_seq: Seq
    read_seq: Seq


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    user: User
    conversations: int
    messages: int


def write(read: Reading, user: User, archive: zipfile.ZipFile, watch: Watch, blobs: Blobs | None = None) -> Exported:
    """Blocks. read: called for each page. blobs: where the content of files is; None = it is left out. Raises: what
    `read` raises."""
    person = read(lambda tables: tables.person.everything(user.id))
    archive.writestr("README.txt", _readme(user))
    archive.writestr("account.json", _pretty(person))
    entries, messages = [], 0
    total = sum(head.last for head in _heads(read, user))
    watch("messages", 0, total)
    for head in _heads(read, user):
        entry = _write_conversation(read, archive, user, head)
        watch("messages", head.last, total)
        entries.append(entry)
        messages += entry.messages
    messages += _write_left_groups(read, archive, user)
    person_files.write(read, user.id, archive, blobs)
    archive.writestr("conversations.json", _pretty(entries))
    return Exported(user=user, conversations=len(entries), messages=messages)


def _readme(user: User) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    title = f"Everything that the chat server has stored about {user.name} (user {user.id})"
    return README.format(name=user.name, id=user.id, now=now, version=__version__, rule="=" * len(title))


def _pretty(value: Person | list[Entry]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def _heads(read: Reading, user: User) -> Iterator[Head]:
    after = _FIRST
    while page := read(partial(_page_of_heads, user.id, after)):
        yield from page
        after = page[-1].conversation


def _page_of_heads(user_id: UserId, after: ConversationId, tables: Tables) -> list[Head]:
    return tables.history.heads(user_id, after, PAGE)


def _write_conversation(read: Reading, archive: zipfile.ZipFile, user: User, head: Head) -> Entry:
    kind = "group" if isinstance(head.other, Group) else "private"
    file = f"conversations/{kind}-{head.other.id}.jsonl"
    count = 0
    with archive.open(file, "w", force_zip64=True) as lines:
        for page, own in _pages(read, user, head.conversation, head.last):
            shown = [one for one in page if one.seq > own.cleared and one.seq not in own.hidden]
            _write_lines(lines, user, shown)
            count += len(shown)
    return Entry(
        other=f"#{head.other.id} {head.other.name}" if isinstance(head.other, Group) else head.other.name,
        other_id=head.other.id,
        file=file,
        messages=count,
        last_seq=head.last,
        delivered_seq=head.delivered,
        read_seq=head.seen,
    )


def _pages(
    read: Reading, user: User, conversation: ConversationId, last: Seq
) -> Iterator[tuple[list[Message], OwnView]]:
    """With what the user has deleted from their own history by then."""
    after = 0
    while after < last:
        found, own = read(partial(_page_of_messages, user.id, conversation, after))
        page = [message for message in found if message.seq <= last]
        if not page:
            return
        yield page, own
        after = page[-1].seq


def _page_of_messages(
    user_id: UserId, conversation: ConversationId, after: Seq, tables: Tables
) -> tuple[list[Message], OwnView]:
    page = tables.history.messages(user_id, conversation, after, 0, PAGE)
    return page, tables.revisions.own_view(user_id, conversation)


def _write_left_groups(read: Reading, archive: zipfile.ZipFile, user: User) -> int:
    """Reads every message of the store."""
    count, position = 0, 0
    with archive.open("left-groups.jsonl", "w", force_zip64=True) as lines:
        while True:
            found = read(partial(_page_of_left_groups, user.id, position))
            _write_lines(lines, user, found.messages)
            count, position = count + len(found.messages), found.position
            if not found.more:
                return count


def _page_of_left_groups(user_id: UserId, position: int, tables: Tables) -> Scanned:
    return tables.person.sent_to_groups(user_id, position)


def _write_lines(lines: IO[bytes], user: User, messages: list[Message]) -> None:
    encode, page = msgspec.json.encode, io.BytesIO()
    for message in messages:
        page.write(encode(_line(user, message)) + b"\n")
    lines.write(page.getvalue())


def _line(user: User, message: Message) -> Line:
    seconds, ms = divmod(message.sent_at_ms, 1000)
    return Line(
        seq=message.seq,
        at=f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03}Z",
        sender=message.sender_name,
        to=f"#{message.group_id}" if message.group_id else message.to_name,
        text=message.body,
        state=message.state.name.lower(),
        version=message.version,
        reply_to=message.reply_to,
        fp=message.fp if message.sender_id == user.id else "",
        files=message.attachments,
    )
