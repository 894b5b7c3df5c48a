"""What is verified when a login names no account, so that it costs what an account's password would.

Owns: StandInHashes. After argon2_* options were changed, a store has hashes of different cost until every user has
logged in; one stand-in for all would then tell which names are accounts. So each name has its own, with the cost of
some account: chosen by a keyed hash of the name, each cost with the share that it has in the store. The key is the
store's, so that a name costs the same on every worker and host, today and next year.
Elsewhere: verifying (core.passwords); the accounts that are looked at
(store.account_contract.AccountTables.sample_passwords).
Fails: never. As long as the store has not been looked at, the stand-ins cost what the configuration says.
"""

from __future__ import annotations

import base64
import re
import secrets
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from itertools import accumulate

SAMPLE = 256
"""Accounts looked at."""
_SPACE = 1 << 64
_COST = re.compile(r"\$argon2id\$v=\d+\$m=(\d+),t=(\d+),p=\d+(?=\$)")
_SALT_BYTES, _HASH_BYTES = 16, 32


class StandInHashes:
    def __init__(self, cost: str) -> None:
        """cost: the beginning of a hash with the parameters of the configuration, see cost_of()."""
        self._default = cost
        self._key = secrets.token_bytes(32)
        self._bounds: list[int] = []
        """Ascending. A name whose keyed hash is below the first one has the first stand-in, and so on."""
        self._stand_ins = [_stand_in(cost)]

    def of(self, name: str) -> str:
        """The stand-in for a name that no account has: a hash that no password matches."""
        key = unicodedata.normalize("NFKC", name).casefold().encode("utf-8", "surrogatepass")
        place = int.from_bytes(blake2b(key, key=self._key, digest_size=8).digest())
        return self._stand_ins[bisect_right(self._bounds, place)]

    def learn(self, key: str, passwords: Iterable[str]) -> None:
        """key: the store's, hexadecimal. passwords: the hashes of a sample of its accounts."""
        self._key = bytes.fromhex(key)
        counted = Counter(filter(None, map(cost_of, passwords))) or Counter([self._default])
        costs = sorted(counted, key=_effort)
        sums = list(accumulate(counted[cost] for cost in costs))
        self._bounds = [_SPACE * below // sums[-1] for below in sums[:-1]]
        known = {cost_of(one): one for one in self._stand_ins}
        self._stand_ins = [known.get(cost) or _stand_in(cost) for cost in costs]


def cost_of(hashed: str) -> str:
    """The beginning of a hash, which says what it costs: "$argon2id$v=19$m=19456,t=2,p=1"; "" for other texts."""
    found = _COST.match(hashed)
    return found[0] if found else ""


def _effort(cost: str) -> tuple[int, str]:
    found = _COST.match(cost + "$")
    return (int(found[1]) * int(found[2]) if found else 0), cost


def _stand_in(cost: str) -> str:
    """A hash that was never made from a password. Verifying it takes as long as with any other of its cost."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (_SALT_BYTES, _HASH_BYTES)
    )
    return f"{cost}${salt}${digest}"
