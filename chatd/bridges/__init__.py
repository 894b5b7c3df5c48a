"""Bridges: users of a MobileIMSDK server and those of chatd write to each other, over RabbitMQ."""
