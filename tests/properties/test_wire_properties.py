"""Whatever bytes arrive, decoding gives a message or InvalidMessage and never another exception."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidMessage
from shared.domain.update import ContributionHeader, ValidationCounts
from shared.wire.rounds import RoundReply, RoundRequest, decode_reply, decode_request, encode

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SIZES, WHOLE = st.integers(0, 2**31), st.integers(-(2**63), 2**64 - 1)
REQUESTS = st.builds(RoundRequest, WHOLE, TEXTS, WHOLE, TEXTS, TEXTS, SIZES, NUMBERS, TEXTS, TEXTS)
COUNTS = st.none() | st.builds(ValidationCounts, NUMBERS, NUMBERS)
HEADERS = st.builds(ContributionHeader, TEXTS, TEXTS, WHOLE, TEXTS, TEXTS, SIZES, COUNTS)
REPLIES = st.builds(RoundReply, header=HEADERS, signature=TEXTS) | st.builds(
    RoundReply, refusal_code=TEXTS, refusal_text=st.none() | TEXTS
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(REQUESTS)
@settings(deadline=None)
def test_every_request_comes_back_as_it_went(request: RoundRequest) -> None:
    assert decode_request(encode(request)) == request


@given(REPLIES)
@settings(deadline=None)
def test_every_reply_comes_back_as_it_went(reply: RoundReply) -> None:
    assert decode_reply(encode(reply)) == reply


def _decodes_or_refuses(body: bytes) -> None:
    for decode in (decode_request, decode_reply):
        try:
            message = decode(body)
        except InvalidMessage:
            continue
        # What was accepted can be signed, stored and shown: it has canonical bytes.
        encode(message)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_random_bytes_are_never_another_exception(body: bytes) -> None:
    _decodes_or_refuses(body)


@given(JSON)
@settings(deadline=None)
def test_random_json_is_never_another_exception(value: Any) -> None:
    _decodes_or_refuses(json.dumps(value).encode())


@given(st.one_of(REQUESTS, REPLIES), st.data())
@settings(deadline=None)
def test_mutated_bytes_are_never_another_exception(message: RoundRequest | RoundReply, data: Any) -> None:
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not body:
            break
    _decodes_or_refuses(bytes(body))


@given(st.one_of(REQUESTS, REPLIES), st.data())
@settings(deadline=None)
def test_mutated_fields_are_never_another_exception(message: RoundRequest | RoundReply, data: Any) -> None:
    value = json.loads(encode(message))
    where = value
    if isinstance(value.get("header"), dict) and data.draw(st.booleans()):
        where = value["header"]
    where[data.draw(st.sampled_from(sorted(where)) | TEXTS)] = data.draw(JSON)
    _decodes_or_refuses(json.dumps(value).encode())
