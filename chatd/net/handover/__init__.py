"""Handing live sessions over from a worker to its successor."""
