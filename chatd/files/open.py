"""The place for the content of files that a configuration names.

Owns: which place that is.
Elsewhere: the options (config.files_options), the places (files.directory, files.s3).
Fails: BootError 78 if the object store's library is missing or its settings are wrong; nothing is read or written.
"""

from __future__ import annotations

from pathlib import Path

from chatd.config.files_options import FilesOptions
from chatd.errors import BootError, Exit
from chatd.files.content import FileContent
from chatd.files.contract import Blobs
from chatd.files.directory import DirectoryBlobs


def open_blobs(options: FilesOptions) -> Blobs | None:
    """None: no place is configured. Raises: BootError."""
    if options.s3:
        try:
            from chatd.files.s3 import S3Blobs
        except ImportError as error:
            raise BootError(f"files.s3 needs obstore: pip install 'chatd[s3]' ({error})", Exit.CONFIG) from None
        return S3Blobs(options.s3, options.s3_settings)
    return DirectoryBlobs(Path(options.dir)) if options.dir else None


def open_content(options: FilesOptions) -> FileContent | None:
    """For the event loop of a worker. Raises: BootError."""
    blobs = open_blobs(options)
    return None if blobs is None else FileContent(blobs)
