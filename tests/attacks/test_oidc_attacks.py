"""Attacks on signing in elsewhere: changed states, stolen codes, tokens for others, tokens by others."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from joserfc.jwk import RSAKey

from coordinator.config import Config, Oidc, check_config
from coordinator.dashboard.pages_oidc import BEGUN
from coordinator.dashboard.sessions import COOKIE
from coordinator.members.oidc_provider import EXCHANGES_AT_ONCE
from shared.domain.clock import SystemClock
from shared.domain.consortium import Role
from shared.domain.errors import InvalidConfig
from tests.dashboard_kit import Board, Browser, open_board, words
from tests.desk import CONSORTIUM
from tests.lying_provider import CLIENT, SECRET, LyingProvider, none_signed, secret_signed, serving

NOW = int(SystemClock().now().timestamp())


@pytest.fixture
def provider() -> Iterator[LyingProvider]:
    with serving() as made:
        yield made


@pytest.fixture
def board(prepared_home: Path, tmp_path: Path, provider: LyingProvider) -> Iterator[Board]:
    oidc = Oidc(provider.url, CLIENT, "oidc-secret", roles={"admins": Role.ADMIN})
    made = open_board(prepared_home, tmp_path / "coordinator", Config(CONSORTIUM, oidc=oidc))
    (made.home / "oidc-secret").write_text(SECRET)
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def begun(browser: Browser) -> str:
    return str(browser.get("/sign-in/oidc").headers["location"])


def through(browser: Browser, provider: LyingProvider, subject: str = "s-1") -> int:
    return browser.get(provider.signs_in(begun(browser), subject)).status_code


def test_an_honest_answer_signs_in(board: Board, provider: LyingProvider) -> None:
    browser = board.browser()
    assert through(browser, provider) == 303 and "Grace · admin" in words(browser.get("/"))
    sent = base64.b64decode(provider.asked[0]["authorization"].removeprefix("Basic ")).decode()
    assert [unquote(part) for part in sent.split(":")] == [CLIENT, SECRET]
    assert "client_secret" not in provider.asked[0]


LIES = {
    "another nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "another client": {"aud": "another-client"},
    "another client too, and no authorized party": {"aud": [CLIENT, "another-client"]},
    "authorized for another": {"azp": "another-client"},
    "another issuer": {"iss": "https://evil.example"},
    "over": {"exp": NOW - 3600},
    "no end": {"exp": None},
    "an end that is no number": {"exp": "never"},
    "from the future": {"iat": NOW + 3600},
    "not yet": {"nbf": NOW + 3600},
    "nobody": {"sub": ""},
    "a number for a subject": {"sub": 7},
    "endless subject": {"sub": "s" * 256},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_token_that_does_not_fit_signs_nobody_in(board: Board, provider: LyingProvider, lie: str) -> None:
    provider.claims = lambda claims: {k: v for k, v in (claims | LIES[lie]).items() if v is not None}
    browser = board.browser()
    assert through(browser, provider) == 401 and COOKIE not in browser.cookies
    assert "Grace" not in [account.name for account in board.room.accounts.every()]


def test_a_token_for_several_that_names_us_as_its_party_fits(board: Board, provider: LyingProvider) -> None:
    provider.claims = lambda claims: claims | {"aud": [CLIENT, "other"], "azp": CLIENT}
    assert through(board.browser(), provider) == 303


@pytest.mark.parametrize(
    "forgery", ["another key under the same id", "no signature", "the public key as a secret"]
)
def test_a_token_that_the_provider_did_not_sign_signs_nobody_in(
    board: Board, provider: LyingProvider, forgery: str
) -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "k1"})
    provider.sign = {
        "another key under the same id": lambda claims: provider.signed(claims, stranger),
        "no signature": none_signed,
        "the public key as a secret": secret_signed(provider),
    }[forgery]
    browser = board.browser()
    answer = browser.get(provider.signs_in(begun(browser), "s-1"))
    assert answer.status_code == 401 and "signature is not by its own keys" in words(answer)


def test_a_new_key_of_the_provider_is_fetched_but_not_at_everybodys_wish(
    board: Board, provider: LyingProvider
) -> None:
    assert through(board.browser(), provider) == 303
    provider.key = RSAKey.generate_key(2048, {"kid": "k2"})
    oidc = board.room.oidc
    assert oidc is not None
    kept = oidc._provider._keys
    assert kept.kept is not None
    for _ in range(3):
        assert through(board.browser(), provider) == 401
    assert provider.key_reads == 1, "looked a moment ago"
    kept.kept = (kept.kept[0] - timedelta(seconds=61), kept.kept[1])
    assert through(board.browser(), provider) == 303 and provider.key_reads == 2


def test_answers_that_the_provider_is_slow_with_take_few_threads(
    board: Board, provider: LyingProvider
) -> None:
    oidc = board.room.oidc
    assert oidc is not None
    taken = [oidc._provider._exchanges.acquire(blocking=False) for _ in range(EXCHANGES_AT_ONCE + 1)]
    assert taken == [True] * EXCHANGES_AT_ONCE + [False]
    browser = board.browser()
    answer = browser.get(provider.signs_in(begun(browser), "s-1"))
    assert answer.status_code == 409 and "come back from the provider at this moment" in words(answer)
    assert provider.asked == []
    oidc._provider._exchanges.release()
    assert through(browser, provider) == 303
    assert through(board.browser(), provider) == 303, "the place is given back"


def test_keys_that_cannot_be_had_are_not_asked_for_at_everybodys_wish(
    board: Board, provider: LyingProvider
) -> None:
    provider.metadata = lambda document: document | {"jwks_uri": f"{provider.url}/nothing"}
    for _ in range(2):
        assert through(board.browser(), provider) == 401
    provider.metadata = lambda document: document
    oidc = board.room.oidc
    assert oidc is not None and oidc._provider._keys._failed is not None
    oidc._provider._metadata.kept = None
    assert through(board.browser(), provider) == 401 and provider.key_reads == 0
    at, error = oidc._provider._keys._failed
    oidc._provider._keys._failed = (at - timedelta(seconds=30), error)
    assert through(board.browser(), provider) == 303 and provider.key_reads == 1


def test_a_state_that_was_changed_signs_nobody_in(board: Board, provider: LyingProvider) -> None:
    browser = board.browser()
    path = provider.signs_in(begun(browser), "s-1")
    answer = browser.get(path[:-1] + ("A" if path[-1] != "A" else "B"))
    assert answer.status_code == 401 and "does not belong to a sign-in that this browser began" in words(
        answer
    )
    assert provider.asked == [], "the code was not even sent"


def test_nobody_is_signed_in_as_the_attacker_by_the_attackers_answer(
    board: Board, provider: LyingProvider
) -> None:
    attacker, victim = board.browser(), board.browser()
    path = provider.signs_in(begun(attacker), "attacker")
    assert victim.get(path).status_code == 401
    begun(victim)
    assert victim.get(path).status_code == 401 and COOKIE not in victim.cookies


def test_what_the_browser_keeps_cannot_be_read_changed_or_made(board: Board, provider: LyingProvider) -> None:
    browser = board.browser()
    address = begun(browser)
    path, kept = provider.signs_in(address, "s-1"), browser.cookies[BEGUN]
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    plain = base64.urlsafe_b64decode(kept)
    assert query["state"].encode() not in plain and query["nonce"].encode() not in plain
    data = bytearray(plain)
    data[30] ^= 1
    for wrong in (base64.urlsafe_b64encode(bytes(data)).decode(), "", "x"):
        thief = board.browser()
        thief.cookies.set(BEGUN, wrong, domain="desk.local")
        assert thief.get(path).status_code == 401


def test_a_stolen_code_is_of_no_use_without_the_browsers_verifier(
    board: Board, provider: LyingProvider
) -> None:
    victim, attacker = board.browser(), board.browser()
    code = parse_qs(urlsplit(provider.signs_in(begun(victim), "victim")).query)["code"][0]
    own_state = parse_qs(urlsplit(begun(attacker)).query)["state"][0]
    answer = attacker.get(f"/sign-in/oidc/return?code={code}&state={own_state}")
    assert answer.status_code == 401 and COOKIE not in attacker.cookies


def test_an_answer_of_another_provider_is_not_taken(board: Board, provider: LyingProvider) -> None:
    browser = board.browser()
    path = provider.signs_in(begun(browser), "s-1")
    assert browser.get(f"{path}&iss=https%3A%2F%2Fevil.example").status_code == 401
    assert provider.asked == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"issuer": "https://evil.example"}, "calls itself 'https://evil.example'"),
        ({"token_endpoint": "ftp://evil.example"}, "names no usable token_endpoint"),
        ({"jwks_uri": None}, "names no usable jwks_uri"),
    ],
)
def test_metadata_of_another_or_without_an_address_is_refused(
    board: Board, provider: LyingProvider, change: dict[str, object], said: str
) -> None:
    provider.metadata = lambda document: document | change
    answer = board.browser().get("/sign-in/oidc")
    assert answer.status_code == 401 and said in words(answer)


def test_after_signing_in_elsewhere_the_way_leads_to_no_other_server(
    board: Board, provider: LyingProvider
) -> None:
    browser = board.browser()
    address = browser.get("/sign-in/oidc?next=//evil.example/").headers["location"]
    assert browser.get(provider.signs_in(address, "s-1")).headers["location"] == "/"


def test_a_provider_that_sends_without_end_is_cut_off(board: Board, provider: LyingProvider) -> None:
    provider.metadata = lambda document: document | {"more": "x" * 600_000}
    answer = board.browser().get("/sign-in/oidc")
    assert answer.status_code == 401 and "sent more than" in words(answer)


def test_a_name_from_elsewhere_cannot_pass_for_another_actor(board: Board, provider: LyingProvider) -> None:
    for number, name in enumerate(("admin", "OPERATOR", "Ada", "\u202eadA", "clt_" + "a" * 40, "  ", "<b>")):
        provider.claims = lambda claims, name=name: claims | {"name": name}  # type: ignore[misc]
        assert through(board.browser(), provider, f"subject-{number}") == 303
    names = [account.name for account in board.room.accounts.every()]
    assert not {"admin", "OPERATOR", "\u202eadA"} & set(names) and names.count("Ada") == 1
    assert not [name for name in names if name.startswith("clt_")]


@pytest.mark.parametrize("kind", ["acc", "mem", "run", "inv", "tok", "Acc", "\uff41\uff43\uff43"])
def test_a_name_from_elsewhere_cannot_look_like_an_id(
    board: Board, provider: LyingProvider, kind: str
) -> None:
    ada = board.room.accounts.id_of("Ada").removeprefix("acc")
    provider.claims = lambda claims: claims | {"name": f"{kind}{ada}", "preferred_username": "grace"}
    assert through(board.browser(), provider) == 303
    assert {"grace"} == {account.name for account in board.room.accounts.every()} - {"Ada", "Otto"}


def test_names_that_read_alike_are_told_apart_by_their_ids(board: Board, provider: LyingProvider) -> None:
    alike = ("\uff21\uff44\uff41", "\uff41dmin", "A\u2060da", "ADA", "O\u24e3to", "Stra\u00dfe", "STRASSE")
    for number, name in enumerate(alike):
        provider.claims = lambda claims, name=name: claims | {"name": name}  # type: ignore[misc]
        assert through(board.browser(), provider, f"subject-{number}") == 303
    made = [a.name for a in board.room.accounts.every() if not a.has_password]
    assert [name for name in made if "(acc_" not in name] == ["Stra\u00dfe"] and len(made) == len(alike)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"issuer": "http://login.example.org"}, "oidc.issuer"),
        ({"issuer": "https://user@login.example.org"}, "oidc.issuer"),
        ({"issuer": "https://login.example.org?x=1"}, "oidc.issuer"),
        ({"issuer": ""}, "oidc.issuer"),
        ({"client_id": ""}, "oidc.client_id"),
        ({"roles": {}}, "oidc.roles"),
        ({"roles": {"everybody": Role.MEMBER}}, "oidc.roles"),
        ({"scopes": ("profile",)}, "oidc.scopes"),
    ],
)
def test_a_configuration_that_would_let_the_wrong_people_in_does_not_start(
    change: dict[str, object], key: str
) -> None:
    right = Oidc("https://login.example.org", "x", roles={"a": Role.ADMIN})
    check_config(Config(CONSORTIUM, oidc=right))
    with pytest.raises(InvalidConfig, match=key):
        check_config(Config(CONSORTIUM, oidc=replace(right, **change)))  # type: ignore[arg-type]
