"""How many guesses penalties leave, in simulated time; merging what other hosts have counted."""

from __future__ import annotations

import msgspec
import pytest

from chatd.config.penalty_options import PenaltyOptions
from chatd.config.schema import Config
from chatd.core.bus_messages import PenaltyRecord
from chatd.core.penalties import Origin, Penalties
from chatd.errors import Refused
from chatd.penalty_table import Key, Kind, PenaltyTable


class Trial:
    def __init__(self, **options: object) -> None:
        self.at_ms = 1_000_000
        config = Config(penalties=PenaltyOptions(**options))  # type: ignore[arg-type]
        self.penalties = Penalties(PenaltyTable(sets=64), lambda: config, lambda: self.at_ms)

    def guess(self, source: str, account: str = "7", *, known: bool = False, forgeable: bool = False) -> bool:
        """Whether it was looked at; if so, it was wrong."""
        origin = Origin(source, forgeable=forgeable)
        try:
            self.penalties.check_source(origin)
            self.penalties.check_account(account, origin, known=known)
        except Refused:
            return False
        self.penalties.failed(account, origin, known=known)
        return True

    def registers(self, source: str) -> bool:
        try:
            self.penalties.admit_registration(Origin(source))
        except Refused:
            return False
        return True

    def guesses(self, seconds: int, sources: int = 1) -> int:
        """As many as an attacker who tries ten times a second can make."""
        count = 0
        for number in range(seconds * 10):
            count += self.guess(f"10.1.{number % sources >> 8}.{number % sources & 255}")
            self.at_ms += 100
        return count


def test_guesses_of_one_address_in_an_hour() -> None:
    assert Trial().guesses(4) == 6
    assert Trial().guesses(3600) <= 20


def test_guesses_of_a_thousand_addresses_at_one_account_in_an_hour() -> None:
    trial = Trial()
    assert trial.guesses(3600, 1000) <= 40
    assert not trial.guess("192.0.2.1")
    assert trial.guess("192.0.2.1", known=True)


def test_an_ipv6_site_has_eight_times_the_guesses_and_no_more() -> None:
    trial = Trial(account_failures=10_000)
    assert sum(trial.guess(f"2001:db8:1:{n:x}::/64", f"{n}") for n in range(1000)) == 8 * 5 + 1
    assert trial.guess("2001:db8:2:1::/64")


def test_an_ipv6_site_has_eight_times_the_registrations_and_no_more() -> None:
    trial = Trial(registrations=10)
    admitted = sum(trial.registers(f"2001:db8:1:{n:x}::/64") for n in range(1000))
    assert admitted == 8 * 10
    assert trial.registers("2001:db8:2:1::/64")
    assert trial.registers("192.0.2.1")


def test_forged_datagrams_bring_no_penalty_for_streams() -> None:
    trial = Trial()
    assert sum(trial.guess("192.0.2.1", forgeable=True) for _ in range(50)) == 6
    assert trial.guess("192.0.2.1")


def test_an_allowed_source_has_no_penalty_but_the_account_has_with_it() -> None:
    trial = Trial(allow=("192.0.2.0/24",))
    assert sum(trial.guess("192.0.2.1") for _ in range(50)) == 21
    assert trial.guess("192.0.2.1", "8")
    assert trial.guess("198.51.100.1")


def test_failures_are_forgiven_when_the_penalty_is_over() -> None:
    trial = Trial()
    trial.guesses(4)
    trial.at_ms += 20 * 600 * 1000
    assert trial.guesses(4) == 6


@pytest.mark.parametrize("times", [1, 3])
def test_the_worse_record_of_two_hosts_counts_however_often_it_is_told(times: int) -> None:
    trial = Trial()
    told = PenaltyRecord(int(Kind.SOURCE), "192.0.2.1", 6000, 0, 10_000)
    for _ in range(times):
        trial.penalties.merge([told, msgspec.structs.replace(told, kind=99)])
    assert not trial.guess("192.0.2.1")
    record = trial.penalties.table.read(Key(Kind.SOURCE, "192.0.2.1"))
    assert (record.offences, record.until_ms) == (6.0, trial.at_ms + 10_000)
    trial.penalties.merge([msgspec.structs.replace(told, offences_milli=1000, remaining_ms=0)])
    assert trial.penalties.table.read(Key(Kind.SOURCE, "192.0.2.1")) == record
