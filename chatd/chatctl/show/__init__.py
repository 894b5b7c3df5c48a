"""Commands of chatctl that show a running server; they change at most what it logs.

Owns: the state of the server, its live view, its clients, its log levels, the way of a message through the logs; and
the command line of these and of `chatctl doctor`.
Elsewhere: asking the server (chatctl.control_client), the checks of doctor (chatctl.doctor), the rest of the command
line (chatctl.__main__).
"""
