"""chatd: an instant-messaging server run like sshd or nginx.

docs/architecture.md is the tour; each module's docstring says what it owns and how it fails.
"""

__version__ = "0.1.0"
