"""Notifying users who are away: Web Push, and the gateways of plug-ins."""
