"""The importer: from the tables of the legacy C++ chat server into an empty store.

Named rules decide how each legacy row is imported; the report counts how often each applied, and nothing is left out
silently. Memory: some hundred bytes per account, membership and offline message; passwords and texts pass through in
batches.
"""
