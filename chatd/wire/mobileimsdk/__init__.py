"""The MobileIMSDK wire: packets of JSON over TCP, UDP and WebSocket."""
