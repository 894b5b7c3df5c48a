"""`chatctl push`: the key of Web Push, and what an operator sees of notifications."""
