"""The next trust document: members follow it, and nothing else may take its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.members.authority import AuthorityFiles, create_authority
from coordinator.members.renewal import renew_trust
from shared.domain.clock import FixedClock, from_text
from shared.domain.errors import BadSignature, NotFound
from shared.release.signing import SigningKey
from shared.release.trust import check_rotation, open_trust, parse_trust


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(from_text("2026-11-21T12:00:00Z"))


@pytest.fixture
def files(tmp_path: Path, clock: FixedClock) -> AuthorityFiles:
    create_authority(tmp_path / "home", "Renewers", ["localhost"], clock)
    return AuthorityFiles(tmp_path / "home")


def test_renewed_trust_lasts_longer_and_is_taken_by_who_pinned_the_root(
    files: AuthorityFiles, clock: FixedClock
) -> None:
    before = files.trust_envelope()
    root = SigningKey.load(files.keys / "root.pem").public_hex
    clock.advance(300 * 86400)
    renewed = renew_trust(files.home, [files.keys / "root.pem"], clock)
    after = files.trust_envelope()
    assert check_rotation(before, after) == renewed and renewed.version == 2
    clock.advance(100 * 86400)  # the first one's time is over by now
    assert open_trust(after, root, clock).release_key == parse_trust(before).release_key


def test_new_keys_are_in_use_once_the_document_names_them(files: AuthorityFiles, clock: FixedClock) -> None:
    old = files.release_key().public_hex
    renewed = renew_trust(
        files.home, [files.keys / "root.pem"], clock, new_release_key=True, new_roll_key=True
    )
    assert files.release_key().public_hex == renewed.release_key != old
    assert files.roll_key().public_hex == renewed.roll_key
    assert SigningKey.load(files.keys / "release-before-2.pem").public_hex == old


def test_crash_after_the_document_is_mended_by_running_it_again(
    files: AuthorityFiles, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = []

        def dies_at_the_end(*arguments: object) -> None:
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt

        patch.setattr("coordinator.members.renewal._finish", dies_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            renew_trust(files.home, [files.keys / "root.pem"], clock, new_release_key=True)
    named = parse_trust(files.trust_envelope()).release_key
    assert files.release_key().public_hex != named
    assert renew_trust(files.home, [files.keys / "root.pem"], clock).release_key == named
    assert files.release_key().public_hex == named


def test_another_root_key_or_none_cannot_sign_it(
    files: AuthorityFiles, clock: FixedClock, tmp_path: Path
) -> None:
    before = files.trust.read_bytes()
    SigningKey.generate().save(tmp_path / "other.pem")
    with pytest.raises(BadSignature):
        renew_trust(files.home, [tmp_path / "other.pem"], clock)
    with pytest.raises(NotFound):
        renew_trust(files.home, [tmp_path / "nowhere.pem"], clock)
    assert files.trust.read_bytes() == before
