"""Numbered places where a test may kill this process, so that recovery is tested at every step of the walk.

Does nothing unless COMMONLENS_KILL_AT names the place, as `<step>:<marker file>`: the marker is made first,
so that the restarted process passes. Steps are those of docs/architecture.md, "The walk of one update";
0.1, 0.2 and 10.1 to 10.3 are parts of 0 and 10 in mode secure, and 13 has the six steps of
coordinator/registry/publish.py.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "COMMONLENS_KILL_AT"


def crash_point(step: str) -> None:
    """kill −9 this process if a test asked for it at `step` and it did not happen yet."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    name, _, marker = wanted.partition(":")
    if name == step and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
