"""What was shown of every architecture: see `__main__.py`."""
