"""The process that owns the server: it binds, forks, watches, replaces and stops the workers.

A tour: start (the order in which a server comes up) · supervise (the loop) · pool (the workers and what becomes of
them) · spawn (one fork) · reload · control (what chatctl asks) · status (what it is told) · rotation · scoreboard ·
listeners · lock · directories · privileges · detach · systemd.

One thread, no event loop, no database, no Redis client: a fork copies nothing that could be half-way.
"""
