"""How a record becomes an input, in words and numbers for other languages (shared/extractors/preprocess.py does it)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.extractors.wordpiece import WORD_PIECES

_FIT: Final[Mapping[RecordKind, str]] = {
    RecordKind.IMAGE: (
        "Turned upright by its EXIF orientation; transparent parts over white; grey (ITU-R 601-2 luma) or RGB; unless "
        "the picture has the target's size already, the largest centred part of the target's proportions is cut out "
        "and resized by Pillow's bilinear filter with antialiasing (ImageOps.fit); then (value / 255 - mean) / std, "
        "channels first."
    ),
    RecordKind.TEXT: (
        "Unicode normal form C without white space around it, in UTF-8; cut to max_bytes (width) bytes where a "
        "character ends, then zeros; each byte as a number 0 to 255, in the shape [1, 1, width]. mean and std mean "
        "nothing."
    ),
}
_FIT_TOKENS: Final = (
    "Unicode normal form C without white space around it, in UTF-8; cut to max_bytes (width) bytes where a character "
    "ends; then the word pieces that tokenizer.json of the release cuts, [CLS] before and [SEP] after them, at most as "
    "many as max_seq_length of sentence_bert_config.json. mean and std mean nothing."
)


def fit_of(spec: ExtractorSpec) -> str:
    """What is done to a record, in words."""
    return _FIT_TOKENS if spec.architecture in WORD_PIECES else _FIT[spec.kind]


def per_channel(values: tuple[float, ...], spec: ExtractorSpec) -> tuple[float, ...]:
    """`values`, one for all or one each, as one for each channel."""
    return values * spec.channels if len(values) == 1 else values
