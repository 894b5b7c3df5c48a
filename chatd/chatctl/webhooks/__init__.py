"""`chatctl webhook`: what an operator sees of webhooks, and does to them."""
