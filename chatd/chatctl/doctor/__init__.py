"""`chatctl doctor`: looks for what is wrong with a server's host, files and surroundings.

Owns: one module per subject with its checks, the findings, and the command.
Elsewhere: what a running server says of itself (master.health), which is one of the subjects.
"""
