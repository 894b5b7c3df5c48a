"""Clients over UDP."""
