"""WebSocket connections: the HTTP handshake, the frames, the connection."""
