"""The client's side of the chatserver wire (port 6000 by default), in streaming mode.

Owns: its frames. The terminal `chat` is built on it; applications use the mobileimsdk wire (chatd_client.Client), which
has the same operations and a WebSocket.
Elsewhere: connections, sending, requests and memory, which both wires share (the modules beside this package).
"""
