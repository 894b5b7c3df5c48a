"""chatd-setup, into directories that stand for the root of a host."""
