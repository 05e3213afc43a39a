"""The floor under a round: the same bytes over one TLS stream between two processes on loopback."""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import time
from multiprocessing.connection import Connection
from pathlib import Path

BLOCK_BYTES = 1 << 20


def seconds_for(size_bytes: int, certificate: Path, key: Path, repeats: int = 3) -> float:
    """Fastest of `repeats` transfers of `size_bytes`, acknowledged by the other process."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    receiver = context.Process(target=_receive, args=(theirs, certificate, key, size_bytes, repeats))
    receiver.start()
    port = mine.recv()
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    block = memoryview(bytes(BLOCK_BYTES))
    fastest = float("inf")
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        client.wrap_socket(plain) as stream,
    ):
        for _ in range(repeats):
            started = time.perf_counter()
            left = size_bytes
            while left > 0:
                part = block[: min(left, BLOCK_BYTES)]
                stream.sendall(part)
                left -= len(part)
            stream.recv(1)
            fastest = min(fastest, time.perf_counter() - started)
    receiver.join()
    return fastest


def _receive(report: Connection, certificate: Path, key: Path, size_bytes: int, repeats: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        report.send(server.getsockname()[1])
        plain, _ = server.accept()
        with plain, context.wrap_socket(plain, server_side=True) as stream:
            buffer = bytearray(BLOCK_BYTES)
            for _ in range(repeats):
                left = size_bytes
                while left > 0:
                    left -= stream.recv_into(buffer)
                stream.send(b"!")
