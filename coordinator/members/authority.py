"""The consortium's authority: root, roll and release keys, the CA, and the signed trust document.

The root key signs only the trust document: after `create_authority` it can be moved to a safe place, and
comes back only to change a key. The roll and release keys are the ones that work every day.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from coordinator.members.certificates import (
    belong_together,
    make_ca,
    make_server_certificate,
    names_of,
    needs_renewal,
)
from coordinator.members.seal import Seal
from shared.domain.clock import Clock, to_text
from shared.domain.errors import AlreadyExists, NotFound
from shared.domain.files import read_json, sync_folder, write_atomically, write_json
from shared.domain.ids import new_id
from shared.release import openssf
from shared.release.authority import ca_fingerprint
from shared.release.signing import SigningKey
from shared.release.trust import RootKeys, Trust, sign_trust

TRUST_LIFETIME = timedelta(days=366)
_PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class AuthorityFiles:
    """Where each file of the authority is, under the coordinator's home."""

    home: Path

    @property
    def keys(self) -> Path:
        """The folder of keys and certificates."""
        return self.home / "keys"

    @property
    def trust(self) -> Path:
        """The signed trust document."""
        return self.home / "trust.json"

    @property
    def ca(self) -> Path:
        """The CA's certificate, public."""
        return self.keys / "ca.pem"

    @property
    def server(self) -> Path:
        """The server's certificate, public."""
        return self.keys / "server.pem"

    @property
    def server_key(self) -> Path:
        """The server's private key."""
        return self.keys / "server-key.pem"

    def ca_pem(self) -> str:
        """Text of the CA's certificate. Raises NotFound before `create_authority`."""
        try:
            return self.ca.read_text(encoding="ascii")
        except FileNotFoundError as error:
            raise NotFound(
                "This coordinator has no certificate authority yet. Nothing was read. "
                "Run commonlens-coordinator init first."
            ) from error

    def fingerprint(self) -> str:
        """The CA's fingerprint: what members are told by another way than the network."""
        return ca_fingerprint(self.ca_pem())

    def trust_envelope(self) -> dict[str, Any]:
        """The signed trust document."""
        envelope: dict[str, Any] = read_json(self.trust)
        return envelope

    def roll_key(self) -> SigningKey:
        """The key that signs the roll."""
        return SigningKey.load(self.keys / "roll.pem")

    def release_key(self) -> SigningKey:
        """The key that signs releases and their catalogue."""
        return SigningKey.load(self.keys / "release.pem")

    @property
    def openssf_key(self) -> Path:
        """The key under the OpenSSF signatures of releases."""
        return self.keys / "openssf.pem"

    def seal(self) -> Seal:
        """What keeps second factors and half-finished sign-ins from anybody else."""
        return Seal(self.keys / "seal.key")


def create_authority(home: Path, consortium: str, names: Sequence[str], clock: Clock) -> str:
    """Make every key and certificate and the first trust document; give the CA's fingerprint.

    The keys appear all at once, by one rename, so a crash leaves none and the command can be run again.
    Raises AlreadyExists: an authority is never overwritten.
    """
    files = AuthorityFiles(home)
    if files.keys.exists():
        raise AlreadyExists(
            f"There are already keys in {files.keys}. Nothing was changed. Use another folder for another "
            "consortium."
        )
    home.mkdir(parents=True, exist_ok=True)
    draft = home / f".{new_id('keys')}.partial"
    try:
        draft.mkdir(mode=0o700)
        trust = _fill(draft, consortium, names, clock)
        write_json(files.trust, trust, _PUBLIC_MODE)
        draft.rename(files.keys)
        sync_folder(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return files.fingerprint()


def ensure_authority(home: Path, consortium: str, names: Sequence[str], clock: Clock) -> str:
    """The fingerprint of the authority in `home`, made now if there is none: for an init that crashed.

    Raises AlreadyExists where the authority there is another consortium's.
    """
    files = AuthorityFiles(home)
    if not files.keys.exists():
        return create_authority(home, consortium, names, clock)
    found = files.trust_envelope()["signed"]["consortium"]
    if found != consortium:
        raise AlreadyExists(
            f"The keys in {files.keys} are of the consortium {found!r}, not {consortium!r}. Nothing was "
            "changed. Use another folder for another consortium."
        )
    renew_server_certificate(home, names, clock, only_if_due=True)
    return files.fingerprint()


def renew_server_certificate(
    home: Path, names: Sequence[str], clock: Clock, only_if_due: bool = False
) -> bool:
    """Make a new server key and certificate; whether one was made.

    With `only_if_due`, one is made only when fewer than 30 days are left or the names changed. Members notice
    nothing: they trust the CA. Restart the server afterwards.
    """
    files = AuthorityFiles(home)
    if only_if_due and _still_good(files, names, clock):
        return False
    ca_key_pem = (files.keys / "ca-key.pem").read_text(encoding="ascii")
    certificate, key = make_server_certificate(files.ca_pem(), ca_key_pem, names, clock.now())
    # A crash between the two writes leaves a pair that does not fit, which makes a new one due.
    write_atomically(files.server_key, key.encode("ascii"))
    write_atomically(files.server, certificate.encode("ascii"), _PUBLIC_MODE)
    return True


def _still_good(files: AuthorityFiles, names: Sequence[str], clock: Clock) -> bool:
    if not files.server.exists() or not files.server_key.exists():
        return False
    try:
        certificate = files.server.read_text(encoding="ascii")
        return (
            set(names_of(certificate)) == set(names)
            and not needs_renewal(certificate, clock.now())
            and belong_together(certificate, files.server_key.read_text(encoding="ascii"))
        )
    except ValueError:  # neither is what it was
        return False


def _fill(folder: Path, consortium: str, names: Sequence[str], clock: Clock) -> dict[str, Any]:
    root, roll, release = (SigningKey.generate() for _ in range(3))
    for name, key in (("root", root), ("roll", roll), ("release", release)):
        key.save(folder / f"{name}.pem")
    ca_pem, ca_key_pem = make_ca(consortium, root.public_hex, clock.now())
    server_pem, server_key_pem = make_server_certificate(ca_pem, ca_key_pem, names, clock.now())
    write_atomically(folder / "ca.pem", ca_pem.encode("ascii"), _PUBLIC_MODE)
    write_atomically(folder / "ca-key.pem", ca_key_pem.encode("ascii"))
    write_atomically(folder / "server.pem", server_pem.encode("ascii"), _PUBLIC_MODE)
    write_atomically(folder / "server-key.pem", server_key_pem.encode("ascii"))
    trust = Trust(
        consortium=consortium,
        version=1,
        expires_at=to_text(clock.now() + TRUST_LIFETIME),
        root=RootKeys((root.public_hex,), 1),
        roll_key=roll.public_hex,
        release_key=release.public_hex,
        ca_sha256=ca_fingerprint(ca_pem),
        openssf_key=openssf.new_key(folder / "openssf.pem"),
    )
    return sign_trust(trust, [root])
