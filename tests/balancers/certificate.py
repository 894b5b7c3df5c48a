"""A certificate of a test, signed by itself, and clients that take no other.

Owns: Certificate: its files, as nginx and HAProxy want them, and what a client must be told.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Certificate:
    """For these addresses and names. chat.pem has the certificate alone, both.pem the key, too."""

    def __init__(self, root: Path, *names: str) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.pem, self.key, self.both = root / "chat.pem", root / "chat.key", root / "both.pem"
        named = ",".join(f"{'IP' if one[0].isdigit() else 'DNS'}:{one}" for one in names)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=chat.example.com", "-addext", f"subjectAltName={named}",
             "-keyout", str(self.key), "-out", str(self.pem)],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        self.both.write_text(self.pem.read_text() + self.key.read_text())

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.pem))

    def for_nginx(self) -> dict[str, str]:
        return {" /etc/nginx/chat.pem": f" {self.pem}", " /etc/nginx/chat.key": f" {self.key}"}

    def for_haproxy(self) -> dict[str, str]:
        return {" /etc/haproxy/chat.pem": f" {self.both}"}
