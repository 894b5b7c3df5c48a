"""Whatever arrives, at length, where strangers are to be kept out: the signed bus, penalties, the parsers, the log."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from chatd import invite_codes, log, orders, security_log, sources
from chatd.bus.redis.envelope import Forged, Opener, Sealer, TooNew
from chatd.bus.redis.keyring import Keyring
from chatd.config.penalty_options import PenaltyOptions
from chatd.config.schema import CertificateOptions, Config, LogOptions
from chatd.core import bus_messages
from chatd.core.penalties import Origin, Penalties
from chatd.errors import ErrorCode, Refused
from chatd.master import requests
from chatd.penalty_table import Kind, PenaltyTable
from chatd.security_log import EVENTS
from chatd.texts import fields, names
from chatd.tls.certificates import CertificateError, load
from chatd.tls.contexts import ServerContexts
from chatd.wire.mobileimsdk import token
from tests.core.test_bus_messages import EXAMPLES
from tests.fuzz.penalty_model import SUBJECTS, Comparison
from tests.fuzz.shares import rounds
from tests.fuzz.texts import CONTROL_LINES, LINES, STRANGE, some_text
from tests.harness.certificates import Certificate
from tests.net.test_proxy_header import decided_once, whatever
from tests.test_orders import ANSWERS, ORDERS
from tests.wire.test_fuzz import mutate

# ---------------------------------------------------------------- the bus

CHANNELS = [b"chatd:u1", b"chatd:g1", b"chatd:all"]
MESSAGES = [bus_messages.encode(message) for message, _ in EXAMPLES]
NOT_A_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a reader of the bus drops (core.core)."""


