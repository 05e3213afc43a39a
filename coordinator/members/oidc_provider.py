"""What is asked of an OpenID provider: its metadata, its keys, and a token for a code. Nothing of it is believed yet
but what came over TLS from the configured issuer; the ID token's signature is checked here, its claims in oidc.py.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from coordinator.config import Oidc
from shared.domain.clock import Clock
from shared.domain.errors import CommonlensError, InvalidConfig, SignInFailed, Unreachable

DEADLINE_S = 10.0
"""For a whole answer."""
EXCHANGES_AT_ONCE = 4
MOST_BYTES = 512 * 1024
KEPT_FOR = timedelta(hours=1)
FAILURE_KEPT_FOR = timedelta(seconds=30)
LEAST_BETWEEN = timedelta(minutes=1)
"""Between two looks at the keys: an unknown key id makes us look again, and anybody can send one."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by the provider's private key; never `none`, nor a secret that both sides know."""
Value = TypeVar("Value")
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Kept(Generic[Value]):
    """What the provider said, kept for a while; so is that it could not be had. One thread asks, and few wait for it.

    The threads that ask are those that answer everybody: a provider that hangs must hold few of them, and not again
    and again.
    """

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self.kept: tuple[datetime, Value] | None = None
        self._failed: tuple[datetime, CommonlensError] | None = None

    def value(self, ask: Callable[[], Value], kept_for: timedelta = KEPT_FOR) -> Value:
        """What is kept, not older than `kept_for` unless somebody asks again at this moment; else what `ask` gives.

        Raises what `ask` raised, also for FAILURE_KEPT_FOR after it, and Unreachable while somebody else asks.
        """
        if self.kept is not None and self._clock.now() - self.kept[0] <= kept_for:
            return self.kept[1]
        if not self._lock.acquire(timeout=0 if self.kept else self._patience_s):
            if self.kept is not None:
                return self.kept[1]
            raise Unreachable(
                "The provider is being asked already, and did not answer yet. You were not signed in. Try again in "
                "some seconds."
            )
        try:
            return self._asked(ask, kept_for)
        finally:
            self._lock.release()

    def _asked(self, ask: Callable[[], Value], kept_for: timedelta) -> Value:
        if self.kept is not None and self._clock.now() - self.kept[0] <= kept_for:
            return self.kept[1]  # somebody else was faster
        if self._failed is not None and self._clock.now() - self._failed[0] < FAILURE_KEPT_FOR:
            raise type(self._failed[1])(self._failed[1].message)
        try:
            value = ask()
        except CommonlensError as error:
            self._failed = self._clock.now(), error
            raise
        self.kept, self._failed = (self._clock.now(), value), None
        return value


