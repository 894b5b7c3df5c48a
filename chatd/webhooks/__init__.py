"""Webhooks: telling URLs what happens, at least once and in order, from the store."""
