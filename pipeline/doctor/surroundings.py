"""Can engines be reproduced to the byte here? A child tries what every build does first.

python -m pipeline.doctor.surroundings
"""

from __future__ import annotations

from pipeline.engines.child_setup import fix_surroundings

if __name__ == "__main__":
    fix_surroundings()
