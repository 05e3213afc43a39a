"""Sealed contributions: the bytes that answer a round, kept so that asking again gives the same ones (3.8).

Two files a round: the payload first, then the signed header. Only when both are there is the round answered;
after a crash between them nothing has left, and the round is computed again under the same charge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.domain.canonical import digest_of_file
from shared.domain.errors import AlreadyReleased
from shared.domain.files import read_json, write_atomically, write_json
from shared.domain.strict import build, to_plain
from shared.domain.update import ContributionHeader

KEPT_ROUNDS = 2
"""Payloads of older rounds are deleted: those rounds are closed, and asking for them again is refused."""


@dataclass(frozen=True)
class Sealed:
    """One answer, complete on disk."""

    header: ContributionHeader
    signature: str

    @property
    def answers(self) -> tuple[str, str, str | None]:
        """Digests of the plan, the weights and, in mode secure, the roster that this is the one answer to."""
        return self.header.plan_digest, self.header.weights_digest, self.header.roster_digest


class Outbox:
    """The folder of sealed contributions of one member."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def payload_path(self, run_id: str, round_number: int) -> Path:
        """Where the round's payload is or will be."""
        return self._folder / run_id / f"{round_number:06d}.f32"

    def put(self, sealed: Sealed, payload: memoryview) -> None:
        """Payload first, header last; durable when this returns."""
        header = sealed.header
        path = self.payload_path(header.run_id, header.round_number)
        write_atomically(path, payload, over=self._forget_before(header.run_id, header.round_number))
        write_json(self._header_path(header.run_id, header.round_number), to_plain(sealed))

    def get(self, run_id: str, round_number: int) -> Sealed | None:
        """The sealed answer, or None when there is none. Raises AlreadyReleased if its bytes changed."""
        path = self._header_path(run_id, round_number)
        if not path.exists():
            return None
        sealed = build(Sealed, read_json(path), path.name)
        payload = self.payload_path(run_id, round_number)
        if not payload.exists() or digest_of_file(payload) != sealed.header.payload_digest:
            raise AlreadyReleased(
                f"Round {round_number} of run {run_id} was answered, and its sealed bytes are gone or changed. "
                "Noise is never drawn a second time: nothing was sent. Restore the outbox, or sit it out."
            )
        return sealed

    def _header_path(self, run_id: str, round_number: int) -> Path:
        return self._folder / run_id / f"{round_number:06d}.json"

    def _forget_before(self, run_id: str, round_number: int) -> Path | None:
        """Delete the payloads of rounds that are closed by this one, all but one to be written over."""
        every = (self._folder / run_id).glob("*.f32")
        closed = sorted(path for path in every if int(path.stem) <= round_number - KEPT_ROUNDS)
        for payload in closed[:-1]:
            payload.unlink(missing_ok=True)
        return closed[-1] if closed else None
