"""A `byte-transformer` as transformers and sentence-transformers read it: the same numbers once more, in their words.

transformers calls the network an ESM (transformers 5.17, `models/esm/modeling_esm.py`): blocks with their norms in
front, a norm behind the last, erf GELU, positions added to the tokens, counted from the one behind the padding's. It
reads the file that config.json names, so `model.safetensors` stays what everything else here reads. The mean over a
text's bytes and the last Linear layer are modules of sentence-transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import json_file
from shared.exports.byte_tokenizer import tokenizer, tokenizer_config
from shared.exports.sentence_files import (
    MODULES_FILE,
    POOLING,
    POOLING_FILE,
    TOKENIZER_FILE,
    modules,
    pooling_config,
)
from shared.extractors.byte_transformer_shape import BYTES, EXPANSION, Shape, shape_of, tensor_shapes
from shared.extractors.files import Weights
from shared.extractors.flatten import Tensors
from shared.extractors.scope_shape import folded, split_scope

TRANSFORMERS_FILE: Final = "transformers.safetensors"
_ARCHITECTURE: Final = "byte-transformer"
_NORM_EPSILON: Final = 1e-5
_DENSE: Final = "2_Dense"
_LAYERS: Final = {
    "norm1": "attention.LayerNorm",
    "attention.out": "attention.output.dense",
    "norm2": "LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
}
"""Of a block; `attention.qkv` is three of theirs."""
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")


def transformers_reads(spec: ExtractorSpec) -> bool:
    """Whether transformers has this very network."""
    return spec.architecture == _ARCHITECTURE


def esm_config(spec: ExtractorSpec) -> dict[str, Any]:
    """What config.json says beside our own keys, in the words of transformers. Raises InvalidConfig."""
    shape = _shape(spec)
    return {
        "architectures": ["EsmModel"],
        "model_type": "esm",
        "transformers_weights": TRANSFORMERS_FILE,
        "attention_probs_dropout_prob": 0.0,
        "emb_layer_norm_before": False,
        "eos_token_id": None,
        "hidden_dropout_prob": 0.0,
        "hidden_size": shape.width,
        "intermediate_size": EXPANSION * shape.width,
        "layer_norm_eps": _NORM_EPSILON,
        "max_position_embeddings": spec.width + 1,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.depth,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "token_dropout": False,
        "vocab_size": BYTES,
    }


def transformers_files(weights: Weights) -> dict[str, bytes]:
    """Tensors, tokenizer, and the modules behind the network, by name.

    Raises InvalidConfig, and InvalidWeights for other tensors than the architecture's.
    """
    spec = weights.spec
    shape, ours = _shape(spec), _checked(weights)
    width = shape.width
    plain: dict[str, Any] = {
        TOKENIZER_FILE: tokenizer(spec.width),
        "tokenizer_config.json": tokenizer_config(spec.width),
        "sentence_bert_config.json": {"max_seq_length": spec.width, "do_lower_case": False},
        MODULES_FILE: modules(("", "Transformer"), (POOLING, "Pooling"), (_DENSE, "Dense")),
        POOLING_FILE: pooling_config(width),
        f"{_DENSE}/config.json": {
            "in_features": width,
            "out_features": spec.embedding_dim,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    dense = {f"linear.{name}": ours[f"out.{name}"] for name in ("weight", "bias")}
    return {
        TRANSFORMERS_FILE: _safetensors(esm_tensors(ours, shape)),
        f"{_DENSE}/model.safetensors": _safetensors(dense),
        **{name: json_file(value) for name, value in plain.items()},
    }


def esm_tensors(ours: Tensors, shape: Shape) -> Tensors:
    """Every tensor of transformers' EsmModel, float32. What it has and we have not is 0, and so is what comes of it."""
    width, positions = shape.width, ours["positions"]
    made: Tensors = {
        "embeddings.word_embeddings.weight": ours["embed.weight"].T * np.float32(math.sqrt(BYTES)),
        "embeddings.position_embeddings.weight": np.concatenate([np.zeros_like(positions[:1]), positions]),
        "encoder.emb_layer_norm_after.weight": ours["norm.weight"],
        "encoder.emb_layer_norm_after.bias": ours["norm.bias"],
        "pooler.dense.weight": np.zeros((width, width), np.float32),
        "pooler.dense.bias": np.zeros(width, np.float32),
        "contact_head.regression.weight": np.zeros((1, shape.depth * shape.heads), np.float32),
        "contact_head.regression.bias": np.zeros(1, np.float32),
    }
    for name, tensor in ours.items():
        made |= dict(_of_block(name, tensor))
    return made


def _of_block(name: str, tensor: npt.NDArray[np.float32]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """A tensor of a block under their name; queries, keys and values apart."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        return
    layer, kind = f"encoder.layer.{found[1]}", found[3]
    if found[2] != "attention.qkv":
        yield f"{layer}.{_LAYERS[found[2]]}.{kind}", tensor
        return
    for part, each in zip(("query", "key", "value"), np.split(tensor, 3), strict=True):
        yield f"{layer}.attention.self.{part}.{kind}", each


def _shape(spec: ExtractorSpec) -> Shape:
    return shape_of(split_scope(spec)[0])


def _checked(weights: Weights) -> Tensors:
    """The tensors of a network without scope. Before a table of theirs is made: its size must be that of a file."""
    tensors, spec = folded(weights.tensors), weights.spec
    expected = tensor_shapes(_shape(spec), spec.width, spec.embedding_dim)
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise InvalidWeights(
            f"Expected the tensors of {spec.architecture!r} with the file's own options, found others. Nothing was "
            "made of them for other programs. Get the file again from its release, and verify it."
        )
    return tensors


def _safetensors(tensors: Tensors) -> bytes:
    return save(
        {name: np.ascontiguousarray(each) for name, each in tensors.items()}, metadata={"format": "pt"}
    )
