"""Flower at the coordinator's edge: the Fleet API, the link state, and bulk transfer beside it."""

from __future__ import annotations

import os

# Read by flwr when it is imported, which only modules of this folder do: no telemetry and no update check leave any of
# our processes, whatever the environment says and whichever module comes first.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
