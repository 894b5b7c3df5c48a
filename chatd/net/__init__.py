"""Sockets: connections, accepting, limits of time and bytes. No chat."""
