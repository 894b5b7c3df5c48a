"""The doorbell between workers: base is the contract, local the twin for one host, redis the one for many."""
