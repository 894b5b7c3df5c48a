"""The section [files] of the configuration.

Owns: FilesOptions; whether a server takes files, and of which types.
Elsewhere: the whole schema (config.schema), checks with other options (config.validate), what the options mean
(docs/files.md), where the content is (chatd.files).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from chatd.config.option import option

SAFE_TYPES = (
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "audio/mpeg",
    "audio/ogg",
    "audio/mp4",
    "audio/webm",
    "video/mp4",
    "video/webm",
    "application/pdf",
    "application/zip",
    "text/plain",
    "text/csv",
)
"""Types of files that programs open without running what is in them."""


class FilesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[files], files that people send. Off as long as neither dir nor s3 is given"""

    dir: Annotated[
        str,
        option(
            "directory of the content of files, which nothing else uses; relative to this file. On several hosts, one "
            'that all of them share; "" = none',
            "restart",
        ),
    ] = ""
    s3: Annotated[
        str,
        option(
            "instead of dir, where to keep the content in an object store: s3://BUCKET/PREFIX. Credentials and "
            "endpoint as AWS tools take them from the environment, or from s3_settings; needs chatd[s3]",
            "restart",
        ),
    ] = ""
    s3_settings: Annotated[
        str,
        option(
            'settings of the object store, one NAME=VALUE per line, such as AWS_ACCESS_KEY_ID: "file:PATH" or '
            '"env:NAME"; "" = only those of the environment',
            "restart",
            secret=True,
        ),
    ] = ""
    url: Annotated[
        str,
        option(
            "address at which browsers reach a listener that serves files, without a path: https://HOST. Links for "
            'clients that know no files begin with it; "" = these clients get names and sizes only',
            "live",
        ),
    ] = ""
    max_bytes: Annotated[int, option("maximum size of a file", "live", ge=1, le=1024 * 1024 * 1024)] = 25 * 1024 * 1024
    types: Annotated[
        tuple[str, ...],
        option('media types that are accepted; "image/*" = all images, "*/*" = everything', "live"),
    ] = SAFE_TYPES
    quota_bytes: Annotated[
        int,
        option(
            "maximum size of all files of one user together, of which each counts at least 4 KiB; 0 = no limit",
            "live",
            ge=0,
            le=1 << 50,
        ),
    ] = 1024 * 1024 * 1024
    per_message: Annotated[int, option("maximum files of one message", "live", ge=1, le=50)] = 10
    link_s: Annotated[
        int, option("how long an address for uploading or downloading is good", "live", ge=60, le=604_800)
    ] = 3600
    stock_link_s: Annotated[
        int,
        option("how long an address for a client that knows no files is good", "live", ge=60, le=10 * 365 * 86_400),
    ] = 604_800
    unfinished_s: Annotated[
        int,
        option(
            "time after which a file that was not sent with a message is deleted, from its announcement",
            "live",
            ge=600,
            le=31 * 86_400,
        ),
    ] = 86_400

    @property
    def on(self) -> bool:
        """Whether this server takes files."""
        return bool(self.dir or self.s3)

    def accepts(self, media_type: str) -> bool:
        """media_type: in lower case, without parameters."""
        family = media_type.partition("/")[0]
        return any(one in (media_type, f"{family}/*", "*/*") for one in self.types)
