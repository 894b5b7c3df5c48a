"""The importer: from the tables of the legacy C++ chat server into an empty store.

What becomes of each legacy row is a rule with a name, which the report counts; nothing is left out silently. Memory:
some hundred bytes per account, membership and offline message; passwords and texts pass through in batches.
"""
