"""What is asked of an OpenID provider: its metadata, its keys, and a token for a code. Nothing of it is believed yet
but what came over TLS from the configured issuer; the ID token's signature is checked here, its claims in oidc.py.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from coordinator.config import Oidc
from shared.domain.clock import Clock
from shared.domain.errors import InvalidConfig, SignInFailed, Unreachable

TIMEOUT_S = 10.0
MOST_BYTES = 512 * 1024
KEPT_FOR = timedelta(hours=1)
LEAST_BETWEEN = timedelta(minutes=1)
"""Between two looks at the keys: an unknown key id makes us look again, and anybody can send one."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by the provider's private key; never `none`, nor a secret that both sides know."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Provider:
    """One provider. Metadata and keys are kept for an hour."""

    def __init__(self, home: Path, config: Oidc, clock: Clock) -> None:
        self._home = home
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: tuple[datetime, dict[str, Any]] | None = None
        self._keys: tuple[datetime, KeySet] | None = None

    def metadata(self) -> Mapping[str, Any]:
        """Its discovery document (OpenID Connect Discovery 1.0, section 4). Raises Unreachable, SignInFailed."""
        with self._lock:
            if self._metadata is None or self._clock.now() - self._metadata[0] > KEPT_FOR:
                self._metadata = self._clock.now(), self._discovered()
            return self._metadata[1]

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
        answer = self._ask("POST", metadata["token_endpoint"], data=form, auth=auth)
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
        uri = str(self.metadata()["jwks_uri"])
        with self._lock:
            age = None if self._keys is None else self._clock.now() - self._keys[0]
            if self._keys is None or age is None or age > (LEAST_BETWEEN if again else KEPT_FOR):
                try:
                    keys = KeySet.import_key_set(self._ask("GET", uri))  # type: ignore[arg-type]
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    raise _strange("published keys that cannot be read") from error
                self._keys = self._clock.now(), keys
            return self._keys[1]

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
            with (
                httpx.Client(verify=self._trusted(), timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream(method, url, **arguments) as response,
            ):
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > MOST_BYTES:
                        raise _strange(f"sent more than {MOST_BYTES} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"{self._config.issuer} did not answer. You were not signed in. Try again; if it lasts, tell the "
                "operator."
            ) from error
        if response.status_code != httpx.codes.OK:
            raise _strange(f"answered with status {response.status_code}")
        try:
            found = json.loads(data)
        except ValueError as error:
            raise _strange("sent something that is not JSON") from error
        if not isinstance(found, dict):
            raise _strange("sent something of another form")
        return found

    def _trusted(self) -> ssl.SSLContext:
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
                f"oidc.client_secret_file: {name} cannot be read. Nobody was signed in."
            ) from error


def _strange(what: str) -> SignInFailed:
    return SignInFailed(f"The provider {what}. You were not signed in. Tell the operator.")
