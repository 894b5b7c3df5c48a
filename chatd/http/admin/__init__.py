"""What the operator's page asks over HTTP."""
