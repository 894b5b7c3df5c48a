"""Web Push (RFC 8030): keys, encryption, and which addresses may be notified."""
