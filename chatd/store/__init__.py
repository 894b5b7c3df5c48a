"""What must not be lost. The contract is in base, the group commit in commit, the twins in sqlite and mysql."""
