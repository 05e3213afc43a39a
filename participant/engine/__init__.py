"""Flower at the participant's edge: one warm process that runs only what its operator installed."""
