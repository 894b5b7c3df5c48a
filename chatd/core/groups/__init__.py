"""Groups: who is in them, what their owners decide, and notifying those concerned."""
