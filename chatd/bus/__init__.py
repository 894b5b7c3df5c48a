"""The bus between workers: contract is what the chat uses, local the bus of one host, redis the bus of a cluster."""
