"""A tokenizer whose tokens are the bytes of a text, as the package `tokenizers` and transformers read it.

Their byte-level alphabet has a printable character for each of the 256 bytes. A text becomes such characters first,
then patterns over them do to it what `fit_text` does, and what is left is one token for each.
"""

from __future__ import annotations

from typing import Any, Final

from shared.extractors.byte_transformer_shape import BYTES

PADDING: Final = "\0"
"""Token 0. It is looked for in texts, so it is the one character that no text has."""
_PRINTED: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that stand for themselves in the alphabet; the others are counted from U+0100 on (Radford et al. 2019)."""


def tokenizer(most_bytes: int) -> dict[str, Any]:
    """What tokenizer.json says: Unicode form C, stripped, UTF-8, at most so many bytes, cut where a character ends."""
    alphabet = _alphabet()
    vocabulary = {character: byte for byte, character in enumerate(alphabet)}
    del vocabulary[alphabet[0]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": 0,
                "content": PADDING,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Strip", "strip_left": True, "strip_right": True},
                {"type": "ByteLevel"},
                _without(f"(?<=^.{{{most_bytes}}}).+"),
                _without(_cut_character(alphabet)),
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "model": {"type": "BPE", "vocab": {PADDING: 0, **vocabulary}, "merges": []},
    }


def tokenizer_config(most_bytes: int) -> dict[str, Any]:
    """What tokenizer_config.json says: padding stands behind, and there is one kind of token."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": most_bytes,
        "pad_token": PADDING,
        "padding_side": "right",
    }


def _alphabet() -> list[str]:
    """A character for each byte, in the order of bytes."""
    others = [byte for byte in range(BYTES) if byte not in _PRINTED]
    characters = {byte: chr(byte) for byte in _PRINTED}
    characters |= {byte: chr(0x100 + place) for place, byte in enumerate(others)}
    return [characters[byte] for byte in range(BYTES)]


def _cut_character(alphabet: list[str]) -> str:
    """The beginning of a character at the end, without all of the bytes that it has in UTF-8."""
    following, of_two, of_three, of_four = (
        f"[{''.join(alphabet[first:end])}]"
        for first, end in ((0x80, 0xC0), (0xC2, 0xE0), (0xE0, 0xF0), (0xF0, 0xF5))
    )
    return f"(?:{of_two}|{of_three}{following}?|{of_four}{following}{{0,2}})$"


def _without(pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
