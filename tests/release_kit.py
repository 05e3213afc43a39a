"""A real little consortium on disk for tests: authority, members, a plan, and releases made by the shipped code.

`lie` is the strongest opponent: it changes a release's files and signs the manifest again with the release key.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.members.authority import AuthorityFiles, create_authority
from coordinator.registry.build import Contributor, Export, PublishRequest, weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.predecessors import named, predecessor_in
from shared.domain.canonical import canonical_bytes, digest_of, digest_of_bytes, digest_of_file
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.errors import CommonlensError
from shared.domain.extractor import ExtractorSpec, TensorSlot, WeightLayout
from shared.domain.plan import (
    Plan,
    PlanMember,
    SecureTerms,
    ServerOptimizer,
    TrainingTerms,
    default_colluders,
    least_quorum,
)
from shared.domain.privacy import Mode, PrivacyTerms, Unit
from shared.domain.release import WEIGHTS_FILE, CohortRound, ConsentRecord, Predecessor
from shared.domain.run import RoundState
from shared.extractors.files import TRAINED, Origin, read_weights, write_weights
from shared.extractors.flatten import flatten
from shared.release.certificate import sign_consent
from shared.release.manifest import parse_manifest, sign_manifest
from shared.release.signing import SigningKey
from shared.verification import PROOFS, verify_release

MOMENT = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NAMES = ("North", "South", "West", "East", "Centre")
SPEC = ExtractorSpec("small-gn", 1, 8, 8, 4, (0.5,), (0.25,))
LAYOUT = WeightLayout(
    (
        TensorSlot("a.weight", (2, 3), True),
        TensorSlot("b.filter", (2,), False),
        TensorSlot("c.bias", (4,), True),
    )
)
RUN_ID = "run_000000000001"
CLOSED = RoundState.CLOSED


@dataclass
class Kit:
    """The consortium: its coordinator's home, its clock and its members' identity keys."""

    home: Path
    clock: FixedClock
    fingerprint: str
    identities: dict[str, SigningKey]
    starting: Path
    plan: Plan
    run_id: str = RUN_ID
    predecessor: Predecessor | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    """Member id → name, of those that are not called after their place."""

    def name_of(self, member_id: str) -> str:
        """Under which the member enrolled: mem_000000000001 is North."""
        place = int(member_id[-3:], 16)
        usual = NAMES[place - 1] if 0 < place <= len(NAMES) else f"Member {place}"
        return self.renamed.get(member_id, usual)

    @property
    def root(self) -> str:
        """The root public key."""
        return SigningKey.load(self.home / "keys" / "root.pem").public_hex

    @property
    def release_key(self) -> SigningKey:
        """The key that signs releases."""
        return AuthorityFiles(self.home).release_key()

    def folder(self, number: int = 1) -> Path:
        """Where the coordinator keeps a release."""
        return Shelf(self.home).folder(self.plan.extractor_name, number)

    def rounds(self) -> tuple[CohortRound, ...]:
        """Four closed rounds, some of no more than a quorum; the third was abandoned once and asked again."""
        everyone = tuple(self.identities)
        quorum = everyone[: self.plan.quorum]
        return (
            CohortRound(1, CLOSED, everyone, everyone),
            CohortRound(2, CLOSED, everyone, quorum),
            CohortRound(3, RoundState.ABANDONED, everyone, everyone[:1]),
            CohortRound(3, CLOSED, quorum, quorum),
            CohortRound(4, CLOSED, quorum, quorum),
        )

    def consents(self) -> tuple[ConsentRecord, ...]:
        """Everybody's."""
        return tuple(
            sign_consent(self.plan, member, self.name_of(member), key)
            for member, key in self.identities.items()
        )

    def request(self, checkpoint: str = "one", **changes: Any) -> PublishRequest:
        """An honest request; another `checkpoint` is another release."""
        start = read_weights(self.starting)
        vector = flatten(start.tensors, start.layout) + np.float32(0.25)
        request = PublishRequest(
            plan=self.plan,
            run_id=self.run_id,
            checkpoint_digest=digest_of_bytes(checkpoint.encode()),
            weights_f32=vector.astype("<f4").tobytes(),
            starting_weights=self.starting,
            members=tuple(
                Contributor(member_id, self.name_of(member_id), key.public_hex)
                for member_id, key in self.identities.items()
            ),
            rounds=self.rounds(),
            consents=self.consents(),
            predecessor=self.predecessor,
        )
        return replace(request, **changes)

    def copy(self, home: Path) -> Kit:
        """The same consortium with a coordinator's home of its own."""
        shutil.copytree(self.home, home)
        return replace(self, home=home, clock=FixedClock(self.clock.now()), renamed=dict(self.renamed))

    def publish(self, checkpoint: str = "one", **changes: Any) -> str:
        """Publish, and give the id."""
        return publish(self.home, self.request(checkpoint, **changes), self.clock, export=weights_only)

    def lie(self, folder: Path, name: str, change: Callable[[Any], Any]) -> None:
        """Change a JSON file of a release (or replace the bytes of another) and sign for it."""
        path = folder / name
        if name.endswith(".json"):
            path.write_bytes(canonical_bytes(change(json.loads(path.read_text()))))
        else:
            path.write_bytes(change(path.read_bytes()))
        self.sign(folder)

    def sign(self, folder: Path, change: Callable[[dict[str, Any]], Any] = lambda signed: None) -> None:
        """Sign a manifest that promises what the folder now holds, after `change` was made to it."""
        signed = json.loads((folder / "manifest.json").read_text())["signed"]
        signed["plan"] = json.loads((folder / "plan.json").read_text())
        signed["plan_digest"] = digest_of(signed["plan"])
        for name in signed["files"]:
            path = folder / name
            signed["files"][name] = {"digest": digest_of_file(path), "size_bytes": path.stat().st_size}
        change(signed)
        manifest = parse_manifest({"signed": signed, "signatures": []}).claimed
        (folder / "manifest.json").write_bytes(canonical_bytes(sign_manifest(manifest, self.release_key)))
        Shelf(self.home).sign_folder(folder)


