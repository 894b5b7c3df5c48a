"""Certificates of a test, and clients that trust no others.

Owns: Certificate: its files, as chatd, nginx and HAProxy want them, and what a client must be told.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate:
    """Signed by itself, for these addresses and names. chat.pem has the certificate alone, both.pem the key, too.

    from_days, days: when it becomes valid and when it expires, from now; both may be in the past.
    """

    def __init__(self, root: Path, *names: str, days: float = 60, from_days: float = -1) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.pem, self.key, self.both = root / "chat.pem", root / "chat.key", root / "both.pem"
        self.names = names or ("127.0.0.1",)
        self.issue(days, from_days)

    def issue(self, days: float = 60, from_days: float = -1) -> None:
        """A new certificate with a new key, in the same files."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = _certificate(key, self.names, days, from_days)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        replace(self.key, secret)
        replace(self.pem, pem)
        replace(self.both, pem + secret)

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.pem))

    def options(self) -> list[dict[str, str]]:
        """Of a listener of chatd."""
        return [{"certificate": str(self.pem), "key": str(self.key)}]

    def for_nginx(self) -> dict[str, str]:
        return {" /etc/nginx/chat.pem": f" {self.pem}", " /etc/nginx/chat.key": f" {self.key}"}

    def for_haproxy(self) -> dict[str, str]:
        return {" /etc/haproxy/chat.pem": f" {self.both}"}


def replace(path: Path, data: bytes) -> None:
    """Whole, as an ACME client does it."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    os.replace(fresh, path)


def _certificate(key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], days: float, from_days: float) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chat.example.com")])
    hosts: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() or ":" in one else x509.DNSName(one)
        for one in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=from_days))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
