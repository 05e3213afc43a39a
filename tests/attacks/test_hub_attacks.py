"""Attacks on the hub, as a table of sentences: what is asked so that it was not meant, and that nothing comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.app import Coordinator, build_coordinator
from coordinator.config import Config
from coordinator.dashboard.rules import RULES
from coordinator.registry.hub_errors import header_text
from coordinator.registry.hub_shelf import namespace
from tests.hub_kit import CONSORTIUM, SPACE, hub_kit, publish_named, put_beside
from tests.knock import Answer, knock
from tests.release_kit import Kit

MODEL = f"/api/models/{SPACE}/digits"
FILES = f"/{SPACE}/digits/resolve/main"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = hub_kit(tmp_path_factory.mktemp("hub"), values=2000)
    kit.publish("one")
    kit.publish("two")
    publish_named(kit, "edges")
    return kit


@pytest.fixture(scope="module")
def coordinator(kit: Kit) -> Iterator[Coordinator]:
    yield from running(kit, True)


def running(kit: Kit, public: bool) -> Iterator[Coordinator]:
    made = build_coordinator(kit.home, Config(CONSORTIUM, public_releases=public), kit.clock)
    yield made
    made.carrier.stop()
    made.engine.dispose()


def ask(
    coordinator: Coordinator, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return knock(coordinator.asgi, method, path, named, body)


def refused(answer: Answer) -> bool:
    """With a 4xx in the hub's form: nothing of this machine, nothing of what was asked."""
    if not 400 <= answer.status < 500:
        return False
    problem = json.loads(answer.text)
    return bool(problem["error"] == problem["detail"]) and "/tmp" not in answer.text


# Decoded once, as a server decodes what a client sent as %2F, %2e, %00 and so on.
PATHS = (
    "../../../trust.json",
    "../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "..",
    ".",
    "",
    "plan.json/",
    "./plan.json",
    "parts/../plan.json",
    "PLAN.JSON",
    "plan.json\x00",
    "plan.json%00",
    "%2e%2e%2f%2e%2e%2ftrust.json",
    "..\\..\\trust.json",
    "../1/plan.json",
    "../../catalogue.json",
    "../../../keys/release.pem",
    "../../../coordinator.db",
    "a" * 5000,
    "ｐlan.json",
    "plan.json?x=1#y",
)


@pytest.mark.parametrize("file", PATHS, ids=[repr(path[:30]) for path in PATHS])
def test_only_names_of_the_release_are_files(coordinator: Coordinator, file: str) -> None:
    for method in ("GET", "HEAD"):
        answer = knock(coordinator.asgi, method, f"{FILES}/{file}".replace("?", "%3F"))
        assert refused(answer) and answer.header("x-error-code") == "EntryNotFound"


def test_line_breaks_in_an_address_add_no_header(coordinator: Coordinator) -> None:
    for path in (
        f"{FILES}/plan.json\r\nX-Evil: 1",
        f"{MODEL}/revision/v1\r\nX-Evil: 1",
        "/api/models?limit=1\r\nX-Evil: 1",
    ):
        answer = ask(coordinator, path)
        assert 400 <= answer.status < 500 and answer.header("x-evil") == ""


@pytest.mark.parametrize("name", ["../..", "..%2f..", ".", "\x00", "a" * 5000, "main/..", "v01", "V1", "v1 "])
def test_only_names_of_the_repository_are_revisions(coordinator: Coordinator, name: str) -> None:
    for path in (
        f"{MODEL}/revision/{name}",
        f"{MODEL}/commits/{name}",
        f"/{SPACE}/digits/resolve/{name}/plan.json",
    ):
        answer = ask(coordinator, path)
        assert refused(answer), path
        assert answer.header("x-error-code") in ("RevisionNotFound", "EntryNotFound"), path


@pytest.mark.parametrize(
    "repository", ["../x", "digits", f"{SPACE}/..", f"{SPACE}/digits.git", f"{SPACE.upper()}/digits"]
)
def test_only_extractors_are_repositories(coordinator: Coordinator, repository: str) -> None:
    for path in (
        f"/api/models/{repository}",
        f"/api/models/{repository}/tree/main",
        f"/{repository}/resolve/main/plan.json",
    ):
        assert refused(ask(coordinator, path)), path


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1e9", "limit=99999999999999999999", "limit=" + "9" * 5000, "limit=ten", "limit=",
        "limit=%D9%A1", "sort=secret", "sort[]=x&sort=", "cursor=nothing", "cursor=" + "a" * 5000,
        "filter=" + "a" * 500, "&".join(["filter=a"] * 60), "&".join(["search=a"] * 60), "num_parameters=min:1B",
    ],
)  # fmt: skip
def test_lists_are_asked_for_within_bounds(coordinator: Coordinator, query: str) -> None:
    answer = ask(coordinator, f"/api/models?{query}")
    assert refused(answer) and answer.status == 400, answer.text


def test_the_largest_limit_gives_one_page(coordinator: Coordinator) -> None:
    answer = ask(coordinator, "/api/models?limit=1000000")
    assert answer.status == 200 and len(json.loads(answer.text)) == 2 and answer.header("link") == ""


