"""The doorbell between workers: base is the contract, local the twin for one host without another server."""
