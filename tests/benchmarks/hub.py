"""What fetching a large release costs: speed beside nginx, memory, and what a cut line loses.

    python tests/benchmarks/hub.py                     1 GiB of random bytes in a real release, 7 turns
    python tests/benchmarks/hub.py --store             the same bytes out of an object store (SeaweedFS), memory only

A coordinator as an operator starts it, over TLS on loopback; nginx with the coordinator's own certificate and key
serves the same file, one worker, its own defaults. `curl` fetches from both in turns, so that whatever else the machine
does falls on both. Without nginx on the PATH the comparison is left out, with a word.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coordinator.config import CONFIG_FILE
from coordinator.members.authority import AuthorityFiles
from shared.domain.canonical import digest_of_file
from tests.hub_kit import SPACE, cut_line, hub_kit, put_beside
from tests.object_store_kit import KEYS, configure, s3_server
from tests.ports import free_port
from tests.release_kit import Kit

BIG = "stand-in.onnx"
"""Random bytes under a name that goes into the store: nothing compresses, and nobody reads what is in it."""
BIN = Path(sys.executable).parent
PARALLEL = 4
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """One of the two."""

    name: str
    url: str
    pid: int
    """Of the process that sends."""
    speeds: list[float] = field(default_factory=list)
    """Bytes a second, one a turn."""

    def cpu_s(self) -> float:
        """Processor time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, key: str = "VmRSS") -> int:
        """Resident bytes now; with VmHWM the most since `forget_peak`."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"/proc/{self.pid}/status has no {key}")

    def forget_peak(self) -> None:
        """Let VmHWM begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[int]:
    """A process that listens on `port`; its id."""
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"{command[0]} did not start") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def coordinator(kit: Kit) -> Iterator[Server]:
    """As an operator starts it."""
    text = (kit.home / CONFIG_FILE).read_text()
    # Filling the library takes minutes of a processor, which is to be measured doing something else.
    (kit.home / CONFIG_FILE).write_text(f"{text}\n[library]\nfill = false\n")
    port = int(text.partition("port = ")[2].split()[0])
    command = [str(BIN / "commonlens-coordinator"), "serve", "--home", str(kit.home)]
    with running(command, port, **KEYS) as pid:
        yield Server("coordinator", f"https://localhost:{port}/api/v1/releases/digits/1/files/{BIG}", pid)


