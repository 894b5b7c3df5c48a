"""Reading the store in order for others."""
