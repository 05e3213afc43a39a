"""An OpenID provider that can lie about anything: each answer is what an honest one gives, changed by the test."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.domain.clock import SystemClock

CLIENT = "commonlens"
SECRET = "s/ecret+of the client"
Claims = dict[str, Any]


def same(value: Any) -> Any:
    return value


@functools.cache
def first_key() -> RSAKey:
    """The same of every provider in a process: to make one takes longer than most tests."""
    return RSAKey.generate_key(2048, {"kid": "k1"})


@dataclass
class LyingProvider:
    """Tests replace the functions."""

    key: RSAKey = field(default_factory=first_key)
    claims: Callable[[Claims], Claims] = same
    metadata: Callable[[dict[str, Any]], dict[str, Any]] = same
    sign: Callable[[Claims], str] | None = None
    url: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    key_reads: int = 0

    def signs_in(self, address: str, subject: str) -> str:
        """A person at the provider; where it leads afterwards, on our side."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = query | {"sub": subject}
        return f"/sign-in/oidc/return?code={code}&state={query['state']}"

    def signed(self, claims: Claims, key: RSAKey | None = None) -> str:
        key = key or self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)

    async def _metadata(self, _request: Request) -> Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        return JSONResponse(self.metadata(document))

    async def _keys(self, _request: Request) -> Response:
        self.key_reads += 1
        return JSONResponse(KeySet([self.key]).as_dict(private=False))

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.asked.append(form | {"authorization": request.headers.get("authorization", "")})
        asked = self.codes.pop(form["code"], None)
        if asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if _base64(digest) != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(SystemClock().now().timestamp())
        claims = self.claims(
            {
                "iss": self.url,
                "aud": CLIENT,
                "sub": asked["sub"],
                "nonce": asked["nonce"],
                "iat": now,
                "exp": now + 300,
                "name": "Grace",
                "groups": ["admins"],
            }
        )
        return JSONResponse({"id_token": (self.sign or self.signed)(claims), "token_type": "Bearer"})


def none_signed(claims: Claims) -> str:
    """A token that says it needs no signature."""
    return _written({"alg": "none"}, claims) + "."


def secret_signed(provider: LyingProvider) -> Callable[[Claims], str]:
    """HS256 under the public key's own text: what a client that trusts the header's algorithm would accept."""
    public = provider.key.as_pem(private=False)

    def sign(claims: Claims) -> str:
        text = _written({"alg": "HS256", "kid": provider.key.kid}, claims)
        return f"{text}.{_base64(hmac.digest(public, text.encode(), 'sha256'))}"

    return sign


def _written(header: Claims, claims: Claims) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


@contextmanager
def serving() -> Iterator[LyingProvider]:
    """One, on a free loopback port."""
    provider = LyingProvider()
    app = Starlette(
        routes=[
            Route("/.well-known/openid-configuration", provider._metadata),
            Route("/keys", provider._keys),
            Route("/token", provider._token, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event()
    while not server.started:
        pause.wait(0.01)
    provider.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join(timeout=10)
