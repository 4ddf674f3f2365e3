"""How messages count."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """For example `1 file`, `1,024 files`: a regular noun in the number that fits."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