class Provider:
    """One provider. Metadata and keys are kept for an hour."""

    def __init__(self, home: Path, config: Oidc, clock: Clock) -> None:
        self._home = home
        self._config = config
        self._metadata: Kept[dict[str, Any]] = Kept(clock, patience_s=0)  # anybody can ask for it
        self._keys: Kept[KeySet] = Kept(clock, patience_s=2)  # only whoever the provider sent back
        self._exchanges = threading.BoundedSemaphore(EXCHANGES_AT_ONCE)

    def metadata(self) -> Mapping[str, Any]:
        """Its discovery document (OpenID Connect Discovery 1.0, section 4). Raises Unreachable, SignInFailed."""
        return self._metadata.value(self._discovered)

    def id_token(self, code: str, verifier: str, redirect_uri: str) -> str:
        """The ID token for an authorization code, unchecked. Raises SignInFailed, Unreachable."""
        metadata, client_id = self.metadata(), self._config.client_id
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": client_id,
        }
        secret, auth = self._secret(), None
        if secret and "client_secret_basic" in metadata.get(
            "token_endpoint_auth_methods_supported", ["client_secret_basic"]
        ):
            auth = (quote(client_id, safe=""), quote(secret, safe=""))  # RFC 6749, section 2.3.1
        elif secret:
            form["client_secret"] = secret
        if not self._exchanges.acquire(blocking=False):
            raise Unreachable(
                f"{EXCHANGES_AT_ONCE} people come back from the provider at this moment, and no more can. You were not "
                "signed in. Begin again in some seconds."
            )
        try:
            answer = self._ask("POST", metadata["token_endpoint"], data=form, auth=auth)
        finally:
            self._exchanges.release()
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _strange("sent no ID token")
        return token

    def claims(self, token: str) -> Mapping[str, Any]:
        """What a token says whose signature is the provider's. Raises SignInFailed."""
        try:
            return jwt.decode(token, self._key_set(), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError):
            pass  # perhaps by a key that is newer than those we know
        try:
            return jwt.decode(token, self._key_set(again=True), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError) as error:
            raise _strange("sent an ID token whose signature is not by its own keys") from error

    def _key_set(self, again: bool = False) -> KeySet:
        return self._keys.value(self._published, LEAST_BETWEEN if again else KEPT_FOR)

    def _published(self) -> KeySet:
        try:
            return KeySet.import_key_set(self._ask("GET", str(self.metadata()["jwks_uri"])))  # type: ignore[arg-type]
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _strange("published keys that cannot be read") from error

    def _discovered(self) -> dict[str, Any]:
        issuer = self._config.issuer
        found = self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise _strange(f"calls itself {str(found.get('issuer'))[:200]!r} and not {issuer!r}")
        scheme = urlsplit(issuer).scheme
        for name in _ENDPOINTS:
            url = found.get(name)
            if not isinstance(url, str) or urlsplit(url).scheme not in {"https", scheme}:
                raise _strange(f"names no usable {name}")
        return found

    def _ask(self, method: str, url: str, **arguments: Any) -> dict[str, Any]:
        try:
            status, data = asyncio.run(self._answer(method, url, **arguments))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Unreachable(
                f"{self._config.issuer} did not answer. You were not signed in. Try again; if it lasts, tell the "
                "operator."
            ) from error
        if status != httpx.codes.OK:
            raise _strange(f"answered with status {status}")
        try:
            found = json.loads(data)
        except ValueError as error:
            raise _strange("sent something that is not JSON") from error
        if not isinstance(found, dict):
            raise _strange("sent something of another form")
        return found

    async def _answer(self, method: str, url: str, **arguments: Any) -> tuple[int, bytes]:
        """(status, body). Only a loop can end all of it at one moment: httpx's own limits start anew at every byte."""
        async with (
            asyncio.timeout(DEADLINE_S),
            httpx.AsyncClient(verify=self._trusted, timeout=DEADLINE_S, trust_env=False) as client,
            client.stream(method, url, **arguments) as response,
        ):
            data = bytearray()
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > MOST_BYTES:
                    raise _strange(f"sent more than {MOST_BYTES} bytes")
            return response.status_code, bytes(data)

    @functools.cached_property
    def _trusted(self) -> ssl.SSLContext:
        """Made once: reading the system's certificates takes longer than most of the provider's answers."""
        ca_file = self._config.ca_file
        try:
            return ssl.create_default_context(cafile=str(self._home / ca_file) if ca_file else None)
        except OSError as error:  # also what ssl raises for a file that is no certificate
            raise InvalidConfig(f"oidc.ca_file: {ca_file} cannot be read. You were not signed in.") from error

    def _secret(self) -> str:
        name = self._config.client_secret_file
        try:
            return (self._home / name).read_text("utf-8").strip() if name else ""
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidConfig(
                f"oidc.client_secret_file: {name} cannot be read. Nobody was signed in. Check the path and its rights."
            ) from error


def _strange(what: str) -> SignInFailed:
    return SignInFailed(f"The provider {what}. You were not signed in. Tell the operator.")
