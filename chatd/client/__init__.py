"""The terminal client, `chat HOST:PORT`: the `chatserver` wire in streaming mode, spoken from the other side.

Owns: everything that a person or a script needs to chat. A tour, from the wire up: frames (bytes <-> structs),
connection (one socket), outbox · seen · journal (why nothing is lost or shown twice), contacts (who is who),
session (stay logged in), commands (what a line means), screen · terminal (what is printed), __main__ (arguments).
Elsewhere: the server. Of the package, the client uses only chatd.errors.
"""
