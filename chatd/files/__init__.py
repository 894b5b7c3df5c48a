"""The content of files that people send: where it is kept, and what is seen of it."""
