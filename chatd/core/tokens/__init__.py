"""Logins by token: keys that change while the server runs."""
