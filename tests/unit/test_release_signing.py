"""Keys, signatures and envelopes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from shared.domain.errors import AlreadyExists, BadSignature, Invalid, NotFound
from shared.release.envelope import parse_document, read_bounded, require, seal, signers
from shared.release.signing import SigningKey, payload, verify, verify_value


def test_signature_of_one_kind_does_not_hold_for_another() -> None:
    key = SigningKey.generate()
    signature = key.sign_value("consent", {"plan_digest": "sha256:00"})
    verify_value(key.public_hex, "consent", {"plan_digest": "sha256:00"}, signature)
    with pytest.raises(BadSignature, match="does not verify under the key"):
        verify_value(key.public_hex, "contribution", {"plan_digest": "sha256:00"}, signature)


def test_payload_carries_the_domain_and_refuses_an_unknown_kind() -> None:
    assert payload("roll", {"b": 1, "a": 2}) == b'commonlens:roll\0{"a":2,"b":1}'
    with pytest.raises(Invalid, match="not 'rolls'"):
        payload("rolls", {})


@pytest.mark.parametrize("change", [str.upper, lambda s: s[:-2], lambda s: "0x" + s[2:], lambda s: s + "\n"])
def test_signature_has_one_written_form(change) -> None:  # type: ignore[no-untyped-def]
    key = SigningKey.generate()
    signature = key.sign(b"x")
    with pytest.raises(BadSignature, match="128 lower-case hex digits"):
        verify(key.public_hex, b"x", change(signature))
    with pytest.raises(BadSignature, match="64 lower-case hex digits"):
        verify(key.public_hex + "\n", b"x", signature)


def test_private_key_file_is_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    key, path = SigningKey.generate(), tmp_path / "keys" / "identity.pem"
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load(path).public_hex == key.public_hex
    with pytest.raises(AlreadyExists, match="It was not replaced"):
        SigningKey.generate().save(path)
    assert SigningKey.load(path).public_hex == key.public_hex
    assert [p.name for p in path.parent.iterdir()] == ["identity.pem"]


def test_loading_a_key_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no key file a\.pem"):
        SigningKey.load(tmp_path / "a.pem")
    (tmp_path / "a.pem").write_text("not a key")
    with pytest.raises(Invalid, match="not an unencrypted PEM private key"):
        SigningKey.load(tmp_path / "a.pem")


def test_a_key_never_shows_itself() -> None:
    key = SigningKey.generate()
    assert repr(key) == f"SigningKey(public={key.public_hex})"


def test_one_key_that_signs_twice_counts_once() -> None:
    one, two = SigningKey.generate(), SigningKey.generate()
    envelope = seal("trust", {"a": 1}, [one, one])
    accepted = [one.public_hex, two.public_hex]
    assert signers("trust", envelope, accepted) == {one.public_hex}
    with pytest.raises(BadSignature, match=r"needs 2 signature\(s\) by the root keys; 1 verify"):
        require("trust", envelope, accepted, 2, "root keys")
    require("trust", seal("trust", {"a": 1}, [one, two]), accepted, 2, "root keys")


def test_a_threshold_of_zero_is_still_one() -> None:
    with pytest.raises(BadSignature, match="needs 1 signature"):
        require("roll", seal("roll", {}, []), [], 0, "roll key")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": "\\ud800"}',
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        "\xff",
        "[]",
        "",
    ],
)
def test_json_that_two_readers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="Nothing was read"):
        parse_document(text.encode("latin-1"), "document")


def test_bounded_read_follows_no_link_and_keeps_the_bound(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_bounded(tmp_path / "real", 10) == b"x" * 10
    with pytest.raises(Invalid, match="may have 9 bytes and has more"):
        read_bounded(tmp_path / "real", 9)
    with pytest.raises(Invalid, match="cannot be opened as a plain file"):
        read_bounded(tmp_path / "link", 10)
    with pytest.raises(Invalid, match="not a plain file|cannot be opened"):
        read_bounded(tmp_path, 10)


@pytest.mark.parametrize("signatures", [None, {}, ["x"], [{"key": "a"}], [{"key": "a", "sig": 1}], [{}] * 33])
def test_an_envelope_with_odd_signatures_is_refused(signatures) -> None:  # type: ignore[no-untyped-def]
    envelope = json.loads(json.dumps({"signed": {}, "signatures": signatures}))
    with pytest.raises(Invalid, match="Nothing was read"):
        signers("roll", envelope, [])
