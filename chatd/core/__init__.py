"""Chat itself: sessions, accounts, friends, groups, messages and their delivery. No sockets, no wire, no SQL."""
