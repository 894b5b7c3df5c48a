"""The terminal client, `chat HOST:PORT`: the `chatserver` wire in streaming mode, spoken from the other side.

Owns: everything that a person or a script needs to chat. A tour, from the wire up: frames · outgoing (bytes <->
structs), results · notices (what requests and notices hold), connection · connector (one socket after the other),
outbox · sender · seen · journal · memory (why nothing is lost or shown twice), requests (each has one effect), contacts
· live (current lists), session (stay logged in). On top of that protocol part, the person: grammar (what a
line means), commands and its parts (what it does), target (where lines go), screen · terminal · completion (what is
shown), __main__ (arguments).
Elsewhere: the server. Of the package, the client uses only chatd.errors.
"""
