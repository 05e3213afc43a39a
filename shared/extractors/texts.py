"""Bytes to one text, or a reason why not; every limit on what a text may be stands here.

The reasons are sentences without their subject, as those of pictures.py: the list that shows them names the text.
"""

from __future__ import annotations

import unicodedata

from shared.domain.errors import InvalidRecords

MAXIMUM_TEXT_BYTES = 2**20


def decode_text(data: bytes) -> str:
    """The text that `data` encodes in UTF-8, in Unicode's normal form C, without white space around it.

    So the same text typed in two ways is one text. Raises InvalidRecords whose message is the reason: not UTF-8, empty,
    too large, or with the character NUL, which stands for "no more bytes" from here on.
    """
    if len(data) > MAXIMUM_TEXT_BYTES:
        raise InvalidRecords(f"is larger than {MAXIMUM_TEXT_BYTES} bytes (it has {len(data)})")
    try:
        text = unicodedata.normalize("NFC", data.decode("utf-8")).strip()
    except UnicodeDecodeError as error:
        raise InvalidRecords(f"is not UTF-8: byte {error.start} cannot be read") from error
    if not text:
        raise InvalidRecords("has no text")
    if "\0" in text:
        raise InvalidRecords("holds the character NUL, which no text has")
    return text
