"""The chat page: its files, which http.assets serves. No Python."""
