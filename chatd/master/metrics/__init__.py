"""Metrics and health over HTTP, served by the master itself, so that they answer when every worker hangs."""
