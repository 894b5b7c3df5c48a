"""The HTTP API: a server for applications, on the same event loop as the chat."""
