"""The resources of the API: users, their relations and sessions, groups, conversations, tokens."""
