"""What lies between us and the operating system: processes, signals, what it refuses."""
