"""Weight conversion: rules as data, a pure conversion plan, its execution, and the round trip."""
