"""Attacks with code to run, with bodies without end, and with tickets of others.

The coordinator is the whole application as it is deployed; attackers hold whatever the sentence says.
"""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

import pytest
from flwr.proto.fleet_pb2 import (
    PullMessagesRequest,
)
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from coordinator.engine.fleet_app import FLEET_PREFIX
from shared.wire.rounds import (
    CONTRIBUTION_PATH,
    TICKET_HEADER,
    WEIGHTS_PATH,
    RoundRequest,
    decode_request,
)
from tests.fleet import (
    ASK,
    PATHS_SEEN,
    Fleet,
    active,
    ask_of,
    contribute,
    raw,
    status_of,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("no_round_left_open")


# --- Code to run --------------------------------------------------------------------------------------


def bundle(marker: Path) -> bytes:
    """A Flower app bundle whose import, client app and build hook each write `marker`."""
    evil = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    project = (
        '[build-system]\nrequires = []\nbuild-backend = "hook"\nbackend-path = ["."]\n'
        '[project]\nname = "evil"\nversion = "1.0.0"\n'
        '[tool.flwr.app]\npublisher = "evil"\n'
        '[tool.flwr.app.components]\nserverapp = "evil:app"\nclientapp = "evil:app"\n'
    )
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("pyproject.toml", project)
        archive.writestr("evil.py", evil)
        archive.writestr("evil/__init__.py", evil)
        archive.writestr("hook.py", evil)
    return data.getvalue()


def run_with_bundle(fleet: Fleet, marker: Path) -> None:
    """From now on the carrier's messages belong to a run that advertises the bundle, as stock Flower's do."""
    content = bundle(marker)
    hash_str = fleet.state.store_fab(Fab("", content, {}))
    run_id = fleet.state.create_run(
        "evil/evil", "1.0.0", hash_str, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
    )
    info = fleet.state.get_run_info(run_ids=[run_id])[0]
    assert info.fab_hash == hash_str
    task_id = info.primary_task_id
    assert task_id is not None
    assert fleet.state.claim_task(task_id) is not None and fleet.state.activate_task(task_id)
    fleet.carrier._flower_run_id, fleet.carrier._task_id = run_id, task_id


def test_bundle_that_is_advertised_to_a_member_is_neither_fetched_nor_run(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "the bundle ran"
    member = fleet.honest()
    run_with_bundle(fleet, marker)
    PATHS_SEEN.clear()
    for number, kind in enumerate(("train", "evaluate", "query", "train.evil", "system"), start=1):
        with monkeypatch.context() as context:
            context.setattr("coordinator.engine.carrier.MESSAGE_TYPE", kind)
            fleet.carrier.ask(ask_of(number), [member.id], fleet.weights)
        assert fleet.carrier.next_answer(0.3) is None
        fleet.carrier.close_exchange()
    # The same process is still there, and answers what is ours, also in the run with the bundle.
    assert member.thread is not None and member.thread.is_alive()
    fleet.carrier.ask(ask_of(9), [member.id], fleet.weights)
    assert fleet.answers(1)[member.id].payload is not None
    assert f"{FLEET_PREFIX}push-messages" in PATHS_SEEN
    assert not [path for path in PATHS_SEEN if "fab" in path or "get-run" in path]
    assert not marker.exists()


def test_instruction_without_our_record_is_ignored_and_the_node_lives(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = fleet.honest()
    with monkeypatch.context() as context:
        context.setattr("coordinator.engine.carrier.BODY_RECORD", "other")
        fleet.carrier.ask(ASK, [member.id], fleet.weights)
    assert fleet.carrier.next_answer(0.3) is None
    fleet.carrier.close_exchange()
    wait_until(lambda: any("was not a round's instruction" in report for report in member.reports))
    fleet.carrier.ask(ask_of(2), [member.id], fleet.weights)
    assert fleet.answers(1)[member.id].payload is not None


# --- Bodies and tickets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/api/v1/enrolments", "/api/v1/sessions", f"{FLEET_PREFIX}activate-node", "/nowhere"]
)
@pytest.mark.parametrize("length", ["content-length: 99999999999", "transfer-encoding: chunked"])
def test_oversized_body_is_refused_before_it_is_read(fleet: Fleet, path: str, length: str) -> None:
    """No byte of the body is sent: whoever waited for it would never answer."""
    head = f"POST {path} HTTP/1.1\r\nhost: c\r\ncontent-type: {PROTOBUF_MEDIA_TYPE}\r\n{length}\r\n\r\n"
    assert raw(fleet, head.encode()) == 422


def upload_ticket(fleet: Fleet) -> tuple[str, int]:
    size_bytes = fleet.weights.stat().st_size
    return fleet.bulk.expect("mem_1", size_bytes), size_bytes


def test_upload_cut_in_the_middle_is_not_there_and_may_be_sent_again(fleet: Fleet) -> None:
    ticket, size_bytes = upload_ticket(fleet)
    head = f"PUT {CONTRIBUTION_PATH} HTTP/1.1\r\nhost: c\r\n{TICKET_HEADER}: {ticket}\r\n"
    data = f"{head}content-length: {size_bytes}\r\n\r\n".encode() + b"x" * (size_bytes // 2)
    raw(fleet, data, then_close=True)
    done = threading.Event()
    with fleet.client() as client:
        for _ in range(100):
            assert fleet.bulk.staged(ticket) is None
            answer = client.put(CONTRIBUTION_PATH, content=b"y" * size_bytes, headers={TICKET_HEADER: ticket})
            if answer.status_code == 204:
                break
            done.wait(0.05)  # the server has not noticed the cut yet
    staged = fleet.bulk.staged(ticket)
    assert staged is not None and staged.read_bytes() == b"y" * size_bytes


def test_body_with_two_lengths_fills_no_disk(fleet: Fleet) -> None:
    ticket, size_bytes = upload_ticket(fleet)
    head = f"PUT {CONTRIBUTION_PATH} HTTP/1.1\r\nhost: c\r\n{TICKET_HEADER}: {ticket}\r\n"
    both = f"{head}content-length: {size_bytes}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    status = raw(fleet, both + (b"8000\r\n" + b"z" * 0x8000 + b"\r\n") * 8 + b"0\r\n\r\n")
    assert status >= 400
    assert fleet.bulk.staged(ticket) is None
    staging = fleet.home / "staging"
    assert sum(path.stat().st_size for path in staging.iterdir()) <= size_bytes


def test_tickets_are_void_in_the_other_direction_twice_and_for_strangers(fleet: Fleet) -> None:
    ticket, size_bytes = upload_ticket(fleet)
    down = fleet.bulk.offer("mem_1", fleet.weights)
    data = b"1" * size_bytes
    with fleet.client() as client:

        def put(name: str) -> int:
            return client.put(CONTRIBUTION_PATH, content=data, headers={TICKET_HEADER: name}).status_code

        def get(name: str) -> int:
            return client.get(WEIGHTS_PATH, headers={TICKET_HEADER: name}).status_code

        assert (put(down), get(ticket), put("guess"), get("guess"), get("")) == (403,) * 5
        assert (put(ticket), put(ticket), get(ticket)) == (204, 403, 403)
        longer = client.put(
            CONTRIBUTION_PATH, content=data * 2, headers={TICKET_HEADER: fleet.bulk.expect("m", size_bytes)}
        )
        assert longer.status_code == 422
        fleet.carrier.close_exchange()
        assert (get(down), put(ticket)) == (403, 403)


def test_signed_poll_in_anothers_name_gets_nothing_of_its_instruction(fleet: Fleet) -> None:
    (_, bad), (victim, good) = active(fleet), active(fleet)
    fleet.carrier.ask(ASK, [victim.id], fleet.weights)
    assert status_of(bad._client.PullMessages, PullMessagesRequest(node=good._node)) == 401
    assert good.receive() is not None


def test_node_that_restarts_in_a_round_is_asked_again_with_fresh_tickets(fleet: Fleet) -> None:
    member, link = active(fleet)
    fleet.carrier.ask(ASK, [member.id], fleet.weights)
    first = link.receive()
    assert first is not None
    seen: list[RoundRequest] = []
    work = contribute(member.id, member.identity, fleet.home)
    member.start(lambda request, transfers: (seen.append(request), work(request, transfers))[1])
    assert fleet.answers(1)[member.id].payload is not None
    old = decode_request(first.content["commonlens"]["body"])  # type: ignore[arg-type]
    assert seen[0].round_number == old.round_number
    assert seen[0].contribution_ticket != old.contribution_ticket
