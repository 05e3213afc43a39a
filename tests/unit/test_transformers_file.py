"""What transformers reads of a byte-transformer: tokens are our bytes, tensors ours; other tensors are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import nn

from coordinator.workers.export_worker import sizes_bytes, write_configuration
from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import WEIGHTS_FILE
from shared.exports.configuration import config, configuration
from shared.exports.transformers_file import TRANSFORMERS_FILE, transformers_reads
from shared.extractors.architectures import build, starting_weights
from shared.extractors.byte_transformer_shape import shape_of, tensor_shapes
from shared.extractors.files import Weights, read_weights, write_weights
from shared.extractors.flatten import layout_of
from shared.extractors.preprocess import fit_record
from shared.extractors.scope_shape import SCOPES, folded

SPEC = ExtractorSpec(
    "byte-transformer", 1, 1, 48, 6, options={"width": 12, "depth": 2, "heads": 3}, kind=RecordKind.TEXT
)
PIECES = (
    "abc ",
    "\n\t\u3000\u00a0",
    "éüĀģ",
    "e\u0301\u1112\u1161\u11ab",
    "日本語",
    "🙂👍🏽",
    "\u00ad\x7f\x80",
    "\\0<pad>",
)
"""Of one to four bytes in UTF-8, white space, what becomes other characters in form C, and what is not printed."""


def scoped(scope: str) -> ExtractorSpec:
    return replace(SPEC, options={**SPEC.options, "scope": scope})


def weights_of(spec: ExtractorSpec) -> Weights:
    tensors, layout = starting_weights(spec, seed=1)
    return Weights(spec, layout, tensors)


def test_its_tokens_are_the_bytes_that_we_read(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed here")
    (tmp_path / "tokenizer.json").write_bytes(configuration(weights_of(SPEC))["tokenizer.json"])
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    generator = np.random.default_rng(2)
    lengths = []
    for length in generator.integers(0, 70, 3000):
        pieces = [PIECES[k] for k in generator.integers(0, len(PIECES), length)]
        text = "a" + "".join(piece[generator.integers(len(piece))] for piece in pieces)
        ours = fit_record(text.encode(), SPEC).tobytes().rstrip(b"\0")
        found = theirs.encode(text)
        assert bytes(found.ids) == ours and found.attention_mask == [1] * len(ours), repr(text)
        assert theirs.decode(found.ids).encode() == ours
        lengths.append(len(ours))
    assert {45, 46, 47, 48} <= set(lengths) and max(lengths) == 48


@pytest.mark.parametrize("scope", SCOPES)
def test_the_shapes_that_are_expected_of_a_file_are_those_that_are_built(scope: str) -> None:
    weights = weights_of(scoped(scope))
    expected = tensor_shapes(shape_of(SPEC), SPEC.width, SPEC.embedding_dim)
    assert {name: tensor.shape for name, tensor in folded(weights.tensors).items()} == expected
    assert TRANSFORMERS_FILE in configuration(weights)


def test_its_size_is_told_with_the_others_and_its_tensors_are_ours(tmp_path: Path) -> None:
    tensors, layout = starting_weights(SPEC, seed=1)
    write_weights(tmp_path / WEIGHTS_FILE, tensors, SPEC, layout)
    write_configuration(tmp_path, read_weights(tmp_path / WEIGHTS_FILE))
    assert list(sizes_bytes(tmp_path)) == [WEIGHTS_FILE, TRANSFORMERS_FILE]
    found = load_file(tmp_path / TRANSFORMERS_FILE)
    np.testing.assert_array_equal(
        found["embeddings.word_embeddings.weight"][65], 16 * tensors["embed.weight"][:, 65]
    )
    np.testing.assert_array_equal(found["embeddings.position_embeddings.weight"][1:], tensors["positions"])
    np.testing.assert_array_equal(
        found["encoder.layer.1.attention.self.value.weight"], tensors["blocks.1.attention.qkv.weight"][24:]
    )
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Dense"]


def test_transformers_divides_by_the_same_epsilon() -> None:
    """Of a network that was just drawn it moves no number far enough to be seen."""
    found = {layer.eps for layer in build(SPEC, seed=1).modules() if isinstance(layer, nn.LayerNorm)}
    assert found == {config(SPEC)["layer_norm_eps"]}


def test_what_transformers_has_not_is_not_told_to_be_its_own() -> None:
    other = ExtractorSpec("ngram-bag", 1, 1, 48, 6, options={"buckets": 16}, kind=RecordKind.TEXT)
    assert not transformers_reads(other) and config(other)["model_type"] == "commonlens"
    assert "modules.json" not in configuration(weights_of(other))


@pytest.mark.parametrize("name", ["embed.weight", "blocks.1.attention.qkv.weight", "out.bias"])
def test_a_file_with_other_tensors_is_refused_before_anything_is_made_of_it(name: str) -> None:
    honest = weights_of(SPEC)
    missing = {each: tensor for each, tensor in honest.tensors.items() if each != name}
    larger = {**honest.tensors, name: np.ones((1, *honest.tensors[name].shape), np.float32)}
    for tensors in (missing, larger, {**honest.tensors, "more.weight": np.ones(3, np.float32)}):
        with pytest.raises(
            InvalidWeights, match="Expected the tensors of 'byte-transformer' with the file's own"
        ):
            configuration(replace(honest, tensors=tensors, layout=layout_of(tensors, frozenset())))


def test_options_that_ask_for_more_than_the_file_holds_allocate_nothing() -> None:
    wide = replace(SPEC, options={"width": 65_536, "depth": 2, "heads": 4})
    with pytest.raises(InvalidWeights, match="Nothing was made of them for other programs"):
        configuration(replace(weights_of(SPEC), spec=wide))
