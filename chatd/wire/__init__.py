"""Bytes to Commands and Events to bytes. Pure functions of bytes: no I/O, no clock, no randomness."""
