"""The difference of two releases in behaviour, by a process of its own: it needs torch, the control plane has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from coordinator.workers.process import ask_worker, surroundings

WORKER: Final = "coordinator.workers.difference_worker"
LONGEST_S: Final = 1800.0


def run_difference(before: tuple[Path, str], after: tuple[Path, str], root: str) -> Any:
    """`before` and `after` as (folder, digest of its manifest): their difference, as plain JSON.

    `root` is the root key, or the fingerprint of the root set, that both must be signed under. Raises what the worker
    refused (a NotTrusted leaf, Invalid for a release of pictures beside one of texts), TookTooLong, or Broken when it
    crashed.
    """
    question: dict[str, Any] = {"root": root}
    for name, (folder, manifest_digest) in (("before", before), ("after", after)):
        question[name] = {"folder": str(folder.resolve()), "manifest_digest": manifest_digest}
    with surroundings() as environment:
        return ask_worker(WORKER, question, LONGEST_S, "Nothing was kept.", environment)["difference"]
