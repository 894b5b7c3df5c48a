"""Sessions: login, the one session per user and wire, and their end."""
