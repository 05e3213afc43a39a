"""Warm members for the round benchmark: the real node loop and bulk transfer, and an answer that trains nothing.

`python round_members.py HOME…` serves every member's folder in a thread of its own until its standard input
ends; each takes COMMONLENS_BENCHMARK_TRAIN_S seconds over an answer, or none. Each answer appends one line to
HOME/laps.jsonl: when the instruction was there, when the weights were, when the payload was sealed, and when it was
sent; seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from participant.control import MemberControl
from participant.engine.fleet_link import FleetLink
from participant.engine.node import NodeLoop
from participant.engine.transfers import HttpTransfers
from participant.enrol import read_link
from participant.home import Home
from participant.outbox import Outbox, Sealed
from shared.domain.canonical import digest_of_bytes
from shared.domain.strict import to_plain
from shared.domain.update import ContributionHeader
from shared.release.signing import SigningKey
from shared.wire.rounds import RoundReply, RoundRequest


def node_loop(home: Home, train_s: float) -> NodeLoop:
    """A member's loop that answers every round with the weights it was sent, after `train_s`."""
    link, control = read_link(home.root), MemberControl(home)
    identity, outbox = SigningKey.load(home.identity_key), Outbox(home.outbox)
    transfers = HttpTransfers(control.client.http)
    key = load_pem_private_key(home.node_key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("keys/node.pem is not an EC key")

    def answer(request: RoundRequest) -> RoundReply:
        laps = [time.monotonic()]
        payload = transfers.fetch_weights(
            request.weights_ticket, request.weights_bytes, request.weights_digest
        )
        laps.append(time.monotonic())
        time.sleep(train_s)
        header = ContributionHeader(
            member_id=link.member_id,
            run_id=request.run_id,
            round_number=request.round_number,
            plan_digest=request.plan_digest,
            payload_digest=digest_of_bytes(payload),
            payload_bytes=len(payload),
            counts=None,
            weights_digest=request.weights_digest,
        )
        signature = identity.sign_value("contribution", to_plain(header))
        outbox.put(Sealed(header, signature), memoryview(payload))
        laps.append(time.monotonic())
        path = outbox.payload_path(request.run_id, request.round_number)
        transfers.send_contribution(request.contribution_ticket, path)
        laps.append(time.monotonic())
        with (home.root / "laps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([request.run_id, request.round_number, *laps]) + "\n")
        return RoundReply(header=header, signature=signature)

    return NodeLoop(
        connect=lambda: FleetLink(urlsplit(link.url).netloc, home.ca_file, key),
        answer=answer,
        report=lambda text: print(f"{link.name}: {text}", flush=True),
        announce_restart=control.announce_restart,
    )


def main() -> None:
    """Serve until standard input ends."""
    train_s = float(os.environ.get("COMMONLENS_BENCHMARK_TRAIN_S", "0"))
    loops = [node_loop(Home(Path(path)), train_s) for path in sys.argv[1:]]
    threads = [threading.Thread(target=loop.run, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    for loop in loops:
        loop.stop()
    for thread in threads:
        thread.join(timeout=5.0)


if __name__ == "__main__":
    main()
