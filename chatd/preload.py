"""Everything that a worker of a configuration needs, loaded before the first worker is forked.

Owns: which modules and data files these are. Workers are forked from a master that has them all, so files that are
changed under a running server (an upgrade that is being unpacked) are used by nobody until the operator says so: a
worker that is replaced meanwhile runs the same code as the others.
Elsewhere: using them (worker). Plug-ins are not loaded here: their code is not chatd's, and runs in workers only.
Fails: BootError 78 when mysqlclient is needed and missing; an ImportError of anything else passes through.

The master only loads them: it makes no event loop and opens no store.
"""

from __future__ import annotations

import importlib

from chatd import vouched_logins, worker
from chatd.config.schema import Config
from chatd.core.weak_passwords import is_common
from chatd.store.open import needing_mysqlclient
from chatd.texts.names import new_name

ALWAYS = (
    worker.__name__,
    "concurrent.futures.thread",
    "encodings.idna",
    "chatd.hooks.echo",
    "chatd.hooks.translate",
)
"""Modules that a worker of any configuration may import late."""
MYSQL = (
    "chatd.store.mysql.tables",
    "MySQLdb.connections",
    "MySQLdb.converters",
    "MySQLdb.cursors",
    "MySQLdb.constants.CLIENT",
    "MySQLdb.constants.CR",
    "MySQLdb.constants.FLAG",
)
REDIS = ("chatd.bus.redis.bus",)
REDIS_CLUSTER = ("chatd.bus.redis.cluster",)
TLS = ("chatd.tls.contexts",)
HTTP = ("chatd.http.server", "uvicorn.lifespan.off", "encodings.ascii")
PAGES = ("chatd.http.assets",)
ADMIN = ("chatd.http.admin.api", "chatd.http.admin.calls", "chatd.http.admin.requests")
WEBHOOKS = ("chatd.webhooks.webhooks", "chatd.webhooks.trial")
BRIDGES = ("chatd.bridges.bridges",)
FILES = ("chatd.files.directory",)
S3 = ("chatd.files.s3",)
PUSH = ("chatd.push.push",)
HTTP_FILES = ("chatd.http.files.requests", "chatd.http.files.routes")
HTTP_HOOK = ("chatd.hooks.http",)
METRICS = ("chatd.master.metrics.serving",)
"""Of the master."""


def load(config: Config) -> None:
    """Costs some hundred milliseconds. Raises: BootError."""
    with needing_mysqlclient():
        for name in modules(config):
            importlib.import_module(name)
    if pages := _served(config) & {"chat", "admin"}:
        from chatd.http.assets import BY_SERVES, assets

        for what in pages:
            assets(BY_SERVES[what])
    # Data files are read at their first use.
    is_common("preload")
    new_name("preload", longest=64, digits=False)


def _served(config: Config) -> set[str]:
    """What HTTP listeners serve (listen.serves)."""
    return {what for one in config.listen if one.protocol == "http" for what in one.serves}


def modules(config: Config) -> tuple[str, ...]:
    """Modules that a worker, or the master, imports while it runs, besides those that it imports as it starts."""
    bus = config.bus.url.partition(":")[0]
    return (
        *ALWAYS,
        *(MYSQL if config.store.url.startswith("mysql:") else ()),
        *(() if bus == "local" else REDIS),
        *(REDIS_CLUSTER if bus.endswith("+cluster") else ()),
        *(HTTP if any(one.protocol == "http" for one in config.listen) else ()),
        *(PAGES if _served(config) & {"chat", "admin"} else ()),
        *(ADMIN if "admin" in _served(config) else ()),
        *vouched_logins.late_modules(config),
        *(WEBHOOKS if config.webhook else ()),
        *(BRIDGES if config.bridge else ()),
        *(FILES if config.files.dir else ()),
        *(S3 if config.files.s3 else ()),
        *(PUSH if config.push.subject or config.push.gateways else ()),
        *(HTTP_FILES if config.files.on and any(one.protocol == "http" for one in config.listen) else ()),
        *(HTTP_HOOK if any((one.entry_point or one.name) == "http" for one in config.hook) else ()),
        *(METRICS if config.metrics.address else ()),
        *(TLS if any(one.certificates for one in config.listen) else ()),
    )
