"""Taking over the tables of the old C++ chat server.

What becomes of each old row is a rule with a name (report); nothing is left out silently. Memory: some hundred bytes
per account, membership and waiting message; passwords and texts pass through in batches.
"""
