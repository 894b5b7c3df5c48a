"""The contexts in which a listener makes its handshakes: one per certificate, chosen by the name a client asks for.

Owns: the settings of TLS that are the same everywhere (versions, ciphers, no renegotiation, no tickets), and the choice
of a certificate.
Elsewhere: certificates and keys (tls.certificates), the bytes of a connection (net.tls).
Fails: CertificateError for a certificate that OpenSSL does not accept (a key too short, say); then nothing has changed.

Sessions are not resumed by tickets: the key of a ticket would have to be shared by all workers, replaced every few
hours, and would end the forward secrecy of TLS 1.2 where it leaked. Connections last for days, so a full handshake
costs next to nothing. A client that offers a ticket or a session of another worker gets a full handshake.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from chatd.tls.certificates import Certificate, CertificateError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy, and encryption with authentication. TLS 1.3 has no others."""
_OPTIONS = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET


class ServerContexts:
    """What the handshakes of one listener are made with. alpn: application protocols, the best first.

    A handshake that has begun, and every session, keeps the certificate that it began with.
    """

    __slots__ = ("_alpn", "_default")

    def __init__(self, certificates: Sequence[Certificate], alpn: Sequence[str] = ()) -> None:
        """certificates: at least one; the first is the default. Raises CertificateError."""
        self._alpn = tuple(alpn)
        self._default = self._load(certificates)

    def replace(self, certificates: Sequence[Certificate]) -> None:
        """From now on handshakes are made with these. Raises CertificateError; then they are made as before."""
        self._default = self._load(certificates)

    def session(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """The server's side of a new connection, before its handshake."""
        return self._default.wrap_bio(incoming, outgoing, server_side=True)

    def _load(self, certificates: Sequence[Certificate]) -> ssl.SSLContext:
        contexts = [_context(one, self._alpn) for one in certificates]
        by_name: dict[str, ssl.SSLContext] = {}
        for one, context in zip(certificates, contexts, strict=True):
            for name in one.names:
                by_name.setdefault(name, context)
        if len(contexts) > 1:

            def choose(connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None, _of: ssl.SSLContext) -> None:
                found = _find(by_name, asked or "")
                if found is not None:
                    connection.context = found

            contexts[0].sni_callback = choose
        return contexts[0]


def _find(by_name: dict[str, ssl.SSLContext], asked: str) -> ssl.SSLContext | None:
    """By the whole name, or by the one with * in place of its first label."""
    name = asked.lower().rstrip(".")
    return by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")


def _context(certificate: Certificate, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= _OPTIONS
    context.num_tickets = 0
    if alpn:
        context.set_alpn_protocols(list(alpn))
    try:
        _load_pem(context, certificate.pem)
    except ssl.SSLError as error:
        raise CertificateError(f"the certificate is not accepted by OpenSSL: {error.reason or 'unknown'}") from None
    return context


def _load_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Python loads certificates from files only; this file is in memory."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)
