"""How glibc's allocator is set for training: freed blocks stay with the process.

Worth as much as the kernel of the engine on CPU: without it every step gives its blocks back to the system and
faults them in again. glibc reads these variables when a process starts, and at no other time.
"""

from __future__ import annotations

import os
import sys

SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def start_again_with_settings() -> None:
    """Replace this process by itself with SETTINGS, unless it has them or its system has no glibc."""
    if sys.platform == "linux" and any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | SETTINGS)  # noqa: S606
