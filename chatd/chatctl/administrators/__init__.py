"""`chatctl admin`: who may use the operator's page."""
