"""Webhooks: real daemons tell a real receiver, which is a process of its own."""
