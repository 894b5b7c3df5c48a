"""Certificates with their keys: reading the files, checking them, names and expiry.

Owns: load(), which reads and checks the files of one certificate.
Elsewhere: the options (config.schema), when files are read (master.certificates), handshakes (tls.contexts).
Fails: CertificateError, one line that names the file and says what to do. No text contains a byte of a key.

`cryptography` is imported in the functions that need it: a server without TLS does not load it.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

import msgspec

from chatd.config.schema import CertificateOptions
from chatd.errors import ChatdError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

MAX_FILE_BYTES = 64 * 1024
"""Largest certificate or key file: a certificate with its chain has some 5 KB, a key less than 4."""


class CertificateError(ChatdError):
    """A certificate that cannot be used. Caught in master.certificates, which tells the operator."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that can be used. pem: the certificate, those that sign it, and its key. names: of hosts, lower
    case, "*.example.com" included, from the subjectAltName. expires_at: seconds since the epoch."""

    pem: bytes
    names: tuple[str, ...]
    expires_at: float

    def __repr__(self) -> str:
        """Without the key."""
        return f"Certificate({', '.join(self.names)})"


def load(files: CertificateOptions) -> Certificate:
    """The certificate in these files.

    Raises:
        CertificateError: a file cannot be read, is too large, or is not PEM; the certificate is damaged or has a key of
            an unknown kind; the key is readable by others, has a passphrase, or is another certificate's.
    """
    path = files.certificate
    data = _read(path, is_key=not files.key)
    key = _read(files.key, is_key=True) if files.key else _key_block(data)
    public_key, names, expires_at = _parsed(data, path)
    own = _load_key(key, files.key or path).public_key()
    if _bytes_of(own) != public_key:
        raise CertificateError(f"{path}: the key in {files.key} is another certificate's")
    return Certificate(pem=data + b"\n" + key if files.key else data, names=names, expires_at=expires_at)


def _parsed(data: bytes, path: str) -> tuple[bytes, tuple[str, ...], float]:
    """(public key, names, expiry) of the first certificate. The parser looks at a part of a certificate only when it is
    asked for it, so each of them may be found damaged."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificate = x509.load_pem_x509_certificates(data)[0]
        return _bytes_of(certificate.public_key()), _names(certificate), certificate.not_valid_after_utc.timestamp()
    except UnsupportedAlgorithm as error:
        raise CertificateError(f"{path}: its key is of a kind that is not supported: {error}") from None
    except (ValueError, IndexError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError(f"{path}: is not a certificate in PEM") from None


def _read(path: str, *, is_key: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise CertificateError(f"{path}: cannot be read by {_own_name()}: {_how_to_admit(path)}") from None
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CertificateError(f"{path}: is not a regular file")
        if is_key:
            _check_mode(path, found)
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise CertificateError(f"{path}: has more than {MAX_FILE_BYTES} bytes; this is not a certificate or key")
    return data


def _check_mode(path: str, found: os.stat_result) -> None:
    """A key is its owner's: root, or the user that chatd runs as. A group may read it, others may do nothing."""
    if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise CertificateError(
            f"{path}: a key that others can read or change is not used (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"chmod 0640 {path}"
        )
    if found.st_uid not in (0, os.geteuid()):
        raise CertificateError(f"{path}: a key is not used that belongs to neither root nor {_own_name()}; chown it")


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def _how_to_admit(path: str) -> str:
    return f"chgrp it to that user's group and chmod 0640 it, and 0750 its folders ({os.path.dirname(path)})"


def _bytes_of(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _load_key(key: bytes, path: str) -> PrivateKeyTypes:
    """The errors of the parser are not shown: nothing of a key may be."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(key, password=None)
    except TypeError:
        raise CertificateError(f"{path}: its key has a passphrase, which chatd cannot ask for; remove it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{path}: has no private key in PEM") from None


def _key_block(data: bytes) -> bytes:
    """The private key in a file that has the certificate as well; b"" = there is none."""
    begin = data.find(b"-----BEGIN ")
    while begin >= 0:
        line = data[begin : data.find(b"\n", begin)]
        if b"PRIVATE KEY-----" in line:
            return data[begin:]
        begin = data.find(b"-----BEGIN ", begin + 1)
    return b""


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    return (*hosts, *(str(address) for address in found.get_values_for_type(x509.IPAddress)))
