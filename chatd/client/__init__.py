"""The terminal client, `chat HOST:PORT`: the library chatd_client on the `chatserver` wire, and a person.

Owns: what a person or a script needs to chat. A tour: app (tell the person what comes), contacts · live ·
changes (current lists), memory (where files are), then the person:
grammar (what a line means), commands and its parts (what it does), target (where lines go), screen · terminal ·
completion (what is shown), __main__ (arguments).
Elsewhere: the protocol, and why nothing is lost or shown twice (chatd_client). The server; of the package, the client
uses nothing.
"""
