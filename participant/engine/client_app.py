"""The ClientApp that this member installed: the only code that a round's message can reach."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.wire.rounds import RoundReply, RoundRequest, decode_request, encode

BODY_RECORD = "commonlens"


def build_client_app(answer: Callable[[RoundRequest], RoundReply]) -> ClientApp:
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


def empty_context(node_id: int, run_id: int) -> Context:
    """The context that Flower's call signature asks for; nothing is kept in it."""
    return Context(run_id=run_id, node_id=node_id, node_config={}, state=RecordDict(), run_config={})