def make_kit(
    folder: Path,
    spec: ExtractorSpec = SPEC,
    starting: Path | None = None,
    moment: datetime = MOMENT,
    members: int = 3,
) -> Kit:
    """A consortium in `folder`; `starting` is a weights file, made up where None."""
    home, clock = folder / "coordinator", FixedClock(moment)
    fingerprint = create_authority(home, "Test Consortium", ["localhost", "127.0.0.1"], clock)
    if starting is None:
        starting = folder / "starting.safetensors"
        generator = np.random.default_rng(7)
        tensors = {s.name: generator.normal(size=s.shape).astype(np.float32) for s in LAYOUT.slots}
        write_weights(starting, tensors, spec, LAYOUT)
    identities = {f"mem_{i:012x}": SigningKey.generate() for i in range(1, members + 1)}
    plan = Plan(
        consortium="Test Consortium",
        extractor_name="digits",
        extractor=spec,
        starting_weights=digest_of_file(starting),
        trainable_coordinates=read_weights(starting).layout.trainable_coordinates,
        training=TrainingTerms(1, 0.5, 0.5),
        privacy=PrivacyTerms(Mode.LOCAL, Unit.RECORD, 8.0, 1e-5, 1.0, 1.5, 0.05, 20.0),
        server=ServerOptimizer("fedavg"),
        rounds=4,
        evaluate_every=2,
        quorum=2,
        colluders=0,
        deadline_s=30.0,
        members=tuple(PlanMember(member_id, 500) for member_id in identities),
    )
    return Kit(home, clock, fingerprint, identities, starting, plan)


def continued(kit: Kit, number: int, starting: Path, run_id: str = "run_000000000002", **changes: Any) -> Kit:
    """The same consortium with a run whose plan starts from its release `number`; `changes` are of the plan."""
    release = kit.folder(number)
    weights = read_weights(release / WEIGHTS_FILE)
    predecessor = predecessor_in(release)
    start = named(predecessor)
    assert start is not None
    origin = Origin(TRAINED, start.release, digest_of_file(release / WEIGHTS_FILE), "")
    digest = write_weights(starting, weights.tensors, weights.spec, weights.layout, origin)
    plan = replace(kit.plan, starting_weights=digest, starting_release=start, **changes)
    own = {i: key for i, key in kit.identities.items() if plan.member(i)}
    return replace(kit, identities=own, starting=starting, plan=plan, run_id=run_id, predecessor=predecessor)


def make_used_kit(folder: Path, spec: ExtractorSpec, export: Export = weights_only) -> Kit:
    """A consortium of now with one release, whose weights really are an extractor of `spec`: for using it."""
    # Here, so that tests which only look at documents do not load torch.
    from shared.extractors.architectures import starting_weights

    starting = folder / "starting.safetensors"
    tensors, layout = starting_weights(spec, seed=3)
    write_weights(starting, tensors, spec, layout)
    kit = make_kit(folder, spec, starting, SystemClock().now())
    publish(kit.home, kit.request(), kit.clock, export=export)
    return kit


def make_secure_kit(folder: Path, members: int = 5, **settings: Any) -> Kit:
    """A consortium in mode secure: one colluder in three, quorum above two thirds, the excess noise removed."""
    kit = make_kit(folder, members=members, **settings)
    quorum = least_quorum(members)
    kit.plan = replace(
        kit.plan,
        privacy=replace(kit.plan.privacy, mode=Mode.SECURE),
        quorum=quorum,
        colluders=default_colluders(members),
        secure=SecureTerms(
            grid_width=1e-4, ring_bits=32, tolerance_steps=1, mask_reach=0, share_threshold=quorum
        ),
    )
    return kit


def refused(kit: Kit, folder: Path, proof: int, kind: type[CommonlensError], text: str) -> None:
    """The release must fail exactly this proof (counted from 1): all before it hold."""
    with pytest.raises(kind, match=text) as caught:
        verify_release(folder, pinned_root=kit.root, clock=kit.clock)
    assert f'Proof {proof} of {len(PROOFS)}, "{PROOFS[proof - 1]}", failed.' in caught.value.message


def on_certificate(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`act` as a change for `Kit.lie`, whatever it returns."""

    def change(certificate: Any) -> Any:
        act(certificate)
        return certificate

    return change


def safetensors(tensors: dict[str, Any], like: bytes) -> bytes:
    """A weights file with the metadata of `like` and other tensors."""
    (length,) = struct.unpack_from("<Q", like)
    header = {"__metadata__": json.loads(like[8 : 8 + length])["__metadata__"]}
    body = b""
    for name, value in sorted(tensors.items()):
        data = np.asarray(value, dtype="<f4")
        header[name] = {
            "dtype": "F32",
            "shape": list(data.shape),
            "data_offsets": [len(body), len(body) + data.nbytes],
        }
        body += data.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
