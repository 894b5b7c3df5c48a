"""`chatctl`, the operator's command."""
