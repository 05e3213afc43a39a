"""The demo's report: report.json and the tables. It reads all five folders, which only a demo can do."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coordinator.operator import Operator
from demo.organisations import ORGANISATIONS, UNSEEN, UNSEEN_LABELS_PER_DIGIT, Organisation
from demo.stages import Consortium
from shared.domain.plan import Plan
from shared.domain.strict import build
from shared.privacy.accountant import epsilon
from shared.privacy.ledger import Ledger

Json = dict[str, Any]
NOTEWORTHY = 0.02
"""Smaller differences of accuracy are inside the intervals of a demo's few test pictures."""
WAYS = ("alone", "fixed_features", "raw_pixels", "consortium", "unseen_fixed_features", "unseen_consortium")


def write_report(demo: Consortium) -> Json:
    """report.json under the demo's root; returns what is in it."""
    with closing(Operator(demo.coordinator).client()) as client:
        plan = build(Plan, client.get(f"/plans/{demo.plan_digest}")["plan"], "plan")
        rounds = client.get(f"/runs/{demo.run_id}")["rounds"]
    report: Json = {
        "members": [_member(demo, organisation, plan) for organisation in ORGANISATIONS],
        "rounds": _rounds(demo, plan, rounds),
        "release": {
            "id": demo.release,
            "path": str(demo.root / "stranger" / demo.release),
            "verified": demo.verified,
        },
        "plan": {"digest": demo.plan_digest, "mode": plan.privacy.mode.value},
    }
    (demo.root / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def print_report(report: Json, console: Console) -> None:
    """Two tables and what they mean, in plain words."""
    console.print(_accuracies(report))
    console.print()
    console.print(
        f"Unseen: digits {' and '.join(map(str, UNSEEN))}, which no contributor had, told apart with "
        f"{2 * UNSEEN_LABELS_PER_DIGIT} labels. These organisations are made by label out of public digits; real "
        "ones differ in more than labels. ε: at δ = 1e-5, as long as a quorum less the colluders adds its noise; "
        "alone: if everybody else deviates. Differences below two points are inside the 95 % intervals of so few "
        "test pictures."
    )
    console.print("With the consortium, against the best that each could do without it on its own task:")
    _print_groups(report, "consortium", ("alone", "fixed_features", "raw_pixels"), console)
    console.print("On the digits that no contributor had, against the fixed features:")
    _print_groups(report, "unseen_consortium", ("unseen_fixed_features",), console)
    console.print()
    console.print(_rounds_table(report))
    console.print(_exchanges_line(report))
    console.print()


def _print_groups(report: Json, way: str, without: tuple[str, ...], console: Console) -> None:
    """Whom the consortium helps, whom it does not, and whom it hurts: nobody is left out."""
    groups: dict[str, list[str]] = {"Better": [], "About the same": [], "Worse": []}
    for member in report["members"]:
        gain = member[f"accuracy_{way}"] - max(member[f"accuracy_{other}"] or 0.0 for other in without)
        group = "Better" if gain >= NOTEWORTHY else "Worse" if gain <= -NOTEWORTHY else "About the same"
        groups[group].append(f"{member['name']} ({gain:+.3f})")
    for group, names in groups.items():
        console.print(f"  {group}: {', '.join(names) or 'nobody'}.")


def _member(demo: Consortium, organisation: Organisation, plan: Plan) -> Json:
    home = demo.home(organisation)
    found = json.loads((home / "comparison.json").read_text())
    dataset = json.loads((home / "data" / "own" / "dataset.json").read_text())
    ledger, delta = Ledger.read(home / "ledger.jsonl"), plan.privacy.delta
    spent, alone = (epsilon(events, delta) for events in ledger.spent_and_alone(dataset["id"]))
    trains = not organisation.joins_to_use
    return {
        "name": organisation.name,
        "role": organisation.role,
        "records": found["records"],
        **{f"accuracy_{way}": None if found[way] is None else round(found[way][0], 4) for way in WAYS},
        "epsilon": round(spent, 4) if trains else None,
        "epsilon_alone": round(alone, 4) if trains else None,
        "delta": delta if trains else None,
    }


def _rounds(demo: Consortium, plan: Plan, rows: list[Json]) -> list[Json]:
    """Seconds of the slowest member's training, of members waiting for it, and of everything else."""
    trained: dict[int, list[float]] = defaultdict(list)
    for organisation in ORGANISATIONS:
        path = demo.home(organisation) / "metrics.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            metric = json.loads(line)
            trained[metric["round"]].append(metric["seconds_train"])
    rounds = []
    for before, row in zip([None, *rows], rows, strict=False):
        seconds = trained[row["number"]] or [0.0]
        slowest, whole = max(seconds), sum(row["seconds"].values())
        rounds.append(
            {
                "round": row["number"],
                "contributors": len(row["contributors"]),
                "exchanges": 1 if plan.secure is None else _exchanges(row, before),
                "seconds_train": round(slowest, 4),
                "seconds_waiting": round(slowest - sum(seconds) / len(seconds), 4),
                "seconds_protocol": round(max(0.0, whole - slowest), 4),
                "bytes_up": row["bytes_up"],
                "bytes_down": row["bytes_down"],
            }
        )
    return rounds


def _exchanges(row: Json, before: Json | None) -> int:
    """Of a round of mode secure: contribute and unmask; a list to sign where somebody dropped out of it; keys and
    their shares where somebody takes part who was not in the round before."""
    new = before is None or not set(row["cohort"]) <= set(before["contributors"])
    return 2 + 2 * new + (set(row["contributors"]) != set(row["cohort"]))


def _exchanges_line(report: Json) -> str:
    (usual, of), *others = Counter(round_["exchanges"] for round_ in report["rounds"]).most_common()
    said = f"{of} rounds took {usual} exchange{'s' * (usual > 1)}"
    said += " (contribute, unmask)" * (usual == 2)
    more = (f"{n} took {took}" + " (keys before)" * (took >= 4) for took, n in others)
    return ", ".join([said, *more]) + "."


def _accuracies(report: Json) -> Table:
    """Fits a terminal of 80 columns."""
    table = Table(
        title="Held-out accuracy of each member's head", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    for heading in (
        "member\n", "pic-\ntures", "\nalone", "fixed\nfeat.", "raw\npixels", "consor-\ntium",
        "unseen:\nfixed", "unseen:\nconsort.", "ε\n", "ε if\nalone",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading.startswith("member") else "right", no_wrap=True)
    for member in report["members"]:
        numbers = [member[f"accuracy_{way}"] for way in WAYS]
        table.add_row(
            member["name"] + (" (joiner)" if member["role"] == "joiner" else ""),
            str(member["records"]),
            *("–" if number is None else f"{number:.3f}" for number in numbers),
            *("–" if member[e] is None else f"{member[e]:.1f}" for e in ("epsilon", "epsilon_alone")),
        )
    return table


def _rounds_table(report: Json) -> Table:
    rounds = report["rounds"]
    table = Table(title=f"{len(rounds)} rounds, per round", title_justify="left", box=None, pad_edge=False)
    for heading in ("", "median", "longest"):
        table.add_column(heading, justify="left" if not heading else "right")
    for key, label, scale, unit in (
        ("seconds_train", "training, slowest member", 1.0, "s"),
        ("seconds_waiting", "members waiting for it", 1.0, "s"),
        ("seconds_protocol", "protocol", 1.0, "s"),
        ("bytes_up", "up, all members", 1e-6, "MB"),
        ("bytes_down", "down, all members", 1e-6, "MB"),
    ):
        values = sorted(round_[key] * scale for round_ in rounds)
        table.add_row(label, f"{values[len(values) // 2]:.2f} {unit}", f"{values[-1]:.2f} {unit}")
    return table


def folder_note(root: Path) -> str:
    """Where everything lies."""
    return (
        f"Everything is in {root}: report.json, the five members' folders, the stranger's verified release."
    )
