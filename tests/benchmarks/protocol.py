"""What mode secure costs in a round besides training and the wire: seconds, memory and bytes, as ratios of one run.

    python tests/benchmarks/protocol.py                                    everything: about ten minutes
    python tests/benchmarks/protocol.py --quick                            3 and 10 members, 1 M coordinates
    python tests/benchmarks/protocol.py --members 10 --coordinates 11000000
    python tests/benchmarks/protocol.py --only-member                      the member's seconds and bytes

Seconds are of processor time unless a column says clock, and depend on the machine; what counts are the ratios,
whose two sides are taken in turns in one process (Flower's as shipped in one of its own, since memory settings are
read at a process's start). Each measurement has a process of its own: member (protocol_member.py), coordinator
(protocol_coordinator.py), and Flower's helper (protocol_flower.py, needs flwr).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from participant import allocator
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import least_quorum
from tests.benchmarks.protocol_range import most_units_in_16_bits, printed_grid_cost

MEMBERS = (3, 4, 10, 50, 200)
COORDINATES = (1_000_000, 11_000_000)
RANGE_COORDINATES = (1_000, 10_000, 100_000, 1_000_000, 11_000_000)
MOST_OVER_KERNELS = 1.5
MOST_BESIDE = 0.01
LEAST_FASTER = 8.0
MOST_MEMORY_GROWTH = 1.25

Rows = dict[tuple[int, int], dict[str, Any]]
Bars = list[tuple[str, bool]]


def child(part: str, *numbers: int, node: bool = False) -> dict[str, Any]:
    """What a measuring process prints."""
    script = Path(__file__).with_name(f"protocol_{part}.py")
    # A node is measured with the settings that it runs with; a Flower node is started without.
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (allocator.SETTINGS if node else {})
    argv = [sys.executable, str(script), *map(str, numbers)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def members_table(sizes: Sequence[int], lengths: Sequence[int]) -> tuple[Rows, Bars]:
    """One member's seconds against its kernels, and its bytes."""
    print("### One member\n")
    print(
        "| members | coordinates | masks | noise parts | member, s | without noise, s | expansions, s | noise, s "
        "| member / (expansions + noise) | keys, shares, signatures, s | ledger, disk and hash, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows: Rows = {}
    bars: Bars = []
    for length in lengths:
        for size in sizes:
            row = rows[size, length] = child(
                "member", size, length, 9 if length < 5_000_000 else 4, node=True
            )
            steps = row["steps_s"]
            ratio = row["member_s"] / (row["expansions_s"] + row["noise_s"])
            talk = sum(steps[name] for name in ("accept", "keys", "unmask", "deal"))
            kept = sum(steps[name] for name in ("charge", "state", "outbox", "seal"))
            print(
                f"| {size} | {length:,} | {row['masks']} | {row['components']} | {row['member_s']:.3f} | "
                f"{row['noiseless_s']:.3f} | {row['expansions_s']:.3f} | {row['noise_s']:.3f} | {ratio:.2f} | "
                f"{talk:.3f} | {kept:.3f} |",
                flush=True,
            )
            what = (
                f"member at most {MOST_OVER_KERNELS} × its kernels, n = {size}, d = {length:,}: {ratio:.2f}"
            )
            bars.append((what, ratio <= MOST_OVER_KERNELS))
    return rows, bars


def bytes_table(rows: Rows) -> Bars:
    """What a member sends in the two exchanges."""
    print("\n### Bytes a member sends in a round\n")
    print(
        "| members | coordinates | payload, 32-bit ring | all else | of the payload | payload, 16-bit ring |"
    )
    print("|---|---|---|---|---|---|")
    bars: Bars = []
    for (size, length), row in rows.items():
        part = row["beside_bytes"] / row["payload_bytes"]
        print(
            f"| {size} | {length:,} | {row['payload_bytes']:,} | {row['beside_bytes']:,} | {100 * part:.3f} % | "
            f"{2 * length:,} |"
        )
        whole = row["payload_bytes"] == 4 * length
        what = f"upload 4 bytes a coordinate and less than 1 % more, n = {size}, d = {length:,}: {100 * part:.2f} %"
        bars.append((what, whole and part < MOST_BESIDE))
    return bars


def range_table(sizes: Sequence[int], lengths: Sequence[int]) -> None:
    """Which plans the 16-bit ring has room for, and what the grid costs in 32 bits."""
    print("\n### Ring of 16 bits: units that all members' batches may hold together\n")
    print("| coordinates | " + " | ".join(f"{size} members" for size in sizes if size > 3) + " |")
    print("|---|" + "---|" * sum(size > 3 for size in sizes))
    for length in RANGE_COORDINATES:
        found = (most_units_in_16_bits(size, length) for size in sizes if size > 3)
        print(
            f"| {length:,} | "
            + " | ".join("none" if units is None else f"{units:,}" for units in found)
            + " |"
        )
    print("\n### Ring of 32 bits: what the grid adds to the noise, with 200 units in each member's batch\n")
    print("| coordinates | " + " | ".join(f"{size} members" for size in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for length in lengths:
        print(f"| {length:,} | " + " | ".join(printed_grid_cost(size, length) for size in sizes) + " |")


def coordinator_table(sizes: Sequence[int], lengths: Sequence[int]) -> Bars:
    """The coordinator's seconds and memory."""
    print("\n### The coordinator\n")
    print(
        "| members | coordinates | dropped | signatures, s | add, s | unmask, s | excess, s | excess, clock s "
        "| average, s | memory above the start, MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    bars: Bars = []
    for length in lengths:
        memory: dict[int, float] = {}
        for size in sizes:
            for dropped in (0, 1) if least_quorum(size) < size else (0,):
                row = child("coordinator", size, length, dropped)
                used, grown = row["processor_s"], row["peak_mb"] - row["before_mb"]
                memory[size] = max(memory.get(size, 0.0), grown)
                mark = "" if row["excess_part"] == 1.0 else " \\*"
                print(
                    f"| {size} | {length:,} | {dropped} | {used['signatures']:.3f} | {used['add']:.3f} | "
                    f"{used['unmask']:.3f} | {used['excess']:.2f}{mark} | {row['clock_s']['excess']:.2f}{mark} | "
                    f"{used['average']:.3f} | {grown:.0f} |",
                    flush=True,
                )
        few, many = min(memory), max(memory)
        if many > few:
            growth = memory[many] / memory[few]
            what = (
                f"coordinator memory does not grow with members, n = {few} to {many}, d = {length:,}: × {growth:.2f} "
                f"(all contributions at once: {4e-6 * many * length:,.0f} MB)"
            )
            bars.append((what, growth < MOST_MEMORY_GROWTH))
    print(
        "\n\\* measured on a part of the members' seeds and scaled up: the vectors are alike and independent."
    )
    return bars


def flower_table(size: int, length: int) -> Bars:
    """Flower's helper and ours: each as its own node starts it, and both as ours does."""
    as_shipped = child("flower", size, length, 3)
    ours = child("flower", size, length, 3, node=True)
    lines = (
        ("the same work: no noise, hash, signature of the bytes, or disk", "bare_s"),
        ("everything but the DP noise", "noiseless_s"),
        ("everything", "noisy_s"),
    )
    print(f"\n### Beside Flower's SecAgg+ helper: one member, {size} members, {length:,} coordinates\n")
    print(
        "| | seconds | Flower's / ours, each as it is shipped | with our memory settings for both | bytes sent |"
    )
    print("|---|---|---|---|---|")
    print(
        f"| Flower, 32-bit mask secrets, no DP noise | {as_shipped['flower_s']:.3f} | | | {ours['flower_bytes']:,} |"
    )
    print(f"| the same with our memory settings | {ours['flower_s']:.3f} | | | {ours['flower_bytes']:,} |")
    bars: Bars = []
    for name, key in lines:
        shipped, alike = as_shipped["flower_s"] / ours[key], ours["flower_s"] / ours[key]
        print(
            f"| ours, 256 bits, {name} | {ours[key]:.3f} | {shipped:.1f} | {alike:.1f} | {ours['bytes']:,} |"
        )
        what = f"at least 8 × less member time than Flower's, {name}"
        bars.append((f"{what}, each as shipped: {shipped:.1f} ×", shipped >= LEAST_FASTER))
        bars.append((f"{what}, our memory settings for both: {alike:.1f} ×", alike >= LEAST_FASTER))
    part = ours["bytes"] / ours["flower_bytes"]
    bars.append((f"half of Flower's bytes: {100 * part:.2f} %", round(part, 3) <= 0.5))
    return bars


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int)
    parser.add_argument("--coordinates", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only-member", action="store_true", help="the member's two tables")
    chosen = parser.parse_args()
    sizes = (chosen.members,) if chosen.members else MEMBERS[: 2 if chosen.quick else None]
    lengths = (chosen.coordinates,) if chosen.coordinates else COORDINATES[: 1 if chosen.quick else None]
    started = os.getloadavg()[0]
    rows, bars = members_table(sizes, lengths)
    bars += bytes_table(rows)
    if not chosen.only_member:
        range_table(sizes, lengths)
        bars += coordinator_table(sizes, lengths)
        bars += flower_table(chosen.members or 10, lengths[-1])
    print("\n### The bars\n")
    print("| bar | |\n|---|---|")
    for what, held in bars:
        print(f"| {what} | {'holds' if held else '**missed**'} |")
    print(
        f"\n{os.cpu_count()} cores; load {started:.1f} at the start and {os.getloadavg()[0]:.1f} at the end (with "
        "this benchmark's own)."
    )


if __name__ == "__main__":
    try:
        main()
    except UnsoundPlan as error:
        raise SystemExit(error.message) from error