class Forger:
    """Has read everything that two workers publish, and publishes it changed, moved, again, and with other keys."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        good = [Sealer(rng.randbytes(8), Keyring(["the key of this cluster"])) for _ in range(2)]
        self.genuine: dict[tuple[bytes, bytes], bytes] = {}
        for _ in range(6):
            channel, data = rng.choice(CHANNELS), rng.choice(MESSAGES)
            self.genuine[channel, rng.choice(good).message(channel, data)] = data
        self.others = [
            Sealer(rng.randbytes(8), Keyring(keys)) for keys in ([], ["a guess"], ["the key of this cluster "])
        ]

    def publish(self) -> tuple[bytes, bytes]:
        """Channel and message."""
        (channel, raw), data = self.rng.choice([*self.genuine.items()])
        match self.rng.randrange(5):
            case 0:
                return channel, mutate(raw, self.rng)
            case 1:
                return self.rng.choice(CHANNELS), raw
            case 2:
                return channel, self.rng.choice(self.others).message(channel, data)
            case 3:
                return channel, raw[: self.rng.randrange(len(raw))]
            case _:
                return channel, raw


def opened(opener: Opener, channel: bytes, raw: bytes) -> bytes | None:
    try:
        return opener.content(channel, raw)
    except (Forged, TooNew, ValueError):
        return None


def test_the_bus() -> None:
    """Only what was signed is accepted, where it was published, and once; and what a neighbour writes is a message, or
    is dropped."""
    accepted = 0
    read: set[bool] = set()
    table = PenaltyTable(4)
    penalties = Penalties(table, Config)

    def play(rng: random.Random) -> None:
        nonlocal accepted
        forger = Forger(rng)
        checking, open_to_all = Opener(Keyring(["an older key", "the key of this cluster"])), Opener(Keyring())
        left = dict(forger.genuine)
        for _ in range(60):
            channel, raw = forger.publish()
            if (data := opened(checking, channel, raw)) is not None:
                assert left.pop((channel, raw), None) == data, "accepted though nobody has published it there just now"
                accepted += 1
            opened(open_to_all, channel, raw)
        for _ in range(20):
            read.add(understood(mutate(rng.choice(MESSAGES), rng), penalties))
        entries(rng)

    assert rounds("bus", play) > 10
    table.close()
    assert accepted > 10
    assert read == {True, False}, "the mutations are too wild or too tame"


def understood(data: bytes, penalties: Penalties) -> bool:
    try:
        message = bus_messages.decode(data)
    except NOT_A_MESSAGE:
        return False
    assert bus_messages.decode(bus_messages.encode(message)) == message
    if isinstance(message, bus_messages.PenaltiesCounted):
        penalties.merge(message.records)
    return True


def entries(rng: random.Random) -> None:
    """The same for what workers write about themselves."""
    keyring = Keyring(["the key of this cluster"])
    body = msgspec.json.encode({"token": "abc", "epoch": rng.randrange(9), "host": rng.choice(LINES)})
    name = b"workers\0abc"
    entry = keyring.signed_json(name, body)
    assert keyring.verified_json(name, entry) == body
    assert keyring.verified_json(b"workers\0abd", entry) is None
    for _ in range(5):
        assert keyring.verified_json(name, mutate(entry, rng)) in (None, body)


# ---------------------------------------------------------------- penalties

SOURCES = ["192.0.2.1", "192.0.2.2", "2001:db8::/64", "2001:db8:0:1::/64", "10.0.0.1", ""]
OPTIONS = PenaltyOptions(allow=("10.0.0.0/8",), failures=3, account_failures=6, first_s=2.0, max_s=60.0)


class Doorkeepers:
    """Two hosts that count, and tell each other what they have counted, while somebody also tells them nonsense."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.at_ms = 10**9
        self.tables = [PenaltyTable(8), PenaltyTable(8)]
        config = Config(penalties=OPTIONS)
        self.hosts = [Penalties(table, lambda: config, lambda: self.at_ms) for table in self.tables]
        self.refusals = 0

    def step(self) -> None:
        host = self.rng.choice(self.hosts)
        source, subject = self.rng.choice(SOURCES), self.rng.choice(SUBJECTS)
        origin = Origin(source, source.partition("/")[0], "chatserver", self.rng.random() < 0.3)
        known = self.rng.random() < 0.3
        if (refused := refusal(host, subject, origin, known=known)) is not None:
            assert refused.code == ErrorCode.TOO_MANY_ATTEMPTS
            assert 0 < int(refused.text.split()[-2]) <= OPTIONS.max_s
            self.refusals += 1
        else:
            host.failed(subject, origin, known=known)
        if not source or source.startswith("10."):
            host.check_source(origin)  # never refused
        self.tell(host)
        host.round()
        self.at_ms += self.rng.choice([0, 0, 100, 3_000, 70_000])

    def tell(self, host: Penalties) -> None:
        """It shortens no penalty, makes none longer than the longest, and changes nothing if it is told again."""
        before = {(one.kind, one.subject): one.record.until_ms for one in host.table.all()}
        told = tuple(self.told() for _ in range(self.rng.randrange(4)))
        host.merge(told)
        now = {(one.kind, one.subject): one.record for one in host.table.all()}
        assert all(now[key].until_ms >= until_ms for key, until_ms in before.items())
        assert all(record.until_ms <= self.at_ms + OPTIONS.max_s * 1000 for record in now.values())
        host.merge(told)
        assert {(one.kind, one.subject): one.record for one in host.table.all()} == now

    def told(self) -> bus_messages.PenaltyRecord:
        numbers = [0, 1, 999, 5_000, 60_000, -1, 2**31, 2**62, 2**63 - 1, -(2**63), 2**64 - 1]
        return bus_messages.PenaltyRecord(
            kind=self.rng.choice([*map(int, Kind), 0, 99, -1]),
            subject=self.rng.choice([*SOURCES, *SUBJECTS]),
            offences_milli=self.rng.choice(numbers),
            offended_ago_ms=self.rng.choice(numbers),
            remaining_ms=self.rng.choice(numbers),
        )

    def close(self) -> None:
        for table in self.tables:
            table.close()


