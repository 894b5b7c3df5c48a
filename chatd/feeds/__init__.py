"""Reading the store in order for others, at least once: what webhooks and bridges share."""
