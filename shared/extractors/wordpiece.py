"""Texts to the numbers of their word pieces, as BERT's uncased tokenizer cuts them.

The vocabulary comes with the weights. What cuts is written here and made of the package `tokenizers`: a file gives a
list of words and nothing else, no rule and no pattern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.extractors.packages import TOKENIZERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORD_PIECES: Final = ("bert",)
"""The architectures that read them."""
PADDING, UNKNOWN, BEGIN, END, MASKED = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LEAST_TOKENS: Final = 3
"""One between the first and the last."""

Ids = npt.NDArray[np.int64]


class WordPieces:
    """float32 [B, 1, 1, L] of bytes → ids and mask, both int64 [B, T]; T is what the longest text of the batch needs.

    Devlin et al. 2018, "BERT", section 3, and Wu et al. 2016, "Google's neural machine translation system", section
    4.1: lower case without accents, words, then always the longest piece that the vocabulary has.
    """

    def __init__(self, vocabulary: tuple[str, ...], most_tokens: int) -> None:
        """What is longer than `most_tokens`, the first and the last among them, is cut.

        Raises InvalidWeights for a vocabulary without the special tokens, InvalidConfig where the package is missing.
        """
        self.tokenizer = tokenizer_of(vocabulary)
        self.tokenizer.enable_truncation(most_tokens)
        self.tokenizer.enable_padding(pad_id=vocabulary.index(PADDING), pad_token=PADDING)

    def __call__(self, records: npt.NDArray[np.float32]) -> tuple[Ids, Ids]:
        """Ids and mask; the mask is 1 on a text's own tokens."""
        texts = [text_of(record) for record in records.reshape(len(records), -1).astype(np.uint8)]
        cut = self.tokenizer.encode_batch_fast(texts)
        shape = (len(cut), len(cut[0].ids) if cut else LEAST_TOKENS)
        ids = np.array([one.ids for one in cut], dtype=np.int64).reshape(shape)
        mask = np.array([one.attention_mask for one in cut], dtype=np.int64).reshape(shape)
        return ids, mask


def text_of(record: npt.NDArray[np.uint8]) -> str:
    """uint8 [L] → the text whose bytes they are, up to the zeros behind it."""
    return record.tobytes().rstrip(b"\0").decode("utf-8", "replace")


def tokenizer_of(vocabulary: tuple[str, ...]) -> Tokenizer:
    """The tokenizer as the package has it, without a limit. Raises as `WordPieces`."""
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    except ImportError as error:
        raise InvalidConfig(
            "This extractor reads word pieces, cut by the package tokenizers, which is not installed here. Nothing was "
            f"embedded. Install it: {TOKENIZERS.install}"
        ) from error
    missing = [token for token in SPECIAL if token not in vocabulary]
    if missing or len(set(vocabulary)) != len(vocabulary):
        what = f"{missing[0]} is missing" if missing else "a word occurs twice"
        raise InvalidWeights(
            f"Expected a vocabulary of different words with {', '.join(SPECIAL)}; {what}. Nothing was loaded. Get the "
            "file again from its release, and verify it."
        )
    ids = {word: place for place, word in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(vocab=ids, unk_token=UNKNOWN, max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        pair=f"{BEGIN} $A {END} $B:1 {END}:1",
        special_tokens=[(BEGIN, ids[BEGIN]), (END, ids[END])],
    )
    made.add_special_tokens(list(SPECIAL))
    return made
