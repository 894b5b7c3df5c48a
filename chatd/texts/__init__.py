"""Names and texts that people see: what is accepted as one, and when two names are, or look, the same."""
