"""Which options of logins make sense together: the kinds of login, the keys of tokens, the backend.

Owns: the list of mistakes.
Elsewhere: reporting them (config.validate), the options (config.account_options, config.token_options), whether a key
can be used (tokens.keys).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterator

from chatd.config import urls
from chatd.config.options import toml
from chatd.config.schema import Config
from chatd.config.token_options import TokenKeyOptions

_Problem = tuple[str, str]
"""The option, and what is wrong with it."""


def problems(config: Config) -> Iterator[_Problem]:
    """All mistakes that can be seen without reading a key or asking anybody."""
    yield from _of_kinds(config)
    if config.login_http.url:
        yield from _of_url("login_http.url", config.login_http.url, private=bool(config.login_http.allow_private))
    kids: dict[str, int] = {}
    for index, one in enumerate(config.token_key):
        label = f"token_key[{index}]"
        if one.kid and kids.setdefault(one.kid, index) != index:
            yield f"{label}.kid", f"{toml(one.kid)} is also token_key[{kids[one.kid]}]"
        yield from _of_key(one, label, private=bool(config.tokens.allow_private))


def _of_kinds(config: Config) -> Iterator[_Problem]:
    accounts, kinds = config.accounts, config.accounts.kinds
    if kinds == ("open",) and not accounts.insecure_open_login:
        yield "accounts.login", '"open" lets anybody log in as anybody; it needs insecure_open_login = true as well'
    if not kinds or len(set(kinds)) < len(kinds):
        yield "accounts.login", 'must name "password", "token" or "http" at least once, and none twice'
    if "token" in kinds and not config.token_key:
        yield "accounts.login", '"token" needs at least one [[token_key]], which tokens are signed with'
    if "http" in kinds and not config.login_http.url:
        yield "accounts.login", '"http" needs login_http.url, the backend that is asked'
    if accounts.registration != "closed" and accounts.has_vouched_names and "password" not in kinds:
        text = 'must be "closed" while accounts.login accepts no passwords: nobody could log in to such an account'
        yield "accounts.registration", text


def _of_key(one: TokenKeyOptions, label: str, *, private: bool) -> Iterator[_Problem]:
    if sum(map(bool, (one.secret, one.public_key, one.jwks))) != 1:
        yield label, "needs exactly one of secret, public_key and jwks"
    elif one.jwks:
        if one.mints or one.kid or one.algorithm == "HS256":
            yield label, "a key set has the kid of each of its keys, and none that signs or is for HS256"
        if urls.is_http(one.jwks):
            yield from _of_url(f"{label}.jwks", one.jwks, private=private)
    elif not one.algorithm:
        yield f"{label}.algorithm", "is missing: a key is used with one algorithm only"
    elif one.algorithm == "HS256" and one.public_key:
        yield f"{label}.public_key", "is not for HS256, which needs a secret"
    elif one.mints and one.public_key:
        yield f"{label}.mints", "needs secret: a public key cannot sign"


def _of_url(key: str, url: str, *, private: bool) -> Iterator[_Problem]:
    try:
        urls.check_http(url, private=private)
    except ValueError as error:
        yield key, str(error)
