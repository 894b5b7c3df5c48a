"""`chatctl key`: the keys with which applications use the HTTP API."""