def refusal(host: Penalties, subject: str, origin: Origin, *, known: bool) -> Refused | None:
    try:
        host.check_source(origin)
        host.check_account(subject, origin, known=known)
    except Refused as refused:
        return refused
    return None


def test_penalties(capfd: pytest.CaptureFixture[str]) -> None:
    refusals = replaced = 0

    def play(rng: random.Random) -> None:
        nonlocal refusals, replaced
        doorkeepers = Doorkeepers(rng)
        for _ in range(100):
            doorkeepers.step()
        refusals += doorkeepers.refusals
        doorkeepers.close()
        table = PenaltyTable(1)
        comparison = Comparison(table, rng)
        comparison.play(300)
        replaced += comparison.replaced
        table.close()
        capfd.readouterr()

    assert rounds("penalties", play) >= 3
    assert refusals >= 10
    assert replaced >= 10


# ---------------------------------------------------------------- parsers


def check_texts(rng: random.Random) -> bool:
    """Whether the name was accepted."""
    text = some_text(rng)
    for accept in (fields.name, fields.line, fields.paragraphs):
        stored = stored_or_refused(lambda text, accept=accept: accept("the text", text, 50), text)
        if isinstance(stored, Refused):
            assert stored.code == ErrorCode.BAD_FIELD
            assert stored.text.isascii()
    names.is_reserved(text, ["admin", "root"])
    names.skeleton_hash(text)
    stored = stored_or_refused(lambda text: names.new_name(text, 50, digits=False), text)
    if isinstance(stored, Refused):
        assert stored.code == ErrorCode.NAME_NOT_ALLOWED
        stored.text.encode()
    return isinstance(stored, str)


def stored_or_refused(accept: Callable[[str], str], text: str) -> str | Refused:
    """What is stored can be written as UTF-8, and is accepted as it is."""
    try:
        stored = accept(text)
    except Refused as refused:
        return refused
    stored.encode()
    assert accept(stored) == stored
    return stored


def check_codes(rng: random.Random) -> None:
    code = invite_codes.new()
    symbols = invite_codes.read(code)
    assert invite_codes.split(f"{code}:secret:1") == (code, "secret:1")
    at = rng.choice([number for number, one in enumerate(code) if one != "-"])
    other = rng.choice([one for one in "0123456789ABCDEFGHJKMNPQRSTVWXYZ" if one != code[at]])
    assert invite_codes.read(code[:at] + other + code[at + 1 :]) == "", "a slip of one key"
    changed = mutate(code.encode(), rng).decode(errors="replace")
    assert invite_codes.read(changed) == "" or len(invite_codes.read(changed)) == len(symbols)
    invite_codes.split(some_text(rng))
    datagram = rng.choice([rng.randbytes(rng.randrange(60)), b"x" * 24 + b'{"type":1}', b'{"type":1}'])
    assert b"".join(token.split(datagram)) == datagram


def check_addresses(rng: random.Random) -> None:
    text = mutate(rng.choice([b"192.0.2.1:5", b"[2001:db8::1%eth0]:5", b"unix", b"[::ffff:1.2.3.4]:1"]), rng)
    source = sources.source_of(text.decode(errors="replace"))
    site = sources.site_of(source)
    assert site == "" or site.endswith("/48")
    assert source in sources.Networks(["0.0.0.0/0", "::/0"])
    decided_once(whatever(rng))


def check_orders(rng: random.Random) -> bool:
    """Whether the request was understood."""
    data = mutate(rng.choice([*map(orders.encode, [*ORDERS, *ANSWERS])]), rng)
    for decode in (orders.decode_order, orders.decode_answer):
        try:
            decode(data)
        except orders.MalformedMessage:
            continue
    try:
        requests.decode(mutate(rng.choice(CONTROL_LINES), rng))
    except orders.MalformedMessage:
        return False
    return True


