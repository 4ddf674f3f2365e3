"""Models for Triton's Python backend. A release carries these files; nothing imports them here."""
