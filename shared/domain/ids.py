"""Identifiers: short random texts with a visible kind, so that a log line says what it names."""

from __future__ import annotations

import re
import secrets
from typing import NewType

MemberId = NewType("MemberId", str)
"""`mem_…`: one organisation."""
InvitationId = NewType("InvitationId", str)
"""`inv_…`: one invitation; public, unlike its secret."""
PlanDigest = NewType("PlanDigest", str)
"""`sha256:…` of a plan's canonical bytes."""
RunId = NewType("RunId", str)
"""`run_…`: one execution of a plan."""
RUN_ID = re.compile(r"run_[0-9a-f]{12}\Z")
"""What one looks like; elsewhere's is held against it before it names a file."""
ReleaseId = NewType("ReleaseId", str)
"""`<extractor name>-<number>`, e.g. `digits-3`."""


def new_id(kind: str) -> str:
    """A fresh identifier `kind_` + 12 hex digits, drawn from the operating system's generator."""
    return f"{kind}_{secrets.token_hex(6)}"
