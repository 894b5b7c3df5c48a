"""`chatctl bridge`: what an operator sees of bridges, and does to them."""
