"""The checks of [files].

Owns: what may be said there.
Elsewhere: the options (config.files_options), all other checks (config.validate), whether the place can be used
(files.contract.Blobs.check).
Fails: never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from chatd.config.schema import Config

S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[A-Za-z0-9._/-]*)?", re.ASCII)
_URL = re.compile(r"https?://[^/?#\s@]+", re.ASCII)
_TYPE = re.compile(r"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)", re.ASCII)


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """(option, what is wrong with it)"""
    options = config.files
    if options.dir and options.s3:
        yield "files.s3", "files are kept in one place: remove files.dir or files.s3"
    if options.s3 and not S3.fullmatch(options.s3):
        yield "files.s3", f"expected s3://BUCKET/PREFIX, got {options.s3}"
    if options.dir:
        for name in ("state_dir", "runtime_dir", "log_dir"):
            other = getattr(config.server, name)
            if other != "-" and (Path(options.dir) == Path(other) or Path(options.dir) in Path(other).parents):
                yield "files.dir", f"must be a directory of its own, and server.{name} is {other}"
    if options.url and not _URL.fullmatch(options.url):
        yield "files.url", f"expected http://HOST:PORT or https://HOST:PORT, without a path, got {options.url}"
    for one in options.types:
        if not _TYPE.fullmatch(one):
            yield (
                "files.types",
                f'expected media types in lower case, such as "image/png", "image/*" or "*/*", got {one}',
            )
    if options.quota_bytes and options.quota_bytes < options.max_bytes:
        yield "files.quota_bytes", f"less than files.max_bytes, which is {options.max_bytes}"
