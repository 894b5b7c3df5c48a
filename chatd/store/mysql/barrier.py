"""When every transaction that could still insert a row with a low id has ended.

Owns: the table `barrier`: its statements, and which of its rows a transaction uses.
Elsewhere: who waits for it (feeds.feed), recording events (store.sql.event_log), storing messages
(store.mysql.messages).
Fails: never.

Ids are given when rows are inserted, and rows become visible when transactions commit, so a row with a low id may
become visible after one with a higher id. A transaction that inserts messages or events therefore holds a shared lock
on a row of `barrier`, from before its first id until it has ended; the server releases it whatever happens to the
client. Whoever wants to know that all of them have ended takes each row exclusively, without ever waiting: SKIP LOCKED
gives the rows that nobody holds at that moment. Which row a transaction takes changes with the server's time, so every
row is free again soon, however many transactions there are.

The lock costs no round trip of its own where messages are stored, and nothing where no webhook is registered. Decision
0044 has the proof and figures.
"""

from __future__ import annotations

from chatd.store.mysql.schema import BARRIER_SLOTS

_SLOTS_PER_S = 20
"""How often transactions change to another row. A row is used again after BARRIER_SLOTS changes, so nobody waits longer
than one such interval, unless transactions take longer than the rest of the round."""
ENTER = (
    "SELECT id FROM barrier WHERE id ="
    f" CAST(FLOOR(UNIX_TIMESTAMP(NOW(6)) * {_SLOTS_PER_S}) AS SIGNED) % {BARRIER_SLOTS} LOCK IN SHARE MODE"
)
"""Within a transaction, before it inserts a row whose id others read in order."""
FREE = "SELECT id FROM barrier FOR UPDATE SKIP LOCKED"
"""Outside a transaction: the locks are released at the end of the statement."""
SLOTS = frozenset(range(BARRIER_SLOTS))
CLOCK = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
"""Milliseconds since the epoch."""
