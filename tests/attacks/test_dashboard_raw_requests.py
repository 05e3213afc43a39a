"""Requests that no browser sends: other methods, bombs, traversal, foreign hosts, split headers. Refused, no 5xx."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest

from coordinator.api_rules import API, api_rules
from coordinator.app import SPENT_BY_GET
from coordinator.dashboard import room as dashboard
from coordinator.dashboard.rules import ANYBODY, RULES
from coordinator.dashboard.sessions import form_proof
from shared.domain.consortium import Role
from tests.desk import served
from tests.full_board import FullBoard, ask, full_board, rows, session_of, with_values
from tests.knock import FORM, Answer, form, knock, session

PAGES = sorted({path for method, path in RULES if method == "GET"})
FORMS = sorted(path for (method, path), roles in RULES.items() if method == "POST")
LIMIT = 1024 * 1024
"""max_body_bytes of coordinator.toml's defaults."""


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("raw")) as made:
        yield made


def clean(answer: Answer) -> bool:
    """Refused in words, with the headers of every page, and nothing of ours in it."""
    told = answer.header("x-content-type-options") == "nosniff" or "problem+json" in answer.header(
        "content-type"
    )
    return 400 <= answer.status < 500 and told and "Traceback" not in answer.text


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "CONNECT", "QUERY", "get"])
def test_methods_that_no_page_has_are_refused_and_do_nothing(full: FullBoard, method: str) -> None:
    token = session_of(full, Role.ADMIN)
    before = rows(full)
    for path in sorted({path for _, path in RULES}):
        headers, body = form(token) if method in ("PUT", "PATCH", "DELETE") else (session(token), b"")
        answer = knock(full.coordinator.asgi, method, with_values(path, full.values()), headers, body)
        assert answer.status == 405, f"{method} {path}"
        assert token not in answer.text, "TRACE shows a cookie that scripts cannot read"
        allowed = {verb for verb, where in RULES if where == path}
        assert set(answer.header("allow").replace(",", " ").split()) <= allowed | {"HEAD"}, path
        assert answer.header("allow"), f"RFC 9110, 15.5.6: {path} says what it takes"
    assert rows(full) == before


def test_head_answers_as_get_does_to_the_same_people(full: FullBoard) -> None:
    routes = {**RULES, **api_rules(full.coordinator.control.routes)}
    for method, path in sorted(routes):
        if method != "GET" or path in SPENT_BY_GET:
            continue
        for role in (None, Role.MEMBER, Role.ADMIN):
            asked = (ask(full, (method, path), role, full.values()) for method in ("HEAD", "GET"))
            head, got = ((answer.status, answer.header("content-type")) for answer in asked)
            assert head == got, f"{path} to {role}"


def test_head_spends_counts_and_holds_nothing(full: FullBoard) -> None:
    for path in SPENT_BY_GET:
        assert knock(full.coordinator.asgi, "HEAD", path).status == 405, path
    before = rows(full)["release_downloads"]
    weights = full.values() | {"file": "model.safetensors", "name": "model.safetensors"}
    for path in (
        "/extractors/{name}/{number}/files/{file}",
        f"{API}/releases/{{extractor}}/{{number}}/files/{{name}}",
    ):
        assert ask(full, ("HEAD", path), Role.ADMIN, weights).status == 200, path
    assert rows(full)["release_downloads"] == before
    live = ask(full, ("HEAD", "/live"), Role.ADMIN)
    assert live.status == 200 and live.body == b"", "a stream would never end"


def test_head_has_no_body_on_the_wire(full: FullBoard) -> None:
    with served(full.coordinator.asgi, full.home) as base, httpx.Client(verify=False) as client:  # noqa: S501
        for path in ("/sign-in", f"{API}/health", "/static/style.css"):
            head, got = client.head(base + path), client.get(base + path)
            assert (head.status_code, head.content) == (200, b"") and got.content
            assert head.headers["content-length"] == got.headers["content-length"], path


def multipart(parts: int, size: int = 1, filename: str = "") -> tuple[dict[str, str], bytes]:
    name = f'; filename="{filename}"' if filename else ""
    one = f'--x\r\nContent-Disposition: form-data; name="f"{name}\r\n\r\n{"a" * size}\r\n'
    return {"content-type": "multipart/form-data; boundary=x"}, (one * parts + "--x--\r\n").encode()


