"""Ask the probe worker about an extractor: its starting weights, its layout, and how fast it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator.workers.process import ask_worker
from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.domain.release import MANIFEST_FILE, WEIGHTS_FILE, AnyManifest, Manifest
from shared.domain.strict import build, later, to_plain
from shared.verification import verify_extractor

WORKER = "coordinator.workers.probe_worker"
LONGEST_S = 600
PUBLIC_STARTS = ("efficientnet-lite0-public",)
"""The names of public weights that the worker knows (shared/extractors/public_weights.py, which needs torch)."""


@dataclass(frozen=True)
class ReleaseStart:
    """Start from a release that lies on this machine."""

    weights_file: str
    digest: str
    """Of that file, as the release's manifest promises it."""
    release: str
    trained: bool = True
    """Whether members' records had a part in it; not so in what a library keeps."""


@dataclass(frozen=True)
class PublicStart:
    """Start from public weights, one of PUBLIC_STARTS."""

    name: str


Start = ReleaseStart | PublicStart
"""What an extractor starts from where it is not drawn from the seed."""


def find_start(wanted: str) -> Start | None:
    """What `starting_from` in plan.toml names: nothing, public weights, or the folder of a release.

    Raises InvalidConfig when it is none of them, and a NotTrusted leaf where a proof of the release fails. Its root
    key is not compared with any: a plan may start from another consortium's release.
    """
    if not wanted:
        return None
    if wanted in PUBLIC_STARTS:
        return PublicStart(wanted)
    folder = Path(wanted)
    if not (folder / MANIFEST_FILE).is_file():
        raise InvalidConfig(
            f"starting_from expects {', '.join(PUBLIC_STARTS)} or the folder of a release on the coordinator's "
            f"machine; found {wanted!r}. Nothing was proposed. Correct it, or leave it out for random weights."
        )
    return start_of(verify_extractor(folder, pinned_root=None, allow_expired=True).manifest, folder)


def start_of(manifest: AnyManifest, folder: Path) -> ReleaseStart:
    """The release with this manifest as a start; whether its files are those is not asked here."""
    weights_file = str((folder / WEIGHTS_FILE).resolve())
    trained = isinstance(manifest, Manifest)
    return ReleaseStart(weights_file, manifest.files[WEIGHTS_FILE].digest, manifest.release, trained)


@dataclass(frozen=True)
class Probe:
    """What the worker found out."""

    starting_weights: str
    """Digest of the file it wrote."""
    file_name: str
    """Of the starting weights, in the folder that was given."""
    trainable_coordinates: int
    """Of the extractor."""
    seconds_per_record: float
    """Estimate of one per-example gradient on this machine's CPU; members' machines differ."""
    head_inputs: int
    """Numbers of an embedding that a training head sees."""
    seed: int | None = later(None)
    """What the random ones of the starting weights were drawn from; None in an answer of before it was kept."""


def probe_extractor(spec: ExtractorSpec, seed: int, folder: Path, start: Start | None = None) -> Probe:
    """Run the worker. `start` gives the starting weights; what it has no tensors for comes from `seed`.

    Raises what the worker refused (MixesRecords, InvalidConfig, InvalidWeights, DigestMismatch), TookTooLong, or Broken
    when it crashed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    question = {"spec": to_plain(spec), "seed": seed, "folder": str(folder), "start": to_plain(start)}
    answer = ask_worker(WORKER, question, LONGEST_S, "Nothing was proposed.")
    return build(Probe, answer, "probe")
