"""The next trust document: a later expiry, and where asked for, new keys for releases or the roll.

Needs the root keys, which are kept elsewhere; they are named by path and only read. Members and strangers take
the new document by themselves the next time they look, because the root that they pinned signed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coordinator.members.authority import TRUST_LIFETIME, AuthorityFiles
from shared.domain.clock import Clock, to_text
from shared.domain.files import sync_folder, write_json
from shared.release import openssf
from shared.release.signing import SigningKey
from shared.release.trust import Trust, parse_trust, rotate

_PUBLIC_MODE = 0o644


def renew_trust(
    home: Path,
    root_keys: Sequence[Path],
    clock: Clock,
    new_release_key: bool = False,
    new_roll_key: bool = False,
) -> Trust:
    """Sign version n + 1 with `root_keys` and put it in place; the coordinator is restarted afterwards.

    New keys wait as `<name>-next.pem` until the document that names them is on disk, so that a crash at any
    point is mended by running this again. Raises NotFound, BadSignature for too few or wrong root keys.
    """
    files = AuthorityFiles(home)
    current = parse_trust(files.trust_envelope())
    _finish(files, current)
    following = replace(
        current, version=current.version + 1, expires_at=to_text(clock.now() + TRUST_LIFETIME)
    )
    if new_release_key:
        following = replace(following, release_key=_next_key(files, "release"))
    if new_release_key or not current.openssf_key:
        following = replace(following, openssf_key=_next_openssf_key(files))
    if new_roll_key:
        following = replace(following, roll_key=_next_key(files, "roll"))
    signers = [SigningKey.load(path) for path in root_keys]
    write_json(files.trust, rotate(files.trust_envelope(), following, signers), _PUBLIC_MODE)
    _finish(files, following)
    return following


def _next_key(files: AuthorityFiles, name: str) -> str:
    path = files.keys / f"{name}-next.pem"
    if not path.exists():
        SigningKey.generate().save(path)
    return SigningKey.load(path).public_hex


def _next_openssf_key(files: AuthorityFiles) -> str:
    path = files.keys / "openssf-next.pem"
    return openssf.public_key(path) if path.exists() else openssf.new_key(path)


def _public_hex(path: Path) -> str:
    return SigningKey.load(path).public_hex


def _finish(files: AuthorityFiles, trust: Trust) -> None:
    """Put waiting keys that the trust document on disk names into use; the old ones stay beside them."""
    for name, wanted, public in (
        ("release", trust.release_key, _public_hex),
        ("roll", trust.roll_key, _public_hex),
        ("openssf", trust.openssf_key, openssf.public_key),
    ):
        waiting, used = files.keys / f"{name}-next.pem", files.keys / f"{name}.pem"
        if waiting.exists() and public(waiting) == wanted:
            if used.exists():
                used.rename(files.keys / f"{name}-before-{trust.version}.pem")
            waiting.rename(used)
            sync_folder(files.keys)
