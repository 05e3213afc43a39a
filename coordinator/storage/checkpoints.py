"""Checkpoints by content: a file's name is the SHA-256 of its bytes, so a changed file cannot pass for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from shared.domain.canonical import DIGEST_FORM, Digest, digest_of_bytes, digest_of_file
from shared.domain.errors import DigestMismatch, Invalid, NotFound
from shared.domain.files import write_atomically


class CheckpointStore:
    """Safetensors files in one folder; a checkpoint holds float32 weights and the optimiser's state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, tensors: Mapping[str, np.ndarray]) -> Digest:
        """Put `tensors` on disk, durable before this returns, and give their digest (step 12).

        The same tensors give the same digest. Raises OutOfSpace when the disk is full; no part stays.
        """
        data = safetensors.numpy.save({name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)})
        digest = digest_of_bytes(data)
        path = self.path(digest)
        if not path.exists() or digest_of_file(path) != digest:
            write_atomically(path, data)
        return digest

    def read(self, digest: str) -> dict[str, np.ndarray]:
        """The tensors of `digest`. Raises NotFound, or DigestMismatch when the bytes on disk changed."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                f"There is no checkpoint {digest}. Nothing was read. "
                "Restore it from a backup, or resume from an earlier round."
            ) from error
        found = digest_of_bytes(data)
        if found != digest:
            raise DigestMismatch(
                f"A checkpoint's bytes changed on disk: expected {digest}, found {found}. Nothing was read. "
                "Restore it from a backup, or resume from an earlier round."
            )
        tensors: dict[str, np.ndarray] = safetensors.numpy.load(data)
        return tensors

    def has(self, digest: str) -> bool:
        """Whether a file for `digest` is there (its bytes are checked by `read`)."""
        return self.path(digest).exists()

    def forget(self, digest: str) -> None:
        """Delete a checkpoint that nothing will be resumed from. None there is fine."""
        self.path(digest).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Where `digest` is kept. Raises Invalid for a text that is not a digest (it becomes a file name)."""
        if not DIGEST_FORM.fullmatch(digest):
            raise Invalid(
                "A checkpoint is named by sha256: and 64 hex digits. Nothing was read. Check the name."
            )
        return self.folder / f"{digest.removeprefix('sha256:')}.safetensors"
