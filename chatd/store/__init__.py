"""The store: everything that must not be lost. The contract is what others use; the twins are sqlite and mysql."""
