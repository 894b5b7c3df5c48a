"""The process that owns the server: it binds, forks, watches, replaces and stops the workers.

A tour: start (the steps of a start) · master (the loop) · workers (the pool) · spawn (one fork) · reload, kick
(operations that need every worker's answer) · control, requests (what chatctl asks) · status · rotation · listeners,
udp_sockets · instance_lock · directories · privileges · daemonize · systemd · watcher · file_locks.

One thread, no event loop, no database, no Redis client: so a fork never copies something half done.
"""
