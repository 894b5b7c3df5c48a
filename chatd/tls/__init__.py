"""TLS: certificates as files and as facts, and the contexts in which handshakes are made."""
