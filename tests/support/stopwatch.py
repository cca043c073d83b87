"""Time on a machine that has other things to do.

A bound on how long something may take is a bound on the program, not on the machine: seconds in which tasks wait for a
processor say nothing about the program. The kernel counts them (pressure stall information, /proc/pressure/cpu).
"""

import re
import time
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")
# Something that hangs is to be noticed on the busiest machine too: this share of each second counts in any case.
LEAST = 0.1


def waited():
    """Seconds in which any task of the machine has waited for a processor since it was started; 0: nobody counts."""
    try:
        return int(re.search(r"^some .*total=(\d+)", PRESSURE.read_text(), re.MULTILINE)[1]) / 1e6
    except (OSError, TypeError):
        return 0.0


class Stopwatch:
    """Begins to run when it is made."""

    def __init__(self):
        self._begun, self._waited = time.monotonic(), waited()

    def seconds(self):
        """Seconds by the clock: for what may not be too early."""
        return time.monotonic() - self._begun

    def unhindered(self):
        """Seconds in which nobody waited for a processor: for what may not be too late."""
        seconds = self.seconds()
        return max(seconds - (waited() - self._waited), seconds * LEAST)
