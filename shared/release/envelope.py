"""The signed envelope {"signed": …, "signatures": [{"key", "sig"}]} and the strict reading of its JSON."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shared.domain.canonical import Digest, digest_of
from shared.domain.errors import BadSignature, Invalid, NotFound
from shared.domain.strict import build
from shared.release import limits
from shared.release.signing import SigningKey, is_public_key, payload, verify

T = TypeVar("T")
Envelope = dict[str, Any]
_AGAIN = "Get it again from where it came."
AGAIN = f"Nothing was read. {_AGAIN}"
"""How a refusal of what others wrote and signed ends: nobody can correct it here."""


def seal(kind: str, value: Any, keys: Iterable[SigningKey]) -> Envelope:
    """`value` (plain) in an envelope signed by each of `keys`."""
    data = payload(kind, value)
    return {"signed": value, "signatures": [{"key": key.public_hex, "sig": key.sign(data)} for key in keys]}


def signers(kind: str, envelope: Envelope, accepted: Iterable[str]) -> frozenset[str]:
    """Those of the public keys `accepted` whose signature in the envelope holds. Each key counts once."""
    wanted = frozenset(key for key in accepted if is_public_key(key))
    data = payload(kind, signed_part(envelope))
    found = set()
    for line in _signature_lines(envelope):
        if line["key"] in wanted:
            try:
                verify(line["key"], data, line["sig"])
            except BadSignature:
                continue
            found.add(line["key"])
    return frozenset(found)


def require(kind: str, envelope: Envelope, accepted: Sequence[str], threshold: int, by: str) -> None:
    """Raise BadSignature unless at least `threshold` distinct keys of `accepted` signed the envelope."""
    found = len(signers(kind, envelope, accepted))
    if found < max(threshold, 1):
        raise BadSignature(
            f"The {kind} document needs {max(threshold, 1)} signature(s) by the {by}; {found} verify. "
            "Nothing of it was accepted. Get it again from your consortium, over a channel you trust."
        )


def signed_part(envelope: Envelope) -> dict[str, Any]:
    """What was signed, unchecked. Raises Invalid where the envelope is not one."""
    value = envelope.get("signed")
    if set(envelope) != {"signed", "signatures"} or not isinstance(value, dict):
        raise Invalid(f'A signed document has exactly "signed" and "signatures"; this one has not. {AGAIN}')
    return value


def envelope_digest(envelope: Envelope) -> Digest:
    """Digest of the signed part alone: signatures may be added without changing it."""
    return digest_of(signed_part(envelope))


def read_signed(kind: type[T], expected_format: str, value: Mapping[str, Any], where: str) -> T:
    """`value` as the dataclass `kind`, after its format is recognised. Raises Invalid."""
    found = value.get("format")
    if found != expected_format:
        raise Invalid(
            f"{where}: expected the format {expected_format!r}, found {str(found)[:60]!r}. Nothing "
            "was read. "
            "If a newer Commonlens wrote it, upgrade this one."
        )
    return build(kind, value, where, _AGAIN)


def parse_document(data: bytes, where: str) -> dict[str, Any]:
    """JSON object from bytes that nobody vouches for yet: no repeated keys, no NaN, no lone surrogates."""
    if not data:
        raise Invalid(f"{where} is empty. {AGAIN}")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        # An escaped lone surrogate parses but has no UTF-8 form, so it could not have been signed.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{where} is cut off, or not a JSON document that can be signed. {AGAIN}") from error
    if not isinstance(value, dict):
        raise Invalid(f"{where}: expected a JSON object, found {type(value).__name__}. {AGAIN}")
    return value


def read_bounded(path: Path, maximum_bytes: int) -> bytes:
    """The bytes of a plain file of at most `maximum_bytes`; follows no link. Raises NotFound, Invalid."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no file {path.name} in {path.parent}. Nothing was read. Check that it is the right folder, and "
            "whole."
        ) from error
    except OSError as error:
        raise Invalid(f"{path.name} cannot be opened as a plain file. {AGAIN}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Invalid(f"{path.name} is not a plain file. {AGAIN}")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(maximum_bytes + 1)
    if len(data) > maximum_bytes:
        raise Invalid(f"{path.name} may have {maximum_bytes} bytes and has more. {AGAIN}")
    return data


def read_document(path: Path, maximum_bytes: int) -> dict[str, Any]:
    """`parse_document` of `read_bounded`."""
    return parse_document(read_bounded(path, maximum_bytes), path.name)


def _signature_lines(envelope: Envelope) -> list[dict[str, str]]:
    lines = envelope["signatures"]
    if not isinstance(lines, list) or len(lines) > limits.SIGNATURES:
        raise Invalid(
            f"A signed document has a list of at most {limits.SIGNATURES} signatures; this one has not. {AGAIN}"
        )
    for line in lines:
        if (
            not isinstance(line, dict)
            or set(line) != {"key", "sig"}
            or not all(isinstance(text, str) for text in line.values())
        ):
            raise Invalid(f'A signature has exactly the texts "key" and "sig"; this one has not. {AGAIN}')
    return lines


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that can be signed")
