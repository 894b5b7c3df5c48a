"""The chatserver wire: JSON objects over TCP, each followed by NUL."""
