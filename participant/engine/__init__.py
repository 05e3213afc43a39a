"""Flower at the participant's edge: one warm process that runs only what its operator installed."""

from __future__ import annotations

import os

# Read by flwr when it is imported, which only modules of this folder do: no telemetry and no update check leave any of
# our processes, whatever the environment says and whichever module comes first.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
