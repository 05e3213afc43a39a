"""What the hub says of one release, read once from its folder; digests come from the manifest, never from the bytes."""

from __future__ import annotations

import contextlib
import json
import math
import re
import stat
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.registry.claims import other_manifest
from coordinator.registry.store import LargeFiles
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import Invalid
from shared.domain.release import (
    CONFIG_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    CatalogueEntry,
    Manifest,
    ReleaseFile,
)
from shared.exports.timm_file import OWN_ARCHITECTURE
from shared.release import limits
from shared.release.envelope import parse_document, read_bounded, read_document
from shared.release.manifest import card_of, kind_of, parse_manifest

CardData = Mapping[str, Any]
COMMIT_DIGITS: Final = 40
_CARD_BYTES: Final = 4 * 1024 * 1024
_CONFIG_BYTES: Final = 1024 * 1024
_LENGTH_BYTES: Final = 8
_HEADER_BYTES: Final = 8 * 1024 * 1024
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,60}): (\S.*)\Z")


@dataclass(frozen=True)
class Facts:
    """One release as far as the hub tells of it."""

    entry: CatalogueEntry
    folder: Path
    created_at: str
    promised: Mapping[str, ReleaseFile]
    """What the manifest lists; the files beside it are added by HubShelf.files."""
    modality: str
    """`image` or `text`."""
    architecture: str
    kind: str
    """`trained`, or what it is that no run here trained: `classical`, `random`, `public`."""
    parameters: int
    """Float32 values in the weights file."""
    purpose: str
    """What its plan says that it is for, or its source what it is; "" where neither does."""
    card: CardData
    config: Mapping[str, Any]

    @property
    def commit(self) -> str:
        """What the hub calls the release's commit."""
        return commit_of(self.entry)


def commit_of(entry: CatalogueEntry) -> str:
    """The first 40 hex digits of the manifest's digest: what a client pins fixes every promised byte."""
    return entry.manifest_digest.removeprefix("sha256:")[:COMMIT_DIGITS]


def read_facts(folder: Path, entry: CatalogueEntry, large: LargeFiles) -> Facts:
    """Raises NotFound where the folder is incomplete, Invalid, DigestMismatch where it is not what is listed.

    And StoreUnreachable, where only the weights file says what the extractor is and it is in a store that is down.
    """
    unverified = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES))
    if unverified.digest != entry.manifest_digest:
        raise other_manifest(entry, unverified.digest)
    manifest = unverified.claimed
    promised = manifest.files
    config: dict[str, Any] = {}
    if CONFIG_FILE in promised:
        config = parse_document(_promised(folder, CONFIG_FILE, promised, _CONFIG_BYTES), CONFIG_FILE)
    purpose = (
        str(manifest.plan.get("purpose", "")) if isinstance(manifest, Manifest) else manifest.source.about
    )
    if isinstance(manifest, Manifest):
        spec = manifest.plan.get("extractor", {})
    elif {"kind", "architecture"} <= config.keys():
        # Another program's word may stand under the plain name.
        spec = {**config, "architecture": config.get(OWN_ARCHITECTURE, config["architecture"])}
    else:
        spec = _spec_in(large, folder / WEIGHTS_FILE, promised[WEIGHTS_FILE])
    card = _promised(folder, card_of(manifest), promised, _CARD_BYTES).decode("utf-8", "replace")
    return Facts(
        entry=entry,
        folder=folder,
        created_at=manifest.created_at,
        promised=promised,
        modality=str(spec.get("kind", "image")),
        architecture=str(
            spec.get("architecture") or config.get("architecture") or config.get("model_type", "")
        ),
        kind=kind_of(manifest),
        parameters=sum(math.prod(slot.shape) for slot in manifest.layout),
        purpose=purpose,
        card=card_data(card),
        config={key: config[key] for key in ("architectures", "model_type", "architecture") if key in config},
    )


def card_data(card: str) -> CardData:
    """The metadata on top of a card: texts, numbers and lists, one `key: value` a line, values as JSON.

    It is YAML for whoever reads YAML; what is not of that form, which is how this software writes it, is passed over.
    """
    begins, dashes, rest = card.partition("---\n")
    found: dict[str, Any] = {}
    if begins or not dashes or "\n---\n" not in rest:
        return found
    for line in rest.partition("\n---\n")[0].splitlines():
        named = _LINE.match(line)
        if named:
            with contextlib.suppress(Invalid):
                found |= parse_document(f'{{"{named[1]}": {named[2]}}}'.encode(), "card")
    return found


def file_stamp(path: Path) -> Hashable:
    """Differs as soon as the file was replaced or written to; None where there is no plain file."""
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(seen.st_mode):
        return None
    return (str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _promised(folder: Path, name: str, promised: Mapping[str, ReleaseFile], maximum_bytes: int) -> bytes:
    """A small file's bytes if they are the promised ones. Raises Invalid."""
    data = read_bounded(folder / name, maximum_bytes)
    if digest_of_bytes(data) != promised[name].digest:
        raise Invalid(
            f"{name} should be {promised[name].digest[:23]}… and is {digest_of_bytes(data)[:23]}…. Nothing of the "
            "release is shown. Restore its folder from a backup."
        )
    return data


def _spec_in(large: LargeFiles, path: Path, promised: ReleaseFile) -> Mapping[str, Any]:
    """The extractor's spec in the header of a weights file, without its tensors; empty where there is none."""
    length = int.from_bytes(large.beginning(path, promised, _LENGTH_BYTES), "little")
    if length > _HEADER_BYTES:
        raise Invalid(f"The header of {path.name} may have {_HEADER_BYTES} bytes, it has {length}.")
    header = parse_document(
        large.beginning(path, promised, _LENGTH_BYTES + length)[_LENGTH_BYTES:], path.name
    )
    try:
        spec = json.loads(header["__metadata__"]["spec"])
    except (KeyError, TypeError, ValueError):  # a file in the ecosystem's own form
        return {}
    return spec if isinstance(spec, dict) else {}
