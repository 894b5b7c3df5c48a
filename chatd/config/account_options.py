"""The section [accounts] of the configuration.

Owns: AccountOptions.
Elsewhere: the whole schema (config.schema), keys of tokens and the backend (config.token_options), what the options
mean (core.accounts, core.authentication, core.registration, core.password_policy).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chatd.config.option import option

RESERVED_NAMES = (
    *("admin", "administrator", "root", "superuser", "system", "sysadmin", "sysop", "server", "chatd", "daemon"),
    *("operator", "moderator", "mod", "staff", "official", "support", "helpdesk", "service", "security", "abuse"),
    *("postmaster", "hostmaster", "webmaster", "everyone", "everybody"),
)
"""Names by which users expect to be spoken to by those who run the server, or to speak to all."""

LoginKind = Literal["password", "token", "http", "open"]
SeveralKinds = Literal["password", "token", "http"]


class AccountOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[accounts]"""

    login: Annotated[
        LoginKind | tuple[SeveralKinds, ...],
        option(
            "how users prove who they are, one or a list in the order in which they are tried: password, token = a JWT "
            "that an application has signed ([[token_key]]), http = a backend is asked ([login_http]); open, which "
            "must be alone = every password is accepted, and the first login creates the account (for trials only)",
            "worker",
        ),
    ] = "password"
    new_at_login: Annotated[
        bool,
        option(
            "token, http: the first login of a name makes its account, which has no password; false = only accounts "
            "that exist log in",
            "live",
        ),
    ] = True
    number_names: Annotated[
        bool,
        option(
            "token, http: such an account may have a name of digits, for applications whose users are numbers. With "
            "token or http, a name is never taken for the number of another account",
            "live",
        ),
    ] = False
    end_at_expiry: Annotated[
        bool,
        option(
            "token: a session ends when the token of its login expires, unless the user logs in again on it with a "
            "fresh one",
            "live",
        ),
    ] = False
    registration: Annotated[
        Literal["closed", "invite", "open"],
        option(
            "who may register an account: closed = only the operator makes accounts, invite = whoever has an invite "
            "code (chatctl invite add), open = everybody",
            "live",
        ),
    ] = "closed"
    insecure_open_login: Annotated[bool, option('must be true for login = "open"', "worker")] = False
    argon2_memory_kib: Annotated[
        int, option("memory used to hash one password, in KiB", "worker", ge=1024, le=1048576)
    ] = 19456
    argon2_passes: Annotated[int, option("number of passes over that memory", "worker", ge=1, le=100)] = 2
    hash_threads: Annotated[int, option("threads per worker that hash passwords", "worker", ge=1, le=16)] = 1
    require_tls: Annotated[
        bool,
        option(
            "whether logins, registration, changes of passwords, and requests with a key of the HTTP API are refused "
            "on connections that others can read: all without TLS, except from this host and through a load balancer "
            "of listen.proxy_from",
            "live",
        ),
    ] = False
    reserved_names: Annotated[
        tuple[str, ...],
        option(
            "names that clients cannot register, nor names that look like them; the wires' own (0 and -1) are always "
            "reserved. `chatctl user add --reserved` creates such an account",
            "live",
        ),
    ] = RESERVED_NAMES
    min_password_chars: Annotated[
        int, option("minimum length of a new password; existing ones stay valid", "live", ge=1, le=128)
    ] = 8
    common_passwords: Annotated[
        Literal["refuse", "accept"],
        option("whether a new password may be one of those that attackers try first, or the user's own name", "live"),
    ] = "refuse"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of login that are accepted, in their order: those of `login`, one or several."""
        return (self.login,) if isinstance(self.login, str) else self.login

    @property
    def has_vouched_names(self) -> bool:
        """Another program decides who logs in under which name."""
        return "token" in self.kinds or "http" in self.kinds
