"""Commands of chatctl that look at a running server and change nothing.

Owns: the state of the server, its live view, its clients, and the way of a message through the logs.
Elsewhere: asking the server (chatctl.control_client), the command line (chatctl.__main__).
"""
