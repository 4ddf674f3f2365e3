"""How long a server asks to wait: the header `Retry-After`, as a number or a date (RFC 9110)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime

MAX_DIGITS = 9


def retry_after_s(headers: Message) -> float | None:
    """Seconds to wait, or None where nothing is said that can be understood."""
    wish = (headers.get("Retry-After") or "").strip()
    if wish.isascii() and wish.isdigit():
        return float(wish[:MAX_DIGITS])
    try:
        date = parsedate_to_datetime(wish)
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