def test_parsers() -> None:
    outcomes = set()

    def play(rng: random.Random) -> None:
        for _ in range(20):
            outcomes.update({("name", check_texts(rng)), ("request", check_orders(rng))})
            check_codes(rng)
            check_addresses(rng)

    assert rounds("parsers", play) > 5
    assert len(outcomes) == 4, "the mutations are too wild or too tame"


def test_certificates(tmp_path: Path) -> None:
    """A file that is broken somewhere is refused, or can be used; and nothing of a key is told."""
    certificate = Certificate(tmp_path / "good")
    pem, key = certificate.pem.read_bytes(), certificate.key.read_bytes()
    pem_file, key_file = tmp_path / "pem", tmp_path / "key"
    key_file.touch(0o600)
    outcomes = set()

    def play(rng: random.Random) -> None:
        broken = rng.choice(["pem", "key", "none"])
        pem_file.write_bytes(damaged(pem, rng) if broken == "pem" else pem)
        key_file.write_bytes(damaged(key, rng) if broken == "key" else key)
        told = why_not(CertificateOptions(certificate=str(pem_file), key=str(key_file)))
        assert not any(line in told for line in key.decode().splitlines() if not line.startswith("-----"))
        assert not told or broken != "none"
        outcomes.add((broken, not told))

    assert rounds("certificates", play) > 10
    assert outcomes >= {("pem", False), ("key", False), ("none", True)}


def damaged(pem: bytes, rng: random.Random) -> bytes:
    """In its text, or in what the text stands for."""
    if rng.random() < 0.3:
        return mutate(pem, rng)
    first, *lines, last = pem.splitlines()
    data = mutate(base64.b64decode(b"".join(lines)), rng)
    return b"\n".join([first, base64.encodebytes(data).strip(), last, b""])


def why_not(files: CertificateOptions) -> str:
    """What the operator is told; "" if it can be used."""
    try:
        ServerContexts([load(files)])
    except CertificateError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------- the log


@pytest.fixture
def put_back() -> Iterator[None]:
    yield
    log.setup(LogOptions(format="text"), "-")


def test_the_security_trail(tmp_path: Path, capfd: pytest.CaptureFixture[str], put_back: None) -> None:
    """Each record is one line, which begins with what the server says itself, whatever strangers have written."""
    written = {"json": 0, "text": 0}

    def play(rng: random.Random) -> None:
        folder = tmp_path / f"{time.monotonic_ns()}"
        folder.mkdir()
        for form in written:
            log.setup(LogOptions(format=form), str(folder) if form == "json" else "-")  # type: ignore[arg-type]
            count = 0
            for _ in range(20):
                event = rng.choice([*EVENTS])
                hostile = {
                    "name": some_text(rng),
                    "detail": rng.choice(STRANGE),
                    "text": f"[NORMAL] source={some_text(rng)}",
                }
                security_log.record(event, source=f"192.0.2.{count}", reason="wrong_password", **hostile)
                count += 1
            check_records(form, count, folder, capfd.readouterr().err)
            written[form] += count

    assert rounds("trail", play) >= 3
    assert min(written.values()) > 50


def check_records(form: str, count: int, folder: Path, printed: str) -> None:
    if form == "text":
        lines = printed.encode().split(b"\n")[:-1]
        assert len(lines) == count
        for number, line in enumerate(lines):
            assert line.decode().isprintable()
            head = line.decode().split(" security=")[1]
            assert head.split(" ")[1] == f"source=192.0.2.{number}"
        return
    lines = [line for path in folder.iterdir() for line in path.read_bytes().split(b"\n")[:-1]]
    records = [json.loads(line) for line in lines]
    assert sorted(one["source"] for one in records) == sorted(f"192.0.2.{number}" for number in range(count))
    assert all(line.decode().isprintable() for line in lines)
    assert all([*one][5:8] == ["security", "source", "reason"] for one in records)
