"""The bus of a cluster: Redis channels and keys."""
