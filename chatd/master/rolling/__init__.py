"""Replacing workers while the server serves."""
