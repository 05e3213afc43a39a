"""Say, before a first install, when pip would take torch's CUDA build where there is no NVIDIA GPU.

Runs in the empty virtual environment: standard library and its pip only. It asks pip itself, because only pip
knows whether one of the places it looks in has a CPU build for this Python. A pip that cannot fetch a wheel's
description alone fetches the wheel; the install that follows then finds it in pip's cache. It warns and never
stops: the CUDA build works on a CPU too.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
NOTICE = """\
Note: this is Linux without an NVIDIA GPU, and for Python {python} pip finds only the CUDA build of torch. It works,
but it is 2.7 GB to download, and all that is installed takes 5.6 GB instead of 2 GB. To avoid that, stop now
(Ctrl-C) and point pip at a CPU build for this Python before the same command: PIP_FIND_LINKS=<folder with the
wheel>, or PIP_EXTRA_INDEX_URL=<PyTorch's own index of CPU wheels>; or, where a CPU build for another Python is at
hand, take that one: PYTHON=<python3.N>. docs/deploy.md says more."""


def pinned_torch(lock: str) -> str:
    """`torch==…` as the text of the lock has it."""
    found = re.search(r"^torch==[0-9.]+", lock, re.MULTILINE)
    return found.group() if found else "torch"


def takes_cuda_build(requirement: str) -> bool:
    """Whether the wheel that pip would take brings CUDA's libraries along; false where pip finds none at all."""
    words = (
        "install",
        "--dry-run",
        "--quiet",
        "--ignore-installed",
        "--no-deps",
        "--report",
        "-",
        requirement,
    )
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        return False  # the install itself says better what is wrong
    needs = [
        need
        for wheel in json.loads(asked.stdout)["install"]
        for need in wheel["metadata"].get("requires_dist", ())
    ]
    return any(need.startswith(("nvidia-", "cuda-")) for need in needs)


def main() -> None:
    """Print the notice where it is due."""
    if platform.system() != "Linux" or Path("/dev/nvidiactl").exists():
        return
    if takes_cuda_build(pinned_torch(LOCK.read_text(encoding="utf-8"))):
        sys.stdout.write(NOTICE.format(python=platform.python_version()) + "\n")


if __name__ == "__main__":
    main()
