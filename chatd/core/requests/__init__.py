"""Requests to the server (C2S) of the mobileimsdk wire: the table of operations and their answers."""
