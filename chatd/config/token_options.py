"""The sections [tokens], [[token_key]] and [login_http] of the configuration: logins that another program vouches for.

Owns: TokenOptions, TokenKeyOptions, LoginHttpOptions.
Elsewhere: which kinds of login are accepted (config.account_options), the whole schema (config.schema), checks across
options (config.validate), what the options mean (tokens, core.tokens, core.backend_logins).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chatd.config.option import option

_ALLOW_PRIVATE = (
    "addresses or networks that may be reached although they are not public, such as 127.0.0.1 or 10.0.0.0/8: without "
    "it, whoever runs the DNS of the URL could direct requests into your own network"
)


class TokenOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[tokens]"""

    audience: Annotated[
        tuple[str, ...],
        option("a token's `aud` must be, or contain, one of these; [] = it is not looked at", "live"),
    ] = ()
    issuer: Annotated[
        tuple[str, ...], option("a token's `iss` must be one of these; [] = it is not looked at", "live")
    ] = ()
    leeway_s: Annotated[
        float, option("how far the clocks of this host and of the issuer may be apart", "live", ge=0, le=300)
    ] = 10.0
    max_lifetime_s: Annotated[
        float,
        option(
            "a token that lives longer, from its `iat` (or now) to its `exp`, is refused; 0 = any lifetime",
            "live",
            ge=0,
            le=10 * 366 * 86400,
        ),
    ] = 86400.0
    jwks_refresh_s: Annotated[
        float,
        option(
            "how often a key set at a URL is fetched again; a token of an unknown key fetches it at once, at most "
            "every 10 s",
            "live",
            ge=10,
            le=86400,
        ),
    ] = 300.0
    jwks_keep_s: Annotated[
        float,
        option(
            "how long the keys of a key set stay in force while it cannot be read: whoever keeps the server from "
            "reading it could use a key that was taken out for as long; 0 = without limit",
            "live",
            ge=0,
            le=366 * 86400,
        ),
    ] = 86400.0
    allow_private: Annotated[tuple[str, ...], option(f"key sets at a URL: {_ALLOW_PRIVATE}", "worker")] = ()


class TokenKeyOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[token_key]], a key that signs login tokens, or a set of them"""

    kid: Annotated[
        str, option('name of the key, as in the `kid` of tokens; "" = for tokens whose `kid` no other key has', "live")
    ] = ""
    algorithm: Annotated[
        Literal["", "HS256", "RS256", "ES256", "EdDSA"],
        option('the one algorithm that the key is used with; "" = as each key of the key set says', "live"),
    ] = ""
    secret: Annotated[
        str,
        option(
            "HS256: the secret, at least 32 bytes; otherwise a private key in PEM, for a key with mints. Use "
            '"file:PATH" or "env:NAME"',
            "live",
            secret=True,
        ),
    ] = ""
    public_key: Annotated[
        str, option('RS256, ES256, EdDSA: "file:PATH" of the public key in PEM, or its text', "live")
    ] = ""
    jwks: Annotated[
        str,
        option(
            "a key set (JWKS) instead of one key: https://… or a file, relative to this file; it is read again in the "
            "background, and the keys known last are kept while it cannot be read, for tokens.jwks_keep_s",
            "live",
        ),
    ] = ""
    mints: Annotated[
        bool,
        option("the server may sign tokens with it (chatctl token, the HTTP API); the first such key does", "live"),
    ] = False


class LoginHttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[login_http], the backend that is asked if accounts.login has "http" """

    url: Annotated[str, option("where each login is sent by POST, as JSON (docs/tokens.md)", "live")] = ""
    secret: Annotated[
        str,
        option(
            'sent as "Authorization: Bearer …", by which the backend knows this server; use "file:PATH" or "env:NAME"',
            "live",
            secret=True,
        ),
    ] = ""
    time_limit_s: Annotated[
        float, option("how long the backend may take; then the client is told to try again", "live", ge=0.1, le=30)
    ] = 3.0
    cache_s: Annotated[
        float,
        option("how long a granted login is granted again without asking; 0 = ask each time", "live", ge=0, le=3600),
    ] = 30.0
    allow_private: Annotated[tuple[str, ...], option(_ALLOW_PRIVATE, "worker")] = ()
    at_once: Annotated[
        int, option("maximum questions under way, per worker; a quarter of them from one source", "live", ge=1, le=1000)
    ] = 50
