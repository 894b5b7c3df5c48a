"""Which files and directories of a configuration must be safe from other users of this host.

Owns: the list: the file itself, secret files, the directories, the database, certificates and keys.
Elsewhere: judging one of them (strict_modes), reading the configuration (config.load).
Fails: ConfigError with all that is wrong, one line each.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from chatd.config import urls
from chatd.config.load import Loaded
from chatd.config.render import holds_secret
from chatd.errors import ConfigError
from chatd.strict_modes import StrictModes

DATABASE_FILES = ("", "-wal", "-shm", ".lock")
"""What is appended to the name of an SQLite database for the files beside it."""
HINT = "other users of this host could read or change these; --no-strict starts chatd in spite of that (containers)"


def check(loaded: Loaded) -> None:
    """Raises: ConfigError."""
    found = problems(loaded)
    if found:
        raise ConfigError(*found, HINT)


def problems(loaded: Loaded) -> tuple[str, ...]:
    """One line for each file or directory that is not safe. Call it as the user who starts chatd."""
    server = loaded.config.server
    strict = StrictModes({os.geteuid(), *_uid_of(server.user)})
    if loaded.file is not None:
        strict.file(loaded.file, secret=holds_secret(loaded))
        for name, secret in loaded.secrets.items():
            kind, _, where = secret.text.partition(":")
            if kind == "file":
                strict.file(loaded.file.parent / where, secret=not name.endswith("public_key"))
    for folder in (server.state_dir, server.runtime_dir, server.log_dir):
        if folder != "-":
            strict.directory(folder)
    if loaded.config.files.dir:
        strict.directory(loaded.config.files.dir)
    for one in loaded.config.listen:
        for pair in one.certificates:
            strict.file(pair.certificate, secret=not pair.key)
            if pair.key:
                strict.file(pair.key, secret=True)
    for key in loaded.config.token_key:
        if key.jwks and not urls.is_http(key.jwks):
            strict.file(key.jwks)
    _check_store(loaded.config.store.url, strict)
    _check_redis(loaded.config.bus.url, strict)
    return strict.problems


def _uid_of(user: str) -> list[int]:
    """Empty for "" and for a user who does not exist, which config.validate reports."""
    try:
        return [pwd.getpwnam(user).pw_uid] if user else []
    except KeyError:
        return []


def _check_store(url: str, strict: StrictModes) -> None:
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        path = Path(rest)
        strict.directory(path.parent)
        for more in DATABASE_FILES:
            strict.file(f"{path}{more}", secret=not more.endswith("lock"))
    elif scheme == "mysql" and (authority := urls.parse_mysql(url).ssl_ca):
        strict.file(authority)


def _check_redis(url: str, strict: StrictModes) -> None:
    if url.partition(":")[0] in urls.REDIS_SCHEMES:
        options = urls.parse_redis(url).options
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if options.get(name):
                strict.file(options[name], secret=name == "ssl_keyfile")