@contextmanager
def nginx(kit: Kit, folder: Path) -> Iterator[Server]:
    """Its defaults, one worker, the coordinator's certificate."""
    files, port = AuthorityFiles(kit.home), free_port()
    folder.mkdir()
    temporary = "".join(
        f"{kind}_temp_path {folder / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder / 'pid'}; error_log {folder / 'log'};\n"
        + ("user root;\n" if os.geteuid() == 0 else "")
        + f"events {{}}\nhttp {{ access_log off; sendfile on;\n{temporary}server {{\n"
        f"listen 127.0.0.1:{port} ssl; root {kit.folder()};\n"
        f"ssl_certificate {files.server}; ssl_certificate_key {files.server_key};\n}} }}\n"
    )
    with running(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")], port) as pid:
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield Server("nginx", f"https://localhost:{port}/{BIG}", int(worker))


def curl(kit: Kit, url: str, *more: str) -> list[str]:
    """The command line, into nowhere unless `more` says where."""
    where = () if "-o" in more else ("-o", os.devnull)
    ca = str(AuthorityFiles(kit.home).ca)
    return ["curl", "-sS", "--noproxy", "*", "--cacert", ca, "-w", "%{speed_download}", *where, *more, url]


def fetch(kit: Kit, server: Server) -> float:
    """Bytes a second of one download."""
    done = subprocess.run(curl(kit, server.url), check=True, capture_output=True, text=True)
    return float(done.stdout)


def compare(kit: Kit, servers: list[Server], turns: int, size: int) -> None:
    """In turns, the first one alternating; then four at once."""
    ours = servers[0]
    for server in servers:
        fetch(kit, server)  # into the page cache
    before, began = ours.memory(), [server.cpu_s() for server in servers]
    ours.forget_peak()
    for turn in range(turns):
        for server in servers if turn % 2 else servers[::-1]:
            server.speeds.append(fetch(kit, server))
    for server, cpu in zip(servers, began, strict=True):
        spent = (server.cpu_s() - cpu) / turns / (size / 2**30)
        print(
            f"{server.name}: {statistics.median(server.speeds) / 1e6:.0f} MB/s (median of {turns}; "
            f"{min(server.speeds) / 1e6:.0f} to {max(server.speeds) / 1e6:.0f}), {spent:.2f} s of processor time a GiB"
        )
    if len(servers) > 1:
        ratios = [a / b for a, b in zip(ours.speeds, servers[1].speeds, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        print(f"ratio: {median:.2f} (quartiles {low:.2f} to {high:.2f}); bar 0.8")
    one, peak = ours.memory(), ours.memory("VmHWM")
    ours.forget_peak()
    parallel(kit, ours)
    print(
        f"memory of the coordinator: {before / 1e6:.0f} MB before, {one / 1e6:.0f} MB after {turns} downloads "
        f"(most {peak / 1e6:.0f}), most with {PARALLEL} at once {ours.memory('VmHWM') / 1e6:.0f} MB"
    )


def parallel(kit: Kit, server: Server) -> None:
    """Four downloads at once."""
    several = [subprocess.Popen(curl(kit, server.url), stdout=subprocess.DEVNULL) for _ in range(PARALLEL)]
    if any(one.wait() for one in several):
        raise RuntimeError("a download failed")


def resume(kit: Kit, ours: Server, folder: Path, size: int) -> None:
    """Cut once at a third by a line between, and fetched again; the bytes must be the promised ones."""
    folder.mkdir()
    origin = ours.url.partition("/api/")[0]
    expected = digest_of_file(kit.folder() / BIG)
    path = f"/api/v1/releases/digits/1/files/{BIG}"
    with cut_line(origin, size // 3) as url:
        out = folder / "curl"
        first = subprocess.run(curl(kit, url + path, "-o", str(out)), capture_output=True)
        had = out.stat().st_size
        subprocess.run(curl(kit, url + path, "-C", "-", "-o", str(out)), check=True, capture_output=True)
        whole = digest_of_file(out) == expected
        print(f"curl -C -: cut at {had / size:.0%} (exit {first.returncode}), then whole and right: {whole}")
    with cut_line(origin, size // 3) as url:
        command = [str(BIN / "hf"), "download", f"{SPACE}/digits", BIG, "--local-dir", str(folder / "hf")]
        known = {k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HTTP"))}
        environment = known | {
            "HF_ENDPOINT": url,
            "SSL_CERT_FILE": str(AuthorityFiles(kit.home).ca),
            "HF_HOME": str(folder / "home"),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        first = subprocess.run(command, env=environment, capture_output=True)
        partial = sum(path.stat().st_size for path in (folder / "hf").rglob("*.incomplete"))
        subprocess.run(command, env=environment, check=True, capture_output=True)
        whole = digest_of_file(folder / "hf" / BIG) == expected
        print(
            f"hf download: cut with {partial / size:.0%} kept (exit {first.returncode}), then whole and right: {whole}"
        )
    with cut_line(origin, size // 3) as url:
        to = folder / "pull"
        pull = [str(BIN / "commonlens"), "pull", url, "--ca-fingerprint", kit.fingerprint, "--to", str(to)]
        code, most = ended(pull, NO_PROXY="127.0.0.1,localhost")
        had = sum(path.stat().st_size for path in to.glob(f".commonlens/partial-*/{BIG}"))
        again, _ = ended(pull, NO_PROXY="127.0.0.1,localhost")
        whole = again == 0 and digest_of_file(to / "digits-1" / BIG) == expected
        print(
            f"commonlens pull: cut at {had / size:.0%} (exit {code}), then whole, right and verified: {whole}; "
            f"most {most / 1e6:.0f} MB of memory while it downloads"
        )


def ended(command: list[str], **environment: str) -> tuple[int, int]:
    """Run it; its exit code, and the most bytes of memory that it took."""
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        seen, most = Server(command[0], "", process.pid), 0
        while process.poll() is None:
            with contextlib.suppress(RuntimeError, OSError):  # between its end and our asking
                most = seen.memory("VmHWM")
            time.sleep(0.02)
    return process.returncode, most


def moved_into_store(kit: Kit) -> None:
    """Move the large file into the store that is configured, in a process of its own, and say what memory it took."""
    command = [str(BIN / "commonlens-coordinator"), "storage", "move", "--home", str(kit.home)]
    code, most = ended(command, **KEYS)
    if code or (kit.folder() / BIG).exists():
        raise RuntimeError("nothing was moved")
    print(f"storage move: most {most / 1e6:.0f} MB of memory")


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--store", action="store_true")
    words = parser.parse_args()
    size = words.mebibytes * 2**20
    print(
        f"{words.mebibytes} MiB over TLS on loopback; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        kit = hub_kit(folder / "kit", values=1000)
        kit.publish()
        put_beside(kit, {BIG: os.urandom(size)})
        endpoint, bucket = "", ""
        if words.store:
            server = stack.enter_context(s3_server())
            server.new_bucket("benchmark")
            endpoint, bucket = server.endpoint, server.bucket
        configure(kit.home, endpoint, bucket, port=free_port())
        if words.store:
            moved_into_store(kit)
        servers = [stack.enter_context(coordinator(kit))]
        if words.store:
            print("out of the store:")
        elif shutil.which("nginx"):
            servers.append(stack.enter_context(nginx(kit, folder / "nginx")))
        else:
            print("nginx is not installed here: no comparison")
        compare(kit, servers, words.turns, size)
        if not words.store:
            resume(kit, servers[0], folder / "resume", size)


if __name__ == "__main__":
    main()
