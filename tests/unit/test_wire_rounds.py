"""Round messages to bytes and back: bounded, and refused by name where they do not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.domain.errors import InvalidMessage
from shared.domain.update import ContributionHeader, ValidationCounts
from shared.wire.rounds import (
    MAXIMUM_BODY_BYTES,
    MAXIMUM_PAYLOAD_BYTES,
    RoundReply,
    RoundRequest,
    decode_reply,
    decode_request,
    encode,
)

REQUEST = RoundRequest(1, "run_000000000001", 3, "sha256:p", "sha256:w", 40, 60.0, "ticket", "other")
HEADER = ContributionHeader(
    "mem_1", "run_000000000001", 3, "sha256:p", "sha256:u", 40, ValidationCounts(3.5, -1.25), "sha256:w"
)
REPLY = RoundReply(header=HEADER, signature="ab" * 64)
REFUSAL = RoundReply(refusal_code="refused.consent-missing", refusal_text="This member has not consented.")


def changed(message: RoundRequest | RoundReply, **changes: Any) -> bytes:
    return json.dumps(json.loads(encode(message)) | changes).encode()


def changed_header(**changes: Any) -> bytes:
    return changed(REPLY, header=json.loads(encode(REPLY))["header"] | changes)


@pytest.mark.parametrize("reply", [REPLY, REFUSAL])
def test_reply_comes_back_as_it_went(reply: RoundReply) -> None:
    assert decode_reply(encode(reply)) == reply


def test_request_comes_back_as_it_went() -> None:
    assert decode_request(encode(REQUEST)) == REQUEST


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b"\xff\xff", b"1" * 5000, b"[" * 60_000, b'"\\ud800"']
)
def test_bytes_that_are_no_message_are_refused_by_name(body: bytes) -> None:
    with pytest.raises(InvalidMessage, match="RoundRequest could not be read"):
        decode_request(body)
    with pytest.raises(InvalidMessage, match="RoundReply could not be read"):
        decode_reply(body)


def test_oversized_body_is_refused_before_it_is_parsed() -> None:
    body = b"[" * (MAXIMUM_BODY_BYTES + 1)
    with pytest.raises(InvalidMessage, match=f"may have {MAXIMUM_BODY_BYTES} bytes, this one has"):
        decode_reply(body)


def test_oversized_message_is_not_sent_either() -> None:
    with pytest.raises(InvalidMessage, match="bytes, this one has"):
        encode(RoundReply(refusal_code="x", refusal_text="y" * MAXIMUM_BODY_BYTES))


@pytest.mark.parametrize("size_bytes", [-1, MAXIMUM_PAYLOAD_BYTES + 1])
def test_payload_without_bounds_is_refused(size_bytes: int) -> None:
    with pytest.raises(InvalidMessage, match=f"this message promises {size_bytes}"):
        decode_request(changed(REQUEST, weights_bytes=size_bytes))
    with pytest.raises(InvalidMessage, match=f"this message promises {size_bytes}"):
        decode_reply(changed_header(payload_bytes=size_bytes))


def test_reply_holds_a_contribution_or_a_refusal_and_not_both_or_neither() -> None:
    for reply in (RoundReply(), RoundReply(header=HEADER, signature="00", refusal_code="x")):
        with pytest.raises(InvalidMessage, match="either an answer or a refusal, not both or neither"):
            decode_reply(encode(reply))


def test_unknown_key_is_refused_so_that_nothing_unread_crosses() -> None:
    with pytest.raises(InvalidMessage, match="unknown key 'code_to_run'"):
        decode_request(changed(REQUEST, code_to_run="print()"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_number_that_is_none_is_refused(number: str) -> None:
    body = encode(REPLY).replace(b"3.5", number.encode())
    assert body != encode(REPLY)
    with pytest.raises(InvalidMessage, match="could not be read"):
        decode_reply(body)


def test_half_a_character_is_refused_because_no_page_could_show_it() -> None:
    with pytest.raises(InvalidMessage, match="could not be read"):
        decode_reply(changed(REFUSAL, refusal_text="\ud800"))