OUTSIDE = ("bytes=999999999999-", "bytes=" + "9" * 40 + "-", "bytes=-0", "bytes=5-2")
NO_RANGES = (
    "bytes=0-0,2-2",
    "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4000, 2)),
    "bytes=",
    "bytes=-",
    "bytes=a-b",
    "bytes=0-" + "9" * 5000,
    "bytes=" + "9" * 5000 + "-",
    "bytes=--5",
    "lines=0-5",
    "bytes",
    "bytes=0x1-",
    "bytes=٣-",
)


@pytest.mark.parametrize("text", [*OUTSIDE, *NO_RANGES], ids=lambda text: text[:24])
def test_odd_ranges_are_refused_or_passed_over(coordinator: Coordinator, kit: Kit, text: str) -> None:
    """What is no single range of bytes gives the whole file once (RFC 9110, section 14.2), however many it names."""
    range_header = text.encode("utf-8").decode("latin-1")
    answer = ask(coordinator, f"{FILES}/model.safetensors", range=range_header)
    whole = (kit.folder(2) / "model.safetensors").read_bytes()
    if text in OUTSIDE:
        assert refused(answer) and answer.status == 416
        assert answer.header("content-range") == f"bytes */{len(whole)}"
    else:
        assert (answer.status, answer.body, answer.header("content-range")) == (200, whole, "")


@pytest.mark.parametrize(
    ("text", "first", "last"), [
        ("bytes=0-9", 0, 9), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-5", 5, 5),
    ],
)  # fmt: skip
def test_ranges_give_exactly_their_bytes(
    coordinator: Coordinator, kit: Kit, text: str, first: int, last: int | None
) -> None:
    """Or the table above would prove nothing."""
    whole = (kit.folder(2) / "model.safetensors").read_bytes()
    answer = ask(coordinator, f"{FILES}/model.safetensors", range=text)
    expected = whole[first : None if last is None else last + 1]
    begin = first if first >= 0 else len(whole) + first
    assert (answer.status, answer.body) == (206, expected)
    assert answer.header("content-range") == f"bytes {begin}-{begin + len(expected) - 1}/{len(whole)}"
    assert answer.header("accept-ranges") == "bytes"


def test_a_range_of_other_bytes_gives_the_whole_file(coordinator: Coordinator, kit: Kit) -> None:
    """If-Range: whoever began with another release's file must not join two halves."""
    whole = (kit.folder(2) / "model.safetensors").read_bytes()
    path = f"{FILES}/model.safetensors"
    etag = ask(coordinator, path, "HEAD").header("etag")
    assert re.fullmatch(r'"[0-9a-f]{64}"', etag)
    assert ask(coordinator, path, range="bytes=10-", if_range=etag).body == whole[10:]
    for other in ('"' + "0" * 64 + '"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        answer = ask(coordinator, path, range="bytes=10-", if_range=other)
        assert (answer.status, answer.body) == (200, whole), other
    beyond = ask(coordinator, path, range=f"bytes={len(whole) + 5}-", if_range='"' + "0" * 64 + '"')
    assert beyond.status in (200, 416)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"&".join([b"paths=a"] * 2000), "application/x-www-form-urlencoded"),
        (b"[" * 100_000, "application/json"),
        (b"[]", "application/json"),
        (b"{", "application/json"),
    ],
)
def test_odd_bodies_are_refused(coordinator: Coordinator, body: bytes, kind: str) -> None:
    answer = ask(coordinator, f"{MODEL}/paths-info/main", "POST", body, content_type=kind)
    assert refused(answer) and answer.status == 400


def test_paths_outside_are_passed_over(coordinator: Coordinator) -> None:
    body = b"paths=../../catalogue.json&paths=/etc/passwd&paths=plan.json&expand=maybe"
    answer = ask(
        coordinator,
        f"{MODEL}/paths-info/main",
        "POST",
        body,
        content_type="application/x-www-form-urlencoded",
    )
    assert [line["path"] for line in json.loads(answer.text)] == ["plan.json"]


@pytest.mark.parametrize("folder", ["..", "../..", "%2e%2e", "plan.json", "a/../..", "\x00", "parts"])
def test_only_folders_of_the_release_have_trees(coordinator: Coordinator, folder: str) -> None:
    answer = ask(coordinator, f"{MODEL}/tree/main/{folder}")
    assert refused(answer) and answer.header("x-error-code") == "EntryNotFound"


