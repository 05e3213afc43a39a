"""What every round that this member paid for began with: a list of rounds that ends too early does not fit to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.domain.canonical import canonical_bytes, digest_of_bytes
from shared.domain.errors import CertificateWrong, Invalid
from shared.domain.ids import RUN_ID
from shared.domain.release import Certificate
from shared.domain.run import RoundState
from shared.domain.strict import build, to_plain
from shared.extractors.flatten import flatten
from shared.verification import VerifiedRelease

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Beginning:
    """The weights that one round began with."""

    round_number: int
    extractor_digest: str
    """Of its trained coordinates, float32, little-endian: what a release of the round before holds."""


class SeenWeights:
    """A line a round in a file for each run. Losing them loses a check and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, run_id: str, round_number: int, extractor: Vector) -> None:
        """Write down what a round begins with; `extractor` is float32 [d]. The same round again changes nothing."""
        if self.beginning(run_id, round_number) is not None:
            return
        line = canonical_bytes(to_plain(Beginning(round_number, _digest(extractor))))
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path(run_id).open("ab") as file:
            file.write(b"\n" + line)  # its own line also after one that a crash cut off

    def beginning(self, run_id: str, round_number: int) -> str | None:
        """The digest that was noted; None where none was."""
        if not RUN_ID.match(run_id) or not self._path(run_id).exists():
            return None
        for line in self._path(run_id).read_bytes().splitlines():
            try:
                found = build(Beginning, json.loads(line), "round")
            except (ValueError, Invalid):
                continue
            if found.round_number == round_number:
                return found.extractor_digest
        return None

    def check(self, release: VerifiedRelease) -> None:
        """Raise CertificateWrong unless the release holds what the round after its last listed one began with.

        Nothing is compared where this member was not in that round, or where the plan releases an average over rounds.
        """
        if release.plan.server.averaging_decay > 0.0:
            return
        certificate = release.certificate
        last = _last_closed(certificate)
        seen = self.beginning(certificate.run_id, last + 1)
        if seen is not None and seen != _digest(flatten(release.weights.tensors, release.weights.layout)):
            raise CertificateWrong(
                f"{release.manifest.release}: the certificate's list ends with round {last}, and round {last + 1} came "
                "to this member with other weights than these. The publisher hides rounds. Keep the release as "
                "evidence and tell the other members."
            )

    def check_line(self, release: VerifiedRelease) -> None:
        """Raise CertificateWrong unless each run of the line began with what the one before ended with, by its list.

        Known where this member was in the first round of the one and in the round after the last listed one of the
        other. Not compared where the plan averages over rounds, and where the start is not the release's numbers as
        they are: another extractor, or lora, whose part is folded in.
        """
        for link, before in pairwise(release.line):
            spec = before.plan.extractor
            folded = spec != link.plan.extractor or spec.options.get("scope") == "lora"
            if folded or before.plan.server.averaging_decay > 0.0:
                continue
            last = _last_closed(before.certificate)
            ended = self.beginning(before.certificate.run_id, last + 1)
            began = self.beginning(link.certificate.run_id, 1)
            if ended is not None and began is not None and ended != began:
                raise CertificateWrong(
                    f"{link.release} says that it started from {before.release}, whose list of rounds ends with round "
                    f"{last}. Round {last + 1} of that run came to this member with other weights than those that "
                    f"{link.release} began with. The publisher hides rounds. Keep the release as evidence and tell the "
                    "other members."
                )

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.jsonl"


def _last_closed(certificate: Certificate) -> int:
    return max(cohort.number for cohort in certificate.rounds if cohort.state is RoundState.CLOSED)


def _digest(extractor: Vector) -> str:
    return digest_of_bytes(np.ascontiguousarray(extractor, dtype="<f4").tobytes())
