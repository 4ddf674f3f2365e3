"""Settings of all tests: generated examples are the same in every run and have no time limit."""

from hypothesis import settings

# A loaded machine is slow, not wrong; and a red run must be red again for whoever looks into it.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
