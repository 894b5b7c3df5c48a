"""The section [penalties] of the configuration.

Owns: PenaltyOptions.
Elsewhere: the whole schema (config.schema), what the options mean to a login.
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from chatd.config.option import option


class PenaltyOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[penalties], for failed logins, failed password changes, and registrations"""

    enabled: Annotated[bool, option("whether sources and accounts with too many failures are refused", "live")] = True
    allow: Annotated[
        tuple[str, ...],
        option(
            "addresses or networks of clients that are never limited by their source and never get a penalty: of your "
            "own programs, of offices, and of load balancers that send no PROXY header; failures from them still "
            "count for the account that is tried",
            "live",
        ),
    ] = ()
    failures: Annotated[
        int,
        option(
            "failed logins of one source network (an IPv4 address, an IPv6 /64) that bring no penalty; an IPv6 /48 has "
            "eight times as many",
            "live",
            ge=0,
            le=10000,
        ),
    ] = 5
    account_failures: Annotated[
        int,
        option(
            "failed logins to one account that bring no penalty for it; a penalty of an account does not concern "
            "networks from which its user logged in before",
            "live",
            ge=0,
            le=10000,
        ),
    ] = 20
    registrations: Annotated[
        int,
        option(
            "registrations tried by one source network that bring no penalty; an IPv6 /48 has eight times as many",
            "live",
            ge=0,
            le=10000,
        ),
    ] = 10
    first_s: Annotated[
        float, option("the first penalty, in seconds; every further failure doubles it", "live", ge=0.1, le=86400)
    ] = 10.0
    max_s: Annotated[float, option("the longest penalty, in seconds", "live", ge=0.1, le=86400)] = 900.0
    forgive_s: Annotated[
        float, option("one failure is forgiven after this many seconds without a penalty", "live", ge=1, le=86400)
    ] = 600.0
    delay_s: Annotated[
        float,
        option("how long the answer to a failed login is held back, except over udp://", "live", ge=0, le=10),
    ] = 0.5
    attempts_per_connection: Annotated[
        int,
        option("failed logins after which a connection is closed; 0 = no limit", "live", ge=0, le=1000),
    ] = 3
