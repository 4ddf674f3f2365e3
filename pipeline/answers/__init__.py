"""What commands answer, as documents and as text."""
