"""What becomes of a text: read or refused, fitted into bytes, counted, embedded; its padding never matters."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.domain.canonical import digest_of
from shared.domain.errors import InvalidConfig, InvalidRecords
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.strict import build as built_from
from shared.domain.strict import to_plain
from shared.extractors.architectures import TEXT, build
from shared.extractors.preprocess import fit_record, fit_text, to_input
from shared.extractors.text import NgramCounts
from shared.extractors.texts import MAXIMUM_TEXT_BYTES, decode_text

TINY = {
    "ngram-bag": {"buckets": 512, "width": 8, "hidden": 8},
    "byte-transformer": {"width": 12, "depth": 2, "heads": 3},
}
SPEC = ExtractorSpec("ngram-bag", 1, 1, 8, 6, kind=RecordKind.TEXT)


def spec_of(name: str, width: int = 24) -> ExtractorSpec:
    return ExtractorSpec(name, 1, 1, width, 6, options=TINY[name], kind=RecordKind.TEXT)


def inputs(texts: list[str], spec: ExtractorSpec) -> torch.Tensor:
    return torch.from_numpy(to_input(np.stack([fit_record(text.encode(), spec) for text in texts]), spec))


def test_spec_of_pictures_is_written_as_before_there_were_texts() -> None:
    picture = ExtractorSpec("small-gn", 1, 28, 28, 64, options={"width": 8})
    assert "kind" not in to_plain(picture)
    # The digest that this very spec had then.
    assert digest_of(to_plain(picture)) == digest_of(
        {
            **{"architecture": "small-gn", "channels": 1, "height": 28, "width": 28, "embedding_dim": 64},
            **{"mean": [0.5], "std": [0.5], "options": {"width": 8}},
        }
    )
    assert to_plain(SPEC)["kind"] == "text"
    assert built_from(ExtractorSpec, to_plain(SPEC), "spec") == SPEC
    with pytest.raises(InvalidConfig, match="spec.kind: expected one of 'image', 'text', found 'sound'"):
        built_from(ExtractorSpec, {**to_plain(SPEC), "kind": "sound"}, "spec")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no text"),
        (b" \t\n ", "has no text"),
        (b"caf\xe9", "is not UTF-8: byte 3 cannot be read"),
        (b"a\x00b", "holds the character NUL"),
        (b"a" * (MAXIMUM_TEXT_BYTES + 1), f"is larger than {MAXIMUM_TEXT_BYTES} bytes"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRecords, match=reason):
        decode_text(data)


def test_text_typed_in_two_ways_is_one_text() -> None:
    assert decode_text(" cafe\u0301\n".encode()) == decode_text("caf\u00e9".encode()) == "caf\u00e9"


def test_text_becomes_its_bytes_and_then_zeros() -> None:
    fitted = fit_text("für", SPEC)
    assert (fitted.shape, fitted.dtype) == ((1, 8, 1), np.uint8)
    assert fitted.ravel().tolist() == [0x66, 0xC3, 0xBC, 0x72, 0, 0, 0, 0]
    x = to_input(fitted[None], SPEC)
    assert x.shape == (1, 1, 1, 8)
    assert x.ravel().tolist() == [102.0, 195.0, 188.0, 114.0, 0, 0, 0, 0]
    np.testing.assert_array_equal(to_input(fitted[None], replace(SPEC, mean=(0.1,), std=(9.0,))), x)


@pytest.mark.parametrize(
    ("text", "kept"), [("abcdefgh", 8), ("abcdefghi", 8), ("abcdefgü", 7), ("日本語", 6)]
)
def test_long_text_is_cut_where_a_character_ends(text: str, kept: int) -> None:
    fitted = fit_text(text, SPEC).ravel()
    assert fitted[:kept].tobytes() == text.encode()[:kept]
    assert not fitted[kept:].any()
    fitted[:kept].tobytes().decode("utf-8")


def slots_by_hand(text: str, buckets: int, longest: int) -> Counter[int]:
    data = b" " + text.encode() + b" "
    counted: Counter[int] = Counter()
    for length in range(1, longest + 1):
        for start in range(len(data) - length + 1):
            hashed = 0
            for byte in data[start : start + length]:
                hashed = (hashed * 1_000_003 + byte + 1) % (2**31 - 1)
            counted[hashed % buckets] += 1
    return counted


@pytest.mark.parametrize("text", ["a", "für", "Strasse", "otto otto otto otto x"])
@pytest.mark.parametrize(("buckets", "longest"), [(16, 1), (512, 4), (4096, 8)])
def test_counts_are_those_of_the_formula(text: str, buckets: int, longest: int) -> None:
    spec = spec_of("ngram-bag")
    found = NgramCounts(buckets, longest)(inputs([text], spec))[0].numpy()
    counted = slots_by_hand(text, buckets, longest)
    expected = np.zeros(buckets)
    for slot, hits in counted.items():
        expected[slot] = hits * math.sqrt(buckets / counted.total())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", TEXT)
def test_padding_does_not_move_the_embedding(name: str) -> None:
    texts = ["a", "Strasse", "日本語", "x" * 24]
    short, long = build(spec_of(name, 24), seed=1), build(spec_of(name, 90), seed=1)
    found, again = short(inputs(texts, spec_of(name, 24))), long(inputs(texts, spec_of(name, 90)))
    torch.testing.assert_close(found, again, rtol=1e-5, atol=1e-6)
    assert (found - found[:1])[1:].abs().max(dim=1).values.min() > 1e-3


@pytest.mark.parametrize("name", TEXT)
def test_order_of_the_bytes_is_seen(name: str) -> None:
    module, spec = build(spec_of(name), seed=1), spec_of(name)
    found = module(inputs(["abcd", "dcba"], spec))
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", TEXT)
def test_input_without_a_text_gives_numbers_all_the_same(name: str) -> None:
    # No record is one, yet an attacker's input may be.
    assert torch.isfinite(build(spec_of(name), seed=1)(torch.zeros(2, 1, 1, 24))).all()
