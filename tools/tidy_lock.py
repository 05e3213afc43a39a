"""Turn what `uv pip compile` prints (on stdin) into `requirements.lock` (on stdout).

Two things are changed, and why:
- torch's own CUDA packages are dropped: torch names them exactly and for its platform only, so pinning
  them here would add nothing where they are wanted and pull gigabytes where a CPU build is installed;
- torch is written once as a bare version, without a local part such as "+cpu" and without markers, so
  that pip may take a CPU build where it finds one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

HEADER = (
    "# Exact versions of everything that .venv gets: run-time, demo, postgres and dev extras.\n"
    "# Written by `make lock`; do not edit. torch's own CUDA packages are left to torch (docs/deploy.md).\n"
)
CUDA_PACKAGE = re.compile(r"(nvidia-|cuda-|triton\b)")
TORCH = re.compile(r"torch==(\d+(?:\.\d+)*)")


def tidy(lines: Iterable[str]) -> Iterator[str]:
    """The lines of the lock, one requirement a line, in the order given."""
    torch_written = False
    for line in lines:
        text = line.rstrip()
        if not text or text.startswith("#") or CUDA_PACKAGE.match(text):
            continue
        match = TORCH.match(text)
        if match is None:
            yield text
        elif not torch_written:
            torch_written = True
            yield f"torch=={match.group(1)}"


if __name__ == "__main__":
    sys.stdout.write(HEADER + "".join(f"{line}\n" for line in tidy(sys.stdin)))
