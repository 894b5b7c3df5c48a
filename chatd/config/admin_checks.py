"""The checks of listeners that serve the operator's page.

Owns: what a configuration with such a listener must have.
Elsewhere: all other checks (config.validate), logging in there (core.administrators).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterator

from chatd.config import urls
from chatd.config.schema import Config

_NO_TLS = (
    '"admin" needs TLS here: write https://, name the load balancer with TLS in front in proxy_from, or listen on '
    "127.0.0.1"
)
_NO_PENALTIES = (
    'must be true where [[listen]] serves "admin": without penalties, codes of the second factor are guessed'
)


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """(option, what is wrong with it)"""
    found = [(index, one) for index, one in enumerate(config.listen) if "admin" in one.serves]
    for index, one in found:
        try:
            where = urls.parse(one.address)
        except ValueError:
            continue  # told by config.validate
        if not one.proxy_from and urls.is_public(where):
            yield f"listen[{index}].serves", _NO_TLS
    if found and not config.penalties.enabled:
        yield "penalties.enabled", _NO_PENALTIES
