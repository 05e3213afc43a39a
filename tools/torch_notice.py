"""Say, before a first install, when pip is about to take torch's CUDA build where there is no NVIDIA GPU.

Runs in the empty virtual environment: standard library and its pip only. It warns and never stops: the
CUDA build works on a CPU too, it is only some gigabytes larger.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

NOTICE = """\
Note: this is Linux without an NVIDIA GPU, and pip was not told where to find a CPU build of torch, so it may
take the CUDA build, which works but is several gigabytes larger. To avoid that, stop now (Ctrl-C) and point
pip at a CPU build: PIP_FIND_LINKS=<folder with the wheel>, or PIP_EXTRA_INDEX_URL=<PyTorch's own index of CPU
wheels>, before the same command. docs/deploy.md says more."""


def cpu_build_unlikely() -> bool:
    """True on Linux without an NVIDIA device when no pip setting names a further place to look."""
    if platform.system() != "Linux" or Path("/dev/nvidiactl").exists():
        return False
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    return not any(name in settings for name in ("find-links", "extra-index-url", "index-url"))


if __name__ == "__main__" and cpu_build_unlikely():
    sys.stdout.write(NOTICE + "\n")
