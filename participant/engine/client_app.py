"""The ClientApp that this member installed: the only code that a round's message can reach."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.domain.errors import InvalidMessage
from shared.wire.rounds import RoundReply, RoundRequest, StepRequest, decode_request, encode

BODY_RECORD = "commonlens"
MESSAGE_TYPE = "train.commonlens"


def build_client_app(answer: Callable[[RoundRequest | StepRequest], RoundReply]) -> ClientApp:
    """A ClientApp whose one action hands the decoded request to `answer` and encodes its reply."""
    app = ClientApp()

    @app.train("commonlens")
    def train(message: Message, context: Context) -> Message:
        # The context is not used: member state lives in the member's folder, never in Flower's RAM.
        body = message.content[BODY_RECORD]["body"]
        reply = answer(decode_request(body if isinstance(body, bytes) else b""))
        content = RecordDict({BODY_RECORD: ConfigRecord({"body": encode(reply)})})
        return Message(content, reply_to=message)

    return app


def check_instruction(message: Message) -> None:
    """Raise InvalidMessage for anything but a round's instruction: no other message reaches an app here."""
    ours = (
        message.metadata.message_type == MESSAGE_TYPE
        and not message.has_error()
        and isinstance(message.content.get(BODY_RECORD), ConfigRecord)
        and "body" in message.content[BODY_RECORD]
    )
    if not ours:
        raise InvalidMessage("A message was not a round's instruction. It was ignored, and nothing was run.")


def empty_context(node_id: int, run_id: int) -> Context:
    """The context that Flower's call signature asks for; nothing is kept in it."""
    return Context(run_id=run_id, node_id=node_id, node_config={}, state=RecordDict(), run_config={})
