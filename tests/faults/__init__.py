"""Faults on purpose: kills, full disks, races, hostile sources. Long form: `make faults`."""
