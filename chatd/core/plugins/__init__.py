"""Plug-ins: what they are given, how they are called, what happens when they fail."""