def test_a_link_on_the_shelf_leads_nowhere(kit: Kit, tmp_path: Path) -> None:
    """Whoever can write into a release's folder, but not read the keys, cannot have them sent.

    The link to the key has as many characters as the file that it stands for has bytes.
    """
    own = kit.copy(tmp_path / "coordinator")
    for name in ("plan.json", "trust.json", "model.sig"):
        path = own.folder(2) / name
        target = "../../../keys/release.pem"
        longer = path.stat().st_size - len(target)
        path.unlink()
        path.symlink_to("./" * (longer // 2) + "/" * (longer % 2) + target)
    assert (own.folder(2) / "plan.json").read_bytes().startswith(b"-----BEGIN PRIVATE KEY")
    for coordinator in running(own, True):
        for name in ("plan.json", "trust.json", "model.sig"):
            answer = ask(coordinator, f"{FILES}/{name}")
            assert answer.status >= 400 and b"PRIVATE" not in answer.body, name


def test_bytes_of_another_size_are_not_sent_under_the_promised_digest(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    path = own.folder(2) / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    for coordinator in running(own, True):
        answer = ask(coordinator, f"{FILES}/model.safetensors")
        assert answer.status == 500 and json.loads(answer.text)["incident"]
        assert ask(coordinator, f"/{SPACE}/digits/resolve/v1/model.safetensors").status == 200


def test_a_release_that_was_exchanged_is_not_shown_and_hides_no_other(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    for name in ("manifest.json", "README.md"):
        (own.folder(2) / name).write_bytes((own.folder(1) / name).read_bytes())
    for coordinator in running(own, True):
        assert ask(coordinator, MODEL).status == 500
        assert ask(coordinator, f"{FILES}/model.safetensors").status == 500
        assert [line["id"] for line in json.loads(ask(coordinator, "/api/models").text)] == [f"{SPACE}/edges"]


def test_files_are_never_shown_as_pages(kit: Kit, tmp_path: Path) -> None:
    """The hub has the dashboard's origin: a picture with a script must not run beside a session's cookie."""
    own = kit.copy(tmp_path / "coordinator")
    put_beside(own, {"page.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'}, number=2)
    for coordinator in running(own, True):
        for name in ("page.svg", "README.md", "config.json"):
            answer = ask(coordinator, f"{FILES}/{name}")
            if answer.status == 200:
                assert answer.header("content-type") == "application/octet-stream"
                assert answer.header("content-disposition").startswith("attachment")
                assert answer.header("x-content-type-options") == "nosniff"


def test_the_next_page_leads_to_no_strangers_host(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends its token along to whatever address the header names."""
    from coordinator.registry import hub_list

    monkeypatch.setattr(hub_list, "PAGE", 1)
    assert (
        ask(coordinator, "/api/models", host="127.0.0.1:9").header("link").startswith("<https://127.0.0.1:9/")
    )
    for host in (
        "evil.example",
        "127.0.0.1@evil.example",
        "localhost.evil.example",
        "localhost:1/x",
        "[",
        "",
        "localhost#",
    ):
        link = ask(coordinator, "/api/models", host=host).header("link")
        assert link.startswith("<https://localhost:8443/api/models?cursor="), host
    link = ask(coordinator, "/api/models?search=s%3E%3B%0D%0AX-Evil:1&search=s", host="localhost").header(
        "link"
    )
    assert link == "" or (link.count(">") == 1 and "\n" not in link)
    link = ask(coordinator, "/api/models?x=%3E%3B%0D%0AX-Evil:1", host="localhost").header("link")
    assert link.count(">") == 1 and "\n" not in link


def test_a_reason_cannot_add_headers(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    for coordinator in running(own, True):
        coordinator.control.state.releases.withdraw(
            "digits-2", "account:Ada", "Wrong; see “note” — ε too high"
        )
        answer = ask(coordinator, f"/{SPACE}/digits/resolve/v2/plan.json")
        assert answer.status == 200
        assert answer.header("x-commonlens-warning").startswith("digits-2 was withdrawn: Wrong; see ?note?")
        assert answer.header("x-hf-warning").startswith("withdrawn-digits-2; digits-2 was withdrawn")
    assert header_text("a\r\nX-Evil: 1") == "a X-Evil: 1"


def test_gated_hub_tells_a_stranger_nothing(kit: Kit, tmp_path: Path) -> None:
    """Not even which names exist: what is there and what is not is refused in the same words."""
    own = kit.copy(tmp_path / "coordinator")
    for coordinator in running(own, False):
        answers = [
            ask(coordinator, path)
            for path in (
                "/api/models", MODEL, f"/api/models/{SPACE}/nothing", f"{MODEL}/refs", f"{MODEL}/tree/v9",
                f"{FILES}/plan.json", f"{FILES}/nothing", f"/{SPACE}/nothing/resolve/main/plan.json",
                "/api/models/x", "/x/resolve/main/y",
            )
        ]  # fmt: skip
        assert {answer.status for answer in answers} == {401}
        assert {answer.header("x-error-code") for answer in answers} == {"GatedRepo"}
        assert len({answer.text for answer in answers}) == 1 and SPACE not in answers[0].text


def test_hub_shadows_no_page(coordinator: Coordinator) -> None:
    """An address of a page is answered by the page, whatever the consortium is called."""
    for method, path in RULES:
        first = path.split("/")[1]
        assert first not in ("api", SPACE)
        if method == "GET":
            answer = ask(coordinator, re.sub(r"{\w+}", "resolve", path))
            assert answer.header("x-error-code") == ""
    for taken in ("API", "Static", "v1", "Extractors", "datasets"):
        assert namespace(taken) == f"{taken.lower()}-consortium"
