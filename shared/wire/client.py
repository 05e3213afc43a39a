"""A client of the coordinator's control plane: one TLS connection that trusts only the consortium's CA."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from shared.domain.errors import InvalidMessage, Unreachable, WrongAuthority
from shared.wire.problems import raise_for_problem

API = "/api/v1"
TIMEOUT_S = 60.0
MAXIMUM_REPLY_BYTES = 64 * 2**20
_BEFORE_IT_WAS_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class ControlClient:
    """JSON calls that raise the class which the coordinator raised."""

    def __init__(self, url: str, ca_pem: str, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(
            base_url=url.rstrip("/"),
            verify=ssl.create_default_context(cadata=ca_pem),
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        self._url = url

    def get(self, path: str) -> Any:
        """GET `path` under /api/v1, parsed. Raises what the coordinator raised, or Unreachable."""
        return self._call("GET", path, None, TIMEOUT_S)

    def post(self, path: str, body: Any = None, timeout_s: float = TIMEOUT_S) -> Any:
        """POST `body` as JSON; the parsed answer, None when there is none. Raises as `get`.

        `timeout_s` is for answers that take long by nature; connecting has the usual time.
        """
        return self._call("POST", path, body, timeout_s)

    def get_bytes(self, path: str, maximum_bytes: int) -> bytes:
        """GET a file of at most `maximum_bytes`. Raises InvalidMessage for a larger one."""
        try:
            with self.http.stream("GET", API + path) as response:
                if response.is_error:
                    response.read()
                    raise_for_problem(response)
                data = bytearray()
                for chunk in response.iter_bytes(1 << 20):
                    data += chunk
                    if len(data) > maximum_bytes:
                        raise InvalidMessage(
                            f"The coordinator may send {maximum_bytes} bytes here and sent more. Nothing was "
                            "kept. Tell the consortium's admin."
                        )
                return bytes(data)
        except httpx.TransportError as error:
            raise self._no_answer("GET", error) from error

    def close(self) -> None:
        """Close the connection."""
        self.http.close()

    def _call(self, method: str, path: str, body: Any, timeout_s: float) -> Any:
        timeout = httpx.Timeout(TIMEOUT_S, read=timeout_s)
        try:
            response = self.http.request(method, API + path, json=body, timeout=timeout)
        except httpx.TransportError as error:
            raise self._no_answer(method, error) from error
        raise_for_problem(response)
        if len(response.content) > MAXIMUM_REPLY_BYTES:
            raise InvalidMessage(
                f"An answer may have {MAXIMUM_REPLY_BYTES} bytes, this one has {len(response.content)}. "
                "It was not read."
            )
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise InvalidMessage(
                f"{self._url} answered something that is not JSON. Nothing was read. Check the address."
            ) from error

    def _no_answer(self, method: str, error: httpx.TransportError) -> Exception:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return WrongAuthority(
                f"The server at {self._url} has a certificate that the consortium's CA did not sign. Nothing "
                "was sent. Check the address; if it is right, tell the consortium's admin."
            )
        if method != "GET" and not isinstance(error, _BEFORE_IT_WAS_SENT):
            ended = (
                "within the time for it"
                if isinstance(error, httpx.TimeoutException)
                else "before the line broke"
            )
            return Unreachable(
                f"{self._url} was asked and gave no answer {ended}. It is not known whether it did, or still does, "
                "what was asked. Look with the list or show command of the same name before you ask again."
            )
        return Unreachable(
            f"{self._url} did not answer. Nothing was done. Check that the coordinator runs and that this "
            "machine can reach it."
        )
