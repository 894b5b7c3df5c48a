"""The chat page and the operator's page: their files, which http.assets serves. No Python."""
