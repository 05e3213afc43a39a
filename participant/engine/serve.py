"""Put a member's node together and keep it running until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
from collections.abc import Callable
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from participant.audit_heads import HeadWatch
from participant.control import MemberControl
from participant.declaration import Declaration
from participant.engine.errands import Errands
from participant.engine.fleet_link import FleetLink
from participant.engine.node import NodeLoop
from participant.engine.transfers import HttpTransfers
from participant.enrol import read_link
from participant.home import Home
from participant.member import MemberNode
from participant.peers import RollWatch
from shared.domain.errors import InvalidConfig
from shared.domain.locking import held_lock

_RUNS_ALREADY = (
    "A node runs in this folder already. This one was not started: in turns they would take each other's place at the "
    "coordinator. End the other one first."
)


def serve(home: Home, report: Callable[[str], None]) -> None:
    """Serve until stopped. Raises NotFound before `join`, BrokenChain for a ledger that was touched, and Conflict
    where a node runs in this folder already.
    """
    link = read_link(home.root)
    key = load_pem_private_key(home.node_key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidConfig("keys/node.pem is not an EC key. The node was not started. Join again.")
    control = MemberControl(home)
    watch = RollWatch(home, control, report)

    def announce() -> None:
        control.announce_restart()
        watch.look()

    errands = Errands((Declaration(home, control, report).send, HeadWatch(home, control, report).look))
    node = MemberNode(home, HttpTransfers(control.client.http), report, watch.look)
    loop = NodeLoop(
        connect=lambda: FleetLink(urlsplit(link.url).netloc, home.ca_file, key),
        answer=node.answer,
        report=report,
        announce_restart=announce,
        tidy=node.tidy,
        at_rest=errands.wake,
    )
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: loop.stop())
    with held_lock(home.root / "running.lock", busy=_RUNS_ALREADY):
        report(f"{link.name}: node starts")
        errands.start()
        loop.run()
        errands.stop()
