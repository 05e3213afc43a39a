"""Where things lie in a member's folder, and the operator's own settings.

keys/            identity.pem (Ed25519), node.pem (EC P-384); mode 0600
coordinator.json url, CA, trust, member id, token: written by `join`
policy.toml      what this member allows; only its operator writes it
roll.json        the newest signed roll of members, with the trust document that names its key
peers.json       organisations that the operator approved, each pinned by its identity key
audit_heads.jsonl  what this member countersigned of the coordinator's audit log
participant.toml settings that change speed, never the guarantee
data/<name>/     an index of each data set that was added
ledger.jsonl     every privacy charge, for life
plans/ consents/ plans that were reviewed, and the consents given to them
outbox/          sealed contributions, sent again byte for byte when asked again
training/        training heads inside the mechanism; never leave this folder
seen_weights/    digests of what each round began with, to compare releases with
round_keys/      one-round keys and shares of mode secure; deleted two rounds later, or after a day
cache/           decoded pixels; safe to delete while the node is stopped
releases/ heads/ what was pulled, and the private heads fitted on it
metrics.jsonl    seconds of this node's own rounds; never leaves this folder
energy.jsonl     joules of their training; never leaves this folder
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """A member's folder."""

    root: Path

    @property
    def identity_key(self) -> Path:
        """Signs consents and contributions."""
        return self.root / "keys" / "identity.pem"

    @property
    def node_key(self) -> Path:
        """Names this node to the carrier."""
        return self.root / "keys" / "node.pem"

    @property
    def ca_file(self) -> Path:
        """The consortium's CA, for TLS clients that want a file."""
        return self.root / "ca.pem"

    @property
    def ledger(self) -> Path:
        """Every privacy charge, for life."""
        return self.root / "ledger.jsonl"

    @property
    def policy(self) -> Path:
        """What this member allows."""
        return self.root / "policy.toml"

    @property
    def roll(self) -> Path:
        """The newest signed roll that was accepted."""
        return self.root / "roll.json"

    @property
    def peers(self) -> Path:
        """Organisations that the operator approved."""
        return self.root / "peers.json"

    @property
    def peers_lock(self) -> Path:
        """Held while peers.json is changed."""
        return self.root / "peers.lock"

    @property
    def audit_heads(self) -> Path:
        """What this member countersigned of the coordinator's audit log."""
        return self.root / "audit_heads.jsonl"

    @property
    def settings(self) -> Path:
        """participant.toml: RuntimeOptions, what changes speed only; may be absent."""
        return self.root / "participant.toml"

    @property
    def outbox(self) -> Path:
        """Sealed contributions."""
        return self.root / "outbox"

    @property
    def plans(self) -> Path:
        """Reviewed plans and their starting weights."""
        return self.root / "plans"

    @property
    def consents(self) -> Path:
        """Consents given, one file per plan."""
        return self.root / "consents"

    @property
    def training(self) -> Path:
        """Training heads inside the mechanism."""
        return self.root / "training"

    @property
    def round_keys(self) -> Path:
        """One-round keys and shares of mode secure, one folder a run."""
        return self.root / "round_keys"

    @property
    def releases(self) -> Path:
        """Verified releases that were pulled."""
        return self.root / "releases"

    @property
    def seen_weights(self) -> Path:
        """Digests of what each round began with, a file for each run."""
        return self.root / "seen_weights"

    @property
    def metrics(self) -> Path:
        """Seconds of this node's own rounds; never leaves this folder."""
        return self.root / "metrics.jsonl"

    @property
    def energy(self) -> Path:
        """Joules of the training of this node's own rounds; never leaves this folder."""
        return self.root / "energy.jsonl"