BOMBS = {
    "ten thousand fields": ({"content-type": FORM}, urlencode([("f", "")] * 10_000).encode()),
    "ten thousand parts": multipart(10_000),
    "two thousand files": multipart(2_000, filename="f"),
    "one part of a megabyte": multipart(1, LIMIT - 500),
    "one file of a megabyte": multipart(1, LIMIT - 500, "big"),
    "no boundary": ({"content-type": "multipart/form-data"}, b"--x--"),
    "an endless boundary": ({"content-type": f"multipart/form-data; boundary={'x' * 5000}"}, b"--x--"),
    "cut off": ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nContent-Disposition: form-da"),
    "a charset that is not there": ({"content-type": f"{FORM}; charset=nothing"}, b"name=a&password=b"),
    "multipart in a charset that is not there": (
        {"content-type": "multipart/form-data; boundary=x; charset=nothing"},
        multipart(1)[1],
    ),
    "not UTF-8": ({"content-type": FORM}, b"name=%ff%fe&password=%00\xff"),
    "NUL everywhere": ({"content-type": FORM}, b"name=%00&password=%00&proof=%00"),
    "lone surrogates": ({"content-type": FORM}, b"name=%ED%A0%80&password=%ED%A0%80"),
    "a value of half a megabyte": ({"content-type": FORM}, b"name=" + b"a" * (LIMIT // 2) + b"&password=a"),
    "the same field a thousand times": ({"content-type": FORM}, urlencode([("name", "a")] * 1000).encode()),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_forms_that_are_bombs_are_refused(full: FullBoard, name: str) -> None:
    """Signed in or not: a form is read before it is known who sent it."""
    headers, body = BOMBS[name]
    token = session_of(full, Role.ADMIN)
    for path in ("/sign-in", "/sign-out"):
        for who in ({}, session(token)):
            assert clean(knock(full.coordinator.asgi, "POST", path, headers | who, body)), path


@pytest.mark.parametrize("path", FORMS)
def test_every_form_takes_nonsense_with_a_right_proof_without_falling_over(
    full: FullBoard, path: str
) -> None:
    """The last wall: who may, with the proof, sends what no page has."""
    roles = RULES["POST", path] or {Role.ADMIN}
    role = max(roles, key=lambda r: (r is Role.ADMIN, r is Role.AUDITOR))
    for values in (
        {},
        {name: "\x00" for name in NAMES},
        {name: "\ud800" for name in NAMES},
        {name: "9" * 400 for name in NAMES},
        {name: "1e999" for name in NAMES},
        {name: "-1" for name in NAMES},
        {name: "nan" for name in NAMES},
        {name: "é\u202e\U0001f600" * 50 for name in NAMES},
    ):
        token = session_of(full, role)
        fields = urlencode({"proof": form_proof(token), **values}, errors="surrogatepass").encode()
        headers = {"content-type": FORM, **session(token)}
        answer = knock(full.coordinator.asgi, "POST", with_values(path, full.values()), headers, fields)
        assert answer.status < 500, f"{path} with {dict(list(values.items())[:1])!r}"


_NAMES = (
    "name member_name purpose lifetime_s hours confirm typed password current new code issuer digest target_epsilon "
    "epsilon delta rounds quorum colluders deadline_s extractor_name note reason release number days limit after q"
)
NAMES = _NAMES.split()
"""Fields that forms of this dashboard have, as far as they are known; others get the empty form."""


@pytest.mark.parametrize("path", PAGES)
def test_every_page_takes_nonsense_in_its_address_without_falling_over(full: FullBoard, path: str) -> None:
    roles = RULES["GET", path]
    role = max(roles, key=lambda r: (r is Role.ADMIN, r is Role.AUDITOR)) if roles != ANYBODY else None
    token = session_of(full, role)
    for value in (
        "%00",
        "..%2f..%2fetc%2fpasswd",
        "9" * 400,
        "-1",
        "nan",
        "%F0%9F%98%80",
        "%ED%A0%80",
        "a" * 3000,
    ):
        query = "&".join(f"{name}={value}" for name in NAMES)
        wheres = [with_values(path, full.values()) + f"?{query}"]
        if "{" in path:
            from urllib.parse import unquote

            wheres.append(with_values(path, dict.fromkeys(full.values(), unquote(value))))
        for where in wheres:
            answer = knock(full.coordinator.asgi, "GET", where, session(token))
            assert answer.status < 500, where[:200]


def test_body_larger_than_the_limit_is_not_read(full: FullBoard) -> None:
    headers = {"content-type": FORM, "content-length": str(LIMIT + 1)}
    answer = knock(full.coordinator.asgi, "POST", "/sign-in", headers, b"name=a")
    assert clean(answer) and "Nothing was read" in answer.text
    for length in ("-1", "1e9", "²", "99999999999999999999999", "5, 5"):
        answer = knock(
            full.coordinator.asgi,
            "POST",
            "/sign-in",
            {"content-type": FORM, "x-length": "", **_raw(length)},
            b"a",
        )
        assert answer.status < 500, length


def _raw(length: str) -> dict[str, str]:
    return {"content-length": length}


TRAVERSALS = [
    "/static/../rules.py",
    "/static/../../app.py",
    "/static/%2e%2e/rules.py",
    "/static/..%2frules.py",
    "/static/..\\rules.py",
    "/static/....//rules.py",
    "/static//etc/passwd",
    "/static/%00",
    "/static/style.css%00.html",
    "/static/",
    "/static",
    "/static/.",
    "/static/" + "a" * 5000,
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_static_files_are_those_of_their_folder(full: FullBoard, path: str) -> None:
    from urllib.parse import unquote

    for where in (path, unquote(path)):
        answer = knock(full.coordinator.asgi, "GET", where)
        assert answer.status in (303, 307, 404, 405), where[:100]
        assert "import annotations" not in answer.text and "root:" not in answer.text


def test_folder_of_static_files_holds_no_program(full: FullBoard) -> None:
    folder = Path(dashboard.__file__).parent / "static"
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".css", ".js", ".svg"}
    for path in folder.rglob("*"):
        answer = knock(full.coordinator.asgi, "GET", f"/static/{path.name}")
        assert answer.status == 200 and answer.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:443", "desk@evil.example", "", "[::1", "a b"])
def test_host_that_the_sender_made_up_stands_in_no_answer(full: FullBoard, host: str) -> None:
    """Redirects are paths, and what is shown for copying comes from the configuration."""
    token = session_of(full, Role.ADMIN)
    spoofed = {"host": host, "x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}
    for path in ("/", "/sign-in", "/members", "/static", "/members/", "/nothing-here", "/invitations"):
        for who in ({}, session(token)):
            answer = knock(full.coordinator.asgi, "GET", path, {**spoofed, **who})
            assert answer.status < 500, path
            assert "evil.example" not in answer.text and "evil.example" not in answer.header("location"), path


SPLITS = [
    "\r\nSet-Cookie: planted=1",
    "%0d%0aSet-Cookie:%20planted=1",
    "\nLocation: https://evil.example",
    "\x85x",
]


@pytest.mark.parametrize("split", SPLITS)
def test_line_breaks_make_no_header(full: FullBoard, split: str) -> None:
    token = session_of(full, Role.ADMIN)
    answers = [
        knock(full.coordinator.asgi, "GET", f"/{quote(split)}"),
        knock(full.coordinator.asgi, "GET", f"/members{split}"),
        knock(full.coordinator.asgi, "GET", f"/?x={split}"),
        knock(full.coordinator.asgi, "GET", f"/sign-in?{urlencode({'next': '/' + split})}"),
        knock(
            full.coordinator.asgi, "GET", "/", session(token) | {"cookie": f"__Host-notice={quote(split)}"}
        ),
    ]
    body = urlencode({"name": "Ada", "password": "a long enough phrase", "next": f"/{split}"}).encode()
    answers.append(knock(full.coordinator.asgi, "POST", "/sign-in", {"content-type": FORM}, body))
    for answer in answers:
        assert answer.status < 500
        for name, value in answer.raw_headers:
            assert b"\r" not in value and b"\n" not in value, name
            assert not (name == b"set-cookie" and b"planted" in value.partition(b";")[0].partition(b"=")[0])


def test_notice_is_text_whoever_wrote_its_cookie(full: FullBoard) -> None:
    """Another page of this host could set it; nothing of it is markup, and it is gone after one look."""
    from tests.markup import parsed

    token = session_of(full, Role.ADMIN)
    evil = "<script>xssprobe()</script>&lt;img src=x onerror=xssprobe()&gt;&#60;b&#62;"
    cookie = {"cookie": f"{session(token)['cookie']}; __Host-notice={evil.replace(';', '%3B')}"}
    page = knock(full.coordinator.asgi, "GET", "/", cookie)
    assert [str(fault) for fault in parsed(page.text, "xssprobe").faults] == []
    assert '__Host-notice="";' in page.header("set-cookie")


def test_cookies_that_are_broken_are_no_session_and_no_error(full: FullBoard) -> None:
    for cookie in (
        "=",
        ";;;",
        "__Host-commonlens",
        '__Host-commonlens="',
        "__Host-commonlens=" + "A" * 60_000,
        "\xff",
    ):
        answer = knock(full.coordinator.asgi, "GET", "/", {"cookie": cookie})
        assert answer.status == 303, cookie[:30]


@pytest.mark.parametrize(
    ("came", "leads"),
    [
        ("https://desk/members?name=St%20Anna", "/members?name=St%20Anna"),
        ("https://evil.example/members", ""),
        ("http://desk/members", ""),
        ("https://desk:8443/members", ""),
        ("https://desk//evil.example/", ""),
        ("https://desk/\\evil.example/", ""),
        ("https://desk@evil.example/members", ""),
        ("https://[desk/members", ""),
        ("javascript:alert(1)", ""),
        ("https://desk/nothing-here", ""),
    ],
)
def test_error_page_leads_back_to_pages_of_this_address_only(full: FullBoard, came: str, leads: str) -> None:
    headers = session(session_of(full, Role.ADMIN)) | {"referer": came}
    answer = knock(full.coordinator.asgi, "GET", "/nothing-here", headers)
    found = re.findall(r'href="([^"]*)">Back', answer.text)
    assert answer.status == 404 and found == [leads] * bool(leads) and "evil" not in answer.text


def test_address_that_cannot_be_read_is_explained_to_whoever_looks_at_pages(full: FullBoard) -> None:
    headers = session(session_of(full, Role.ADMIN))
    answer = knock(full.coordinator.asgi, "GET", "/runs/run_1/rounds/seven", headers)
    assert answer.status == 422 and "number: expected" in answer.text
    assert "both sides" not in answer.text and "the protocol" not in answer.text
