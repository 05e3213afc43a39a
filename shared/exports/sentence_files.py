"""A bert's files as transformers and sentence-transformers read them, and what every encoder of texts has of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shared.domain.extractor import ExtractorSpec
from shared.domain.files import json_file
from shared.extractors.bert_shape import NORM_EPSILON, TYPES, shape_of
from shared.extractors.files import Weights
from shared.extractors.wordpiece import BEGIN, END, MASKED, PADDING, UNKNOWN, tokenizer_of

VOCABULARY_FILE, TOKENIZER_FILE, MODULES_FILE = "vocab.txt", "tokenizer.json", "modules.json"
_TOKENS: Final = {
    "cls_token": BEGIN,
    "mask_token": MASKED,
    "pad_token": PADDING,
    "sep_token": END,
    "unk_token": UNKNOWN,
}
POOLING: Final = "1_Pooling"
POOLING_FILE: Final = f"{POOLING}/config.json"


def transformers_config(spec: ExtractorSpec) -> dict[str, Any]:
    """What config.json says beside our own keys, in the words of transformers."""
    shape = shape_of(spec)
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": spec.embedding_dim,
        "intermediate_size": shape.hidden,
        "layer_norm_eps": NORM_EPSILON,
        "max_position_embeddings": shape.places,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.depth,
        "type_vocab_size": TYPES,
        "vocab_size": shape.words,
    }


def sentence_files(weights: Weights) -> dict[str, bytes]:
    """Tokenizer, pooling and the order of modules, by name. Raises as `tokenizer_of`."""
    shape = shape_of(weights.spec)
    words = "".join(f"{word}\n" for word in weights.vocabulary)
    plain: Mapping[str, Any] = {
        "tokenizer_config.json": {
            **_TOKENS,
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": shape.places,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
        },
        "special_tokens_map.json": _TOKENS,
        MODULES_FILE: modules(("", "Transformer"), (POOLING, "Pooling"), ("2_Normalize", "Normalize")),
        "sentence_bert_config.json": {"max_seq_length": shape.tokens, "do_lower_case": False},
        POOLING_FILE: pooling_config(weights.spec.embedding_dim),
    }
    return {
        TOKENIZER_FILE: tokenizer_of(weights.vocabulary).to_str().encode("utf-8"),
        VOCABULARY_FILE: words.encode("utf-8"),
        **{name: json_file(value) for name, value in plain.items()},
    }


def modules(*each: tuple[str, str]) -> list[dict[str, Any]]:
    """What modules.json says: folder and kind of each part of a sentence encoder, in their order."""
    return [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(each)
    ]


def pooling_config(width: int) -> dict[str, Any]:
    """What POOLING_FILE says: the mean over a text's tokens, of `width` numbers each."""
    return {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
