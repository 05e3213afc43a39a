"""Flower's Fleet API as an ASGI app of its own, with node authentication, and nothing else of Flower.

The open-source SuperLink serves its Control and Runtime APIs, which have no authentication, on the same
port. They are not mounted here at all: on the member port their paths answer 404.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.error import http_error_translator
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.config_loader import (
    get_federation_manager,
    get_objectstore_linkstate_factories,
)
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from coordinator.engine.nodes import FlowerNodes

FLEET_PREFIX = "/v1/fleet/"
"""The only path prefix of Flower that members can reach."""


def build_fleet_app() -> tuple[FastAPI, LinkState, FlowerNodes]:
    """The Fleet API over a link state in memory, that state, and the register of nodes.

    Memory is right here: the engine's database is transport state. The truth (members, rounds, checkpoints)
    is in our own database, and node keys are registered from it at every start.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    _, linkstate_factory = get_objectstore_linkstate_factories(
        FLWR_IN_MEMORY_DB_NAME, get_federation_manager(is_simulation=False)
    )
    state = linkstate_factory.state()
    app = FastAPI(
        title="Commonlens Fleet",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # In request order, outermost first.
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
            Middleware(ProtobufTranslationMiddleware),
            Middleware(NodeAuthMiddleware),
            Middleware(BaseHTTPMiddleware, dispatch=refuse_false_names),
        ],
    )
    app.state.linkstate_factory = linkstate_factory
    app.state.enable_supernode_auth = True
    app.state.nodes = nodes = FlowerNodes(state)
    app.include_router(fleet_router)
    return app, state, nodes


async def refuse_false_names(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """401 for a suspended node, and for a message whose source is not the node that signed the request.

    Flower authenticates the caller but not the source written inside a pushed message, so one member could
    answer first in another's name and have the real answer dropped as a duplicate. A poll is held here until
    there is an instruction for its node; whoever is suspended meanwhile is refused at once.
    """
    body = getattr(request.state, "protobuf_request", None)
    nodes: FlowerNodes = request.app.state.nodes
    if isinstance(body, ActivateNodeRequest):
        node_id = nodes.node_of_key(body.public_key)
    elif isinstance(body, DeactivateNodeRequest):
        node_id = body.node_id
    else:
        node_id = body.node.node_id if hasattr(body, "node") else None
    if isinstance(body, PullMessagesRequest) and nodes.may_speak(node_id):
        await nodes.doorbell.wait(body.node.node_id)
    if not nodes.may_speak(node_id):
        return _refused("This member is suspended.")
    if isinstance(body, PushMessagesRequest) and any(
        message.metadata.src_node_id != node_id for message in body.messages_list
    ):
        return _refused("A node may only answer in its own name.")
    return await call_next(request)


def _refused(reason: str) -> Response:
    # JSON, because Flower's translation turns any other kind of refusal into a 500.
    return JSONResponse({"detail": reason}, status_code=401)
