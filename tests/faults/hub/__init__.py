"""A hub and its CDN that misbehave, against our sources and the real client, seeded.

    python -m tests.faults.hub --seed 1 --cases 500

Each case draws a state of the hub (`settings.py`) and up to three faults (`catalogue.py`) over the
requests of one plan and download, through our functions or the command itself. It runs in a child
process that lives by a fast clock; then the faults are taken away, and it runs again. What must be
true is in `judging.py`: right bytes or one of our errors, with a hint; success where the faults
allow it; bounded requests, waits and memory; the token for the hub alone; nothing written
elsewhere; and the next run completes, without fetching again what was finished.

The long form is this command, with any supported line of the client (`make test-oldest` has the
old one); the short form is `tests/faults/test_hub_campaign.py`.
"""
